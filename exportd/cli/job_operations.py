"""``exportd job watch``, ``cancel`` and ``retry``: asked of the daemon."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated
from uuid import UUID

from cyclopts import Parameter

from exportd.cli.daemon_address import DaemonAddress
from exportd.cli.event_lines import Event, parse_events, told
from exportd.cli.failures import Exit
from exportd.cli.output import AsJson, print_json, print_line
from exportd.cli.socket_client import SocketClient
from exportd.model.errors import TransientError
from exportd.model.reason import Reason

_HERE = DaemonAddress()

JobArgument = Annotated[UUID, Parameter(name="JOB", help="The job's id.")]


def watch(job: JobArgument, /, *, json: AsJson = False, at: DaemonAddress = _HERE) -> None:
    """Follow a job until its end; exit code 1 when it fails. ``--json`` prints an event a line."""
    sys.exit(follow(at.client(), job, as_json=json))


def cancel(job: JobArgument, /, *, json: AsJson = False, at: DaemonAddress = _HERE) -> None:
    """Stop a job: a waiting one at once, a running one within seconds."""
    answer = at.client().request("POST", f"/v1/jobs/{job}/cancel")
    if json:
        print_json(answer)
    else:
        print_line("cancelled" if answer["status"] == "FAILED" else "it is being stopped, within seconds")


def retry(job: JobArgument, /, *, json: AsJson = False, at: DaemonAddress = _HERE) -> None:
    """Run what failed once more. Prints the new job's id."""
    answer = at.client().request("POST", f"/v1/jobs/{job}/retry")
    if json:
        print_json(answer)
    else:
        print_line(answer["jobId"])


def follow(client: SocketClient, job: UUID, *, as_json: bool = False) -> Exit:
    """Show a job's events until its end. Raises TransientError when the daemon leaves before it."""
    with client.stream(f"/v1/jobs/{job}/events") as lines, _display(as_json=as_json) as show:
        for event in parse_events(lines):
            show(event)
            if event.name == "end":
                return Exit.DONE if event.succeeded else Exit.FAILED
    raise TransientError(
        f"The daemon ended the conversation; the job {job} goes on. Watch it again when a daemon runs.",
        reason=Reason.DAEMON_UNREACHABLE,
    )


@contextmanager
def _display(*, as_json: bool) -> Iterator[Callable[[Event], None]]:
    """Lines; a person at a terminal sees progress change in place."""
    if as_json:
        yield _print_document
    elif not sys.stdout.isatty():
        yield _print_told
    else:
        from rich.console import Console
        from rich.markup import escape

        with Console(stderr=True).status("") as status:

            def show(event: Event) -> None:
                if event.name == "progress":
                    status.update(escape(told(event)))
                else:
                    _print_told(event)

            yield show


def _print_told(event: Event) -> None:
    print_line(told(event))
    sys.stdout.flush()


def _print_document(event: Event) -> None:
    from json import dumps

    print_line(dumps({"event": event.name, **event.data}, ensure_ascii=False))
    sys.stdout.flush()
