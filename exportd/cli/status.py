"""``exportd status``: the status of the daemon on one screen, from the document of ``GET /v1/status``."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter

from exportd.cli.daemon_client import DaemonAddress
from exportd.cli.output import (
    AsJson,
    duration,
    instant,
    pause_words,
    print_fields,
    print_json,
    print_line,
    print_table,
    size,
)
from exportd.cli.progress import figures, parse_events
from exportd.cli.socket_client import SocketClient
from exportd.model.errors import TransientError

_HERE = DaemonAddress()

_PERIOD_S = 2.0

_PROGRESS_TIMEOUT_S = 1.5
"""How long to wait for progress. A daemon reads that of its jobs once a second."""

_CLEAR = "\x1b[2J\x1b[H"
"""Clears a terminal and moves to its first line."""

Status = Mapping[str, Any]

_MAX_ENTITIES = 30
"""How many entities fit on a screen. Those that are furthest behind are shown."""


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
    """Add its ``progress`` to each running job, as far as the daemon sends it in time."""
    without = {lease["jobId"]: lease for lease in document["leases"]}
    if not without:
        return
    # Without a stream, or with one that sends nothing, only these figures are missing.
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


@dataclass(frozen=True, slots=True)
class StatusTable:
    """A table below the head; ``rows`` may be empty."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


def head(status: Status) -> dict[str, object]:
    """The lines above the tables, by name."""
    stopped = [name for name, service in status["services"].items() if not service["running"]]
    wheel, queue, spool, pause = status["wheel"], status["queue"], status["spool"], status.get("paused")
    waiting = f", waiting since {instant(queue['oldestWaiting'])}" if queue.get("oldestWaiting") else ""
    next_due = f", next due {instant(wheel['nextDue'])}" if wheel.get("nextDue") else ""
    return {
        "daemon": f"exportd {status['version']}, up {duration(status['uptimeSeconds'])}, {status['database']}",
        "paused": pause_words(pause).removeprefix("paused ") or "no",
        "services": f"stopped: {', '.join(stopped)}" if stopped else f"all {len(status['services'])} run",
        "changes": "LISTEN" if status["listener"]["listening"] else "polling",
        "schedules": f"{wheel['schedules']}, {wheel['paused']} paused{next_due}",
        "jobs": f"{queue['running']} running, {queue['pending']} waiting{waiting}",
        "spool": f"{size(spool['usedBytes'])} of {size(spool['budgetBytes'])} in {spool['directory']}",
    }


def tables(status: Status) -> Iterator[StatusTable]:
    """The tables that have rows: daemons, if there are several, what runs, destinations, entities."""
    for table in (_daemons(status), _leases(status), _destinations(status), _entities(status)):
        if table.rows:
            yield table


def warnings(status: Status) -> list[str]:
    """Warnings, one sentence each: no database, entities out of order, stalled jobs and entities, daemons that
    disagree.
    """
    trouble = status["listener"].get("trouble")
    stalls = [
        f"Job {lease['jobId']} waits since {instant(stall['since'])}: {stall['message']}"
        for lease in status["leases"]
        for stall in lease.get("stalls") or ()
    ]
    stalled = {name: entity["stalled"] for name, entity in status["entities"].items() if entity.get("stalled")}
    broken = {name: entity["outOfOrder"] for name, entity in status["entities"].items() if entity.get("outOfOrder")}
    return [
        *([f"The database: {trouble}"] if trouble else []),
        *(f"{name} is out of order, its jobs fail: {sentence}" for name, sentence in broken.items()),
        *stalls,
        *(f"{name} stalls: {sentence}." for name, sentence in stalled.items()),
        *(disagreement["message"] for disagreement in status.get("disagreements", ())),
    ]


def _daemons(status: Status) -> StatusTable:
    found = status.get("daemons", ())
    rows = tuple(
        (
            daemon["id"],
            f"{daemon['host']}, process {daemon['pid']}",
            daemon["version"],
            f"since {instant(daemon['startedAt'])}"
            if daemon["running"]
            else f"not seen since {instant(daemon['seenAt'])}",
            "this one" if daemon["id"] == status["spool"]["id"] else "",
        )
        for daemon in found
    )
    return StatusTable(("DAEMON", "HOST", "VERSION", "RUNS", ""), rows if len(rows) > 1 else ())


def _leases(status: Status) -> StatusTable:
    rows = tuple(
        (lease["jobId"], f"{lease.get('schedule') or '(ad hoc)'} of {lease['organization']}", _doing(lease))
        for lease in status["leases"]
    )
    return StatusTable(("RUNNING JOB", "SCHEDULE", "DOING"), rows)


def _doing(lease: Mapping[str, Any]) -> str:
    attempt = f", attempt {lease['attempt']}" if lease["attempt"] > 1 else ""
    progress = f": {lease['progress']}" if "progress" in lease else ""
    return f"{lease['phase'].lower()} since {instant(lease['startedAt'])}{attempt}{progress}"


def _destinations(status: Status) -> StatusTable:
    rows = tuple(
        (
            destination["code"],
            destination["organization"],
            _health(destination),
            instant(destination.get("lastSuccess")),
            _failure(destination),
        )
        for destination in status["destinations"]
    )
    return StatusTable(("DESTINATION", "ORGANIZATION", "HEALTH", "LAST SUCCESS", "LAST FAILURE"), rows)


def _entities(status: Status) -> StatusTable:
    found = sorted(status["entities"].items(), key=lambda named: -(named[1].get("lagSeconds") or 0.0))
    rows = tuple(
        (
            name,
            duration(entity["lagSeconds"]) if entity.get("lagSeconds") is not None else "",
            instant(entity.get("readUntil")),
            instant(entity.get("changesSince")) or "none",
        )
        for name, entity in found[:_MAX_ENTITIES]
    )
    if len(found) > _MAX_ENTITIES:
        rows = (*rows, (f"… and {len(found) - _MAX_ENTITIES} more", "", "", ""))
    return StatusTable(("ENTITY", "BEHIND", "READ UNTIL", "CHANGES WAITING SINCE"), rows)


def _health(destination: Mapping[str, Any]) -> str:
    return pause_words(destination.get("paused")) or destination.get("condition") or "healthy"


def _failure(destination: Mapping[str, Any]) -> str:
    failure = destination.get("lastFailure")
    return f"{instant(failure['at'])} {failure['reason']}" if failure else ""
