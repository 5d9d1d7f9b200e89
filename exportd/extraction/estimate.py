"""Estimates what a run would hold from its windows, from counts and from the planner's estimates. Pure."""

import json
from dataclasses import dataclass
from enum import StrEnum

from exportd.extraction.window import EntityWindow
from exportd.model.entity import Entity, EntityCode
from exportd.model.errors import FullReason
from exportd.model.extraction import Mode
from exportd.model.schedule import ExportFormat


@dataclass(frozen=True, slots=True)
class TablePlan:
    """What the planner expects of a table: live rows of the organization, and the bytes that one has."""

    rows: int
    row_bytes: int


@dataclass(frozen=True, slots=True)
class WindowCounts:
    """Records of a window: live ones whose key is in it (``changed``; None in a full run), and deletions."""

    changed: int | None
    deleted: int


class Figure(StrEnum):
    """A figure of a preview, by its name in the API."""

    ROWS = "rows"
    DELETED_ROWS = "deletedRows"
    CONTENT_BYTES = "contentBytes"


@dataclass(frozen=True, slots=True)
class EntityPreview:
    """What a run that begins now would hold of one entity.

    ``rows`` counts all records, ``deleted_rows`` those that are deletions; ``content_bytes`` is before compression.
    ``estimated`` names the figures that are not exact.
    """

    entity: EntityCode
    mode: Mode
    full_reason: FullReason | None
    rows: int
    deleted_rows: int
    content_bytes: int
    estimated: tuple[Figure, ...]


def parse_plan(text: str) -> TablePlan:
    """What EXPLAIN (FORMAT JSON) says of a query as a whole."""
    plan = json.loads(text)[0]["Plan"]
    return TablePlan(int(plan["Plan Rows"]), int(plan["Plan Width"]))


def preview_of(
    entity: Entity,
    file_format: ExportFormat,
    window: EntityWindow,
    plan: TablePlan,
    counts: WindowCounts | None,
    *,
    keys: int,
) -> EntityPreview:
    """The preview of one entity.

    ``counts`` is None when counting took too long; ``keys`` is how many keys the log holds for the window, at most.
    """
    if counts is None:
        # Only the count says which of the keys were deleted.
        rows, deleted, estimated = plan.rows if window.scans_table else keys, 0, tuple(Figure)
    elif counts.changed is None:
        rows, deleted, estimated = plan.rows + counts.deleted, counts.deleted, (Figure.ROWS, Figure.CONTENT_BYTES)
    else:
        rows, deleted = counts.changed + counts.deleted, counts.deleted
        estimated = (Figure.CONTENT_BYTES,) if rows else ()
    return EntityPreview(
        entity.code,
        window.mode,
        window.full_reason,
        rows,
        deleted,
        rows * record_bytes(entity, file_format, plan.row_bytes),
        estimated,
    )


def record_bytes(entity: Entity, file_format: ExportFormat, row_bytes: int) -> int:
    """A record's size in a file: its values, and what separates them. The last comma is the line feed."""
    names = entity.field_names
    if file_format is ExportFormat.CSV:
        return row_bytes + len(names) + len("false")
    return row_bytes + sum(len(name.encode()) + len('"":,') for name in names) + len("{false}")
