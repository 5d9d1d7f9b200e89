"""``exportd job watch``, ``cancel`` and ``retry``: asked of the daemon."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from cyclopts import Parameter

from exportd.cli.daemon_address import DaemonAddress
from exportd.cli.failures import Exit
from exportd.cli.output import AsJson, print_json, print_line, size
from exportd.cli.socket_client import SocketClient
from exportd.model.errors import SettingsError, TransientError
from exportd.model.job import JobId
from exportd.model.reason import Reason

# MERGED: What the daemon tells of jobs as they run: server-sent events, read line by line, and how a person reads them.


@dataclass(frozen=True, slots=True)
class Event:
    """``name`` is ``phase``, ``progress`` or ``end``; ``data`` is as docs/api.md has it."""

    name: str
    data: dict[str, Any]

    @property
    def succeeded(self) -> bool:
        return self.name == "end" and self.data.get("state") == "SUCCEEDED"


def parse_events(lines: Iterable[bytes]) -> Iterator[Event]:
    """The events in a stream's lines; comments, unknown fields and an event that is cut off are passed over."""
    name, data = "", []
    for line in lines:
        field, _, value = line.decode("utf-8", "replace").rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif not field and not value:
            if data:
                yield Event(name, json.loads("\n".join(data)))
            name, data = "", []


def told(event: Event) -> str:
    """An event as one line."""
    data = event.data
    if event.name == "phase":
        phase = "waiting" if data["state"] == "PENDING" else str(data["phase"]).lower()
        return f"{phase}, attempt {data['attempt']}" if data["attempt"] else phase
    if event.name == "progress":
        return figures(data)
    if event.succeeded:
        return "succeeded"
    return f"failed: {data.get('message') or 'no reason was given'} [{data.get('reason')}]"


def figures(data: dict[str, Any]) -> str:
    """How far a job is: ``2 of 3 entities, 1,234 rows, 5.6 MB in 3 files``."""
    entities = list(data["entities"].values())
    done = sum(1 for entity in entities if entity["done"])
    rows = sum(entity["rows"] for entity in entities)
    files = sum(entity["files"] for entity in entities)
    total = size(sum(entity["sizeBytes"] for entity in entities))
    words = f"{done} of {len(entities)} entities, {rows:,} rows, {total} in {files} files"
    published = data.get("publishedFiles")
    return f"{words}, {published} published" if published else words


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


# MERGED: A job's id, as a person gives it to a command.


def parse_job_id(text: str) -> JobId:
    """Raises SettingsError for what is none."""
    try:
        return JobId(UUID(text))
    except ValueError:
        raise SettingsError.of(f"{text!r} is no job: it has to be the id of one, as manifests are named.") from None
