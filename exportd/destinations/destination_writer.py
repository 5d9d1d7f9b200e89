"""Writes destinations into Postgres, set by set: there may be thousands.

Part of a transaction of the caller's, which holds the lock ``LOCK``.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from exportd.database import queries
from exportd.destinations.record import DestinationDeclaration, DestinationRecord, destination_from_row
from exportd.model.declared import key_of
from exportd.model.schedule import CONFIGURATION, Origin

if TYPE_CHECKING:
    from exportd.database.connector import Connection

_SQL = queries.load("destinations")

LOCK = "exportd destinations"
"""Reconciling and editing hold it: two at once would both insert a new destination, or take a free code."""


async def insert(
    connection: "Connection",
    declarations: Sequence[DestinationDeclaration],
    *,
    now: datetime,
    origin: Origin = Origin.CONFIGURATION,
    actor: str = CONFIGURATION,
) -> list[DestinationRecord]:
    """New destinations, in no particular order."""
    documents = json.dumps([_columns(declaration) for declaration in declarations])
    rows = await connection.fetch(_SQL["insert"], documents, origin, now, actor)
    return [destination_from_row(row) for row in rows]


async def edit(
    connection: "Connection",
    edits: Sequence[tuple[DestinationRecord, DestinationDeclaration]],
    *,
    now: datetime,
    origin: Origin = Origin.CONFIGURATION,
    actor: str = CONFIGURATION,
) -> list[DestinationRecord]:
    """Give destinations other declarations; in no particular order. Where the place is another one, it is empty."""
    documents = json.dumps([{**_columns(declaration), "id": str(record.id)} for record, declaration in edits])
    rows = await connection.fetch(_SQL["edit"], documents, origin, now, actor)
    await forget_positions(
        connection, [declaration for record, declaration in edits if record.declaration.place != declaration.place]
    )
    return [destination_from_row(row) for row in rows]


async def forget_positions(connection: "Connection", declarations: Iterable[DestinationDeclaration]) -> None:
    """The places behind these codes hold nothing yet: the next run of the schedules that use them is full."""
    documents = json.dumps([key_of(declaration)._asdict() for declaration in declarations])
    await connection.execute(_SQL["forget_positions"], documents)


async def delete(connection: "Connection", destination_ids: Iterable[UUID], *, now: datetime) -> None:
    """Take destinations away. What was delivered there stays."""
    await connection.execute(_SQL["delete"], [*destination_ids], now)


def _columns(declaration: DestinationDeclaration) -> dict[str, object]:
    return {**key_of(declaration)._asdict(), **declaration.to_json()}
