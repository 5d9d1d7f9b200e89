"""Chooses what a run exports of each entity: everything, for a reason, or the changes between two snapshots. Pure.

A window is the pair (previous snapshot, this snapshot). A change belongs to it when its transaction is visible in this
snapshot (the reading transaction sees only such rows anyway) and was not visible in the previous one:

    xid >= pg_snapshot_xmin(previous) AND NOT pg_visible_in_snapshot(xid, previous)

Clocks play no part, so a transaction that was open during the previous run and committed since is in exactly this
window. The lower bound only makes the log's index usable: everything below xmin was visible before.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NewType

from exportd.extraction.guards import Guards, difference
from exportd.model.entity import EntityCode
from exportd.model.errors import FullReason
from exportd.model.extraction import Mode
from exportd.model.job import Job
from exportd.model.schedule import DestinationCode
from exportd.model.start import Position

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
    full runs only. ``changed`` is False when the log holds nothing for the window, ``deletions`` when it holds none of
    these. With a ``start_date`` (aware UTC) the log does not count: the run holds the live rows that were modified at
    or after it, and names no deletions.
    """

    entity: EntityCode
    mode: Mode
    full_reason: FullReason | None
    previous: SnapshotText | None
    changed: bool
    deletions: bool = True
    start_date: datetime | None = None

    @property
    def reads_table(self) -> bool:
        """Whether the table is read. An incremental run without changes does not read it."""
        return self.mode is Mode.FULL or self.changed

    @property
    def scans_table(self) -> bool:
        """Whether the whole table is searched, not only the keys in the log."""
        return self.mode is Mode.FULL or self.start_date is not None


@dataclass(frozen=True, slots=True)
class LogContents:
    """What an entity's log holds for a window: an upper bound of its keys, whether any change is unknown (T), and
    whether any record was deleted.
    """

    keys: int
    unknown: bool
    deletions: bool


def reason_before_reading(
    position: Position | None,
    guards: Guards,
    snapshot: SnapshotText,
    *,
    first_run: bool,
    destinations: Sequence[DestinationCode],
) -> FullReason | None:
    """The reason why the run must be full, as far as it is known without reading the log; None when it may be
    incremental.

    ``first_run``: the schedule has no position at all. A destination that was added since the last run has no base to
    apply changes to, so it gets a full run, and with it all others.
    """
    if position is None:
        return FullReason.FIRST_RUN if first_run else FullReason.ENTITY_ADDED
    if position.expired:
        return FullReason.HORIZON_PASSED
    if reason := difference(Guards.from_json(position.guards), guards):
        return reason
    if xmax(parse_snapshot(position.snapshot)) > xmax(snapshot):
        return FullReason.SNAPSHOT_WENT_BACK
    if set(destinations) - set(position.destinations):
        return FullReason.DESTINATION_ADDED
    return None


def full_reason(forced: FullReason | None, found: FullReason | None) -> FullReason | None:
    """The more telling of two reasons: the one that was asked for, unless the guards show how the database was put back
    to an earlier state.
    """
    if forced is FullReason.DATABASE_PUT_BACK and found in _OTHER_HISTORY:
        return found
    return forced or found


_OTHER_HISTORY = {FullReason.FIRST_RUN, FullReason.CLUSTER_CHANGED, FullReason.TIMELINE_CHANGED}


def window_of(
    entity: EntityCode,
    position: Position | None,
    guards: Guards,
    contents: LogContents | None,
    reason: FullReason | None,
) -> EntityWindow:
    """The entity's window. ``contents`` is None when the log cannot be read from the position on."""
    previous = parse_snapshot(position.snapshot) if position and contents else None
    before = Guards.from_json(position.guards) if position else None
    same_shape = before is not None and before.row_shape == guards.row_shape
    if reason is None and contents is not None:
        if contents.unknown:
            reason = FullReason.CHANGES_UNKNOWN
        elif contents.deletions and not same_shape:
            reason = FullReason.COLUMNS_CHANGED
        else:
            return EntityWindow(
                entity, Mode.INCREMENTAL, None, previous, changed=contents.keys > 0, deletions=contents.deletions
            )
    # After a marker, a record may have been inserted again, changed and deleted since its image was logged. So no
    # deletions are named.
    names_deletions = same_shape and contents is not None and contents.deletions and not contents.unknown
    return EntityWindow(entity, Mode.FULL, reason, previous if names_deletions else None, changed=True)


def windows_of(
    job: Job,
    positions: Mapping[EntityCode, Position],
    guards: Mapping[EntityCode, Guards],
    contents: Mapping[EntityCode, LogContents],
    reasons: Mapping[EntityCode, FullReason | None],
) -> dict[EntityCode, EntityWindow]:
    """The windows of a job's entities; ``reasons`` has each of them."""
    if job.start_date is not None:
        # A consumer adds what it gets of such an export to what it holds.
        return {
            code: EntityWindow(code, Mode.INCREMENTAL, None, None, changed=True, start_date=job.start_date)
            for code in reasons
        }
    return {
        code: window_of(code, positions.get(code), guards[code], contents.get(code), reason)
        for code, reason in reasons.items()
    }


def log_is_comparable(reason: FullReason | None) -> bool:
    """Whether the log and the position use the same sequence of transaction numbers, so that deletions since then can
    be named.
    """
    return reason in {
        None,
        FullReason.DESTINATION_ADDED,
        FullReason.CATALOG_CHANGED,
        FullReason.COLUMNS_CHANGED,
        FullReason.PARTITIONS_CHANGED,
        FullReason.CAPTURE_CHANGED,
    }
