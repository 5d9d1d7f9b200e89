"""Shows the progress of work to people at a terminal and to programs: of a job by the daemon's server-sent events, and
of a command's own work by a bar.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from exportd.cli.output import Exit, on_terminal, print_json, print_line, size
from exportd.cli.socket_client import SocketClient
from exportd.model.errors import Reason, TransientError

if TYPE_CHECKING:
    from exportd.consumer.inventory_reader import ReadProgress


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """``name`` is ``phase``, ``progress`` or ``end``; ``data`` is as docs/api.md has it."""

    name: str
    data: dict[str, Any]

    @property
    def succeeded(self) -> bool:
        return self.name == "end" and self.data.get("state") == "SUCCEEDED"


def parse_events(lines: Iterable[bytes]) -> Iterator[ProgressEvent]:
    """The events in a stream's lines; comments, unknown fields and an event that is cut off are ignored."""
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
                yield ProgressEvent(name, json.loads("\n".join(data)))
            name, data = "", []


def event_line(event: ProgressEvent) -> str:
    """An event in one line."""
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
    words = f"{words}, {published} published" if published else words
    return ". ".join([words, *(f"{stall['message']} (since {stall['since']})" for stall in data.get("stalls", ()))])


def follow(client: SocketClient, job: UUID, *, as_json: bool = False) -> Exit:
    """Show a job's events until its end, and whether it succeeded.

    Raises TransientError when the daemon stops before that.
    """
    with client.stream(f"/v1/jobs/{job}/events") as lines, _display(as_json=as_json) as show:
        for event in parse_events(lines):
            show(event)
            if event.name == "end":
                return Exit.DONE if event.succeeded else Exit.FAILED
    raise TransientError(
        f"The daemon ended the stream; the job {job} goes on. Watch it again when a daemon runs.",
        reason=Reason.DAEMON_UNREACHABLE,
    )


@contextmanager
def _display(*, as_json: bool) -> Iterator[Callable[[ProgressEvent], None]]:
    """Print events as lines; on a terminal the progress changes in place."""
    if as_json:
        yield _print_document
    elif not sys.stdout.isatty():
        yield _print_event
    else:
        from rich.console import Console
        from rich.text import Text

        with Console(stderr=True).status("") as status:

            def show(event: ProgressEvent) -> None:
                if event.name == "progress":
                    status.update(Text(on_terminal(event_line(event))))
                else:
                    _print_event(event)

            yield show


def _print_event(event: ProgressEvent) -> None:
    print_line(event_line(event))
    sys.stdout.flush()


def _print_document(event: ProgressEvent) -> None:
    print_json({"event": event.name, **event.data}, lines=False)
    sys.stdout.flush()


@contextmanager
def progress_bar(doing: str) -> Iterator["ReadProgress"]:
    """A progress bar of bytes on standard error, if that is a terminal."""
    from exportd.consumer.inventory_reader import ReadProgress

    if not sys.stderr.isatty():
        yield ReadProgress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn(on_terminal(doing), markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None)

        class ShownProgress(ReadProgress):
            def begin(self, size_bytes: int) -> None:
                bars.update(task, total=size_bytes)

            def advance(self, size_bytes: int) -> None:
                bars.advance(task, size_bytes)

        yield ShownProgress()
