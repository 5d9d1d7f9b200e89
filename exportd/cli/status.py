"""``exportd status``: how the daemon is, on one screen."""

import sys
import time
from contextlib import suppress
from typing import Annotated, Any

from cyclopts import Parameter

from exportd.cli.daemon_client import DaemonAddress
from exportd.cli.job_events import figures, parse_events
from exportd.cli.output import AsJson, print_fields, print_json, print_line, print_table
from exportd.cli.socket_client import SocketClient
from exportd.cli.status_screen import head, tables, warnings
from exportd.model.errors import TransientError

_HERE = DaemonAddress()

_PERIOD_S = 2.0

_PROGRESS_TIMEOUT_S = 1.5
"""A daemon reads the progress of its jobs once a second."""

_CLEAR = "\x1b[2J\x1b[H"
"""Clears a terminal and moves to its first line."""


def status(
    *,
    watch: Annotated[bool, Parameter(negative="", help="Look again every two seconds, until Ctrl-C.")] = False,
    json: AsJson = False,
    at: DaemonAddress = _HERE,
) -> None:
    """Show the daemon: pauses, services, queue, running jobs, spool, destinations, how far entities are behind."""
    client = at.client()
    while True:
        document = client.request("GET", "/v1/status")
        _add_progress(document, client)
        if watch and not json and sys.stdout.isatty():
            sys.stdout.write(_CLEAR)
        if json:
            print_json(document)
        else:
            _show(document)
        if not watch:
            return
        sys.stdout.flush()
        time.sleep(_PERIOD_S)


def _add_progress(document: dict[str, Any], client: SocketClient) -> None:
    """Give each running job its ``progress``, as far as the daemon sends it in the first moments."""
    without = {lease["jobId"]: lease for lease in document["leases"]}
    if not without:
        return
    # A stream that is quiet, or has no place left, costs the figures and nothing else.
    with suppress(TransientError), client.stream("/v1/events", quiet_s=_PROGRESS_TIMEOUT_S) as lines:
        for event in parse_events(lines):
            if event.name == "progress" and event.data["jobId"] in without:
                without.pop(event.data["jobId"])["progress"] = figures(event.data)
            elif event.name == "end":
                without.pop(event.data["jobId"], None)
            if not without:
                return


def _show(document: dict[str, Any]) -> None:
    print_fields(head(document))
    for sentence in warnings(document):
        print_line()
        print_line(sentence)
    for table in tables(document):
        print_line()
        print_table(table.columns, table.rows)
