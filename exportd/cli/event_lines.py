"""What the daemon tells of jobs as they run: server-sent events, read line by line, and how a person reads them."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from exportd.cli.output import size


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
    done = sum(1 for each in entities if each["done"])
    rows = sum(each["rows"] for each in entities)
    files = sum(each["files"] for each in entities)
    total = size(sum(each["sizeBytes"] for each in entities))
    words = f"{done} of {len(entities)} entities, {rows:,} rows, {total} in {files} files"
    published = data.get("publishedFiles")
    return f"{words}, {published} published" if published else words
