"""Writes schedules into Postgres, set by set: there may be thousands.

Part of a transaction of the caller's, which holds the lock ``LOCK`` and the rows that it edits or deletes.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import anyio.to_thread

from exportd.database import queries
from exportd.database.unit_of_work import slices
from exportd.model.declared import columns_of
from exportd.model.schedule import CONFIGURATION, Origin, Schedule, ScheduleDeclaration, ScheduleId
from exportd.schedules import calendar
from exportd.schedules.schedule_record import ScheduleEdit, schedule_from_row

if TYPE_CHECKING:
    from exportd.database.connector import Connection

_SQL = queries.load("schedules")

LOCK = "exportd schedules"
"""Reconciling and editing hold it: two at once would both insert a new schedule, or take a free code."""


async def read(connection: "Connection", query: str, *arguments: object) -> list[Schedule]:
    """The schedules that a query of schedules.sql finds."""
    return [schedule_from_row(row) async for rows in slices(connection, query, *arguments) for row in rows]


async def insert(
    connection: "Connection",
    declarations: Sequence[ScheduleDeclaration],
    *,
    now: datetime,
    origin: Origin = Origin.CONFIGURATION,
    actor: str = CONFIGURATION,
) -> list[Schedule]:
    """New schedules, due at once; in no particular order."""
    documents = await anyio.to_thread.run_sync(_declared, declarations)
    return await read(connection, _SQL["insert"], documents, calendar.first_due(now), now, origin, actor)


async def edit(
    connection: "Connection",
    edits: Sequence[ScheduleEdit],
    *,
    now: datetime,
    origin: Origin = Origin.CONFIGURATION,
    actor: str = CONFIGURATION,
) -> list[Schedule]:
    """Give schedules other declarations; in no particular order. Entities that are new in one start in full."""
    documents, keeping = await anyio.to_thread.run_sync(_edited, edits)
    edited = await read(connection, _SQL["edit"], documents, now, origin, actor)
    await connection.execute(_SQL["drop_positions"], keeping)
    return edited


async def delete(connection: "Connection", schedule_ids: Iterable[ScheduleId], *, now: datetime) -> None:
    """Take schedules away, with their positions. Their jobs stay, and one that runs goes on."""
    await connection.execute(_SQL["delete"], [*schedule_ids], now)


def _declared(declarations: Sequence[ScheduleDeclaration]) -> str:
    return json.dumps([columns_of(declaration) for declaration in declarations])


def _edited(edits: Sequence[ScheduleEdit]) -> tuple[str, str]:
    """What the schedules are now, and which positions they keep."""
    edited, keeping = [], []
    for edit in edits:
        schedule_id = str(edit.schedule.id)
        edited.append({**columns_of(edit.declaration), "id": schedule_id, "next_due_at": edit.next_due_at.isoformat()})
        keeping.append({"id": schedule_id, "keeping": edit.keeping})
    return json.dumps(edited), json.dumps(keeping)
