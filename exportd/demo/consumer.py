"""What a consumer does with deliveries: reads the files and keeps each record's last state, by key."""

import gzip
import hashlib
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from exportd.demo import csv_records, json_records
from exportd.demo.delivery_reader import Delivery
from exportd.demo.spelling import NULL, SEPARATOR
from exportd.model.entity import DELETED_FIELD
from exportd.model.errors import PermanentError
from exportd.model.reason import Reason
from exportd.model.schedule import ExportFormat

Cells = list[str | None]
"""A record's texts in the order of its fields, NULL as None."""

_State = TypeVar("_State")


@dataclass(slots=True)
class Holding:
    """What is held of an entity: the MD5 of each record by its key, and the keys that one run delivered twice."""

    digests: dict[str, bytes] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)


def replay(runs: Sequence[Delivery], key: Sequence[int]) -> Holding:
    """What is held after all runs. ``key`` are the positions of the key's fields.

    Raises PermanentError when a file cannot be read, or holds something else than its manifest says.
    """
    holding = Holding()
    for run in runs:
        if run.full:
            holding.digests = {}
        _apply(run, key, holding.digests, digest, holding.repeated)
    return holding


def last_states(runs: Sequence[Delivery], key: Sequence[int], wanted: Collection[str]) -> dict[str, Cells]:
    """The cells of the records with these keys after all runs; those that are gone are left out."""
    states: dict[str, Cells] = {}
    for run in runs:
        if run.full:
            states = {}
        _apply(run, key, states, list, [], only=frozenset(wanted))
    return states


def digest(cells: Sequence[str | None]) -> bytes:
    """The MD5 of a record; the database makes the same of its own (``spelling``)."""
    text = SEPARATOR.join([NULL if cell is None else cell for cell in cells])
    return hashlib.md5(text.encode(), usedforsecurity=False).digest()


def _apply(
    run: Delivery,
    key: Sequence[int],
    states: dict[str, _State],
    state_of: Callable[[Cells], _State],
    repeated: list[str],
    *,
    only: Collection[str] | None = None,
) -> None:
    seen: set[str] = set()
    rows = deleted_rows = 0
    for cells in _records(run):
        rows += 1
        deleted = cells.pop()
        name = SEPARATOR.join([cells[position] or "" for position in key])
        if name in seen:
            repeated.append(name)
        seen.add(name)
        if deleted == "true":
            deleted_rows += 1
            states.pop(name, None)
        elif only is None or name in only:
            states[name] = state_of(cells)
    if (rows, deleted_rows) != (run.rows, run.deleted_rows):
        raise _damaged(
            run.files[0],
            f"and its further parts hold {rows} records, {deleted_rows} of them deleted; "
            f"the manifest says {run.rows} and {run.deleted_rows}",
        )


def _records(run: Delivery) -> Iterator[Cells]:
    """The records of a run's files, each with ``deleted`` as the last cell."""
    header = [*run.names, DELETED_FIELD]
    for path in run.files:
        try:
            with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
                yield from _cells(lines, header, run.file_format)
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise _damaged(path, f"cannot be read: {error}") from error


def _cells(lines: Iterator[str], header: list[str], file_format: ExportFormat) -> Iterator[Cells]:
    if file_format is ExportFormat.JSONL:
        for line in lines:
            yield json_records.cells(line, header)
        return
    records = csv_records.records(lines)
    if next(records, None) != header:
        raise ValueError(f"its header is not {','.join(header)}")
    for cells in records:
        if len(cells) != len(header):
            raise ValueError(f"a record has {len(cells)} cells instead of {len(header)}")
        yield cells


def _damaged(path: Path, what: str) -> PermanentError:
    return PermanentError(f"{path} {what}", reason=Reason.MANIFEST_DAMAGED)
