"""What one run exports of each entity: everything, or what happened between two snapshots. Pure.

A window is the pair (previous snapshot, this snapshot). A change belongs to it when its transaction is visible in this
snapshot (the reading transaction sees only such rows anyway) and was not visible in the previous one:

    xid >= pg_snapshot_xmin(previous) AND NOT pg_visible_in_snapshot(xid, previous)

Clocks play no part, so a transaction that was open during the previous run and committed since is in exactly this
window. The lower bound only makes the log's index usable: everything below xmin was visible before.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import NewType

from exportd.model.entity import EntityCode
from exportd.model.extraction import Mode
from exportd.model.reason import FullReason

SnapshotText = NewType("SnapshotText", str)
"""The text of a ``pg_snapshot``: ``xmin:xmax:xip,xip…``."""

_SNAPSHOT = re.compile(r"([0-9]+):([0-9]+):([0-9]+(?:,[0-9]+)*)?")


def parse_snapshot(text: str) -> SnapshotText:
    """Check that ``text`` is a snapshot and nothing else (it is placed into SQL); ValueError if not."""
    match = _SNAPSHOT.fullmatch(text)
    if match is None or int(match[1]) > int(match[2]):
        raise ValueError(f"not a pg_snapshot: {text!r}")
    return SnapshotText(text)


def xmin(snapshot: SnapshotText) -> int:
    """The lowest transaction that was still open: everything below it is visible or rolled back."""
    return int(snapshot.split(":")[0])


def xmax(snapshot: SnapshotText) -> int:
    """The first transaction that had not been started."""
    return int(snapshot.split(":")[1])


@dataclass(frozen=True, slots=True)
class EntityWindow:
    """What a run exports of one entity.

    ``previous`` is the snapshot of the entity's last position: the lower end of an incremental window; in a full run,
    the snapshot since which the still readable deletions are named (None: they are not). ``full_reason`` is set for
    full runs only. ``changed`` is False when the log holds nothing for the window. With a ``start_date`` (aware UTC)
    the log does not count: the run holds the live rows that were modified at or after it, and names no deletions.
    """

    entity: EntityCode
    mode: Mode
    full_reason: FullReason | None
    previous: SnapshotText | None
    changed: bool
    start_date: datetime | None = None

    @property
    def reads_table(self) -> bool:
        """Whether the table is read at all: an incremental run without changes does not read it."""
        return self.mode is Mode.FULL or self.changed

    @property
    def scans_table(self) -> bool:
        """Whether rows are looked for in the whole table, not by the keys of the log."""
        return self.mode is Mode.FULL or self.start_date is not None
