"""Makes the destinations in Postgres those that are declared, set by set: there may be thousands."""

import json
from datetime import datetime
from typing import TYPE_CHECKING

from exportd.database import queries
from exportd.destinations.reconciliation import Reconciliation
from exportd.destinations.record import DestinationDeclaration, declaration_to_json, place
from exportd.model.schedule import CONFIGURATION, Origin

if TYPE_CHECKING:
    from exportd.database.connector import PooledConnection

_SQL = queries.load("destinations")
_INSERT_ALL = _SQL["insert_all"]
_EDIT_ALL = _SQL["edit_all"]
_DELETE_ALL = _SQL["delete_all"]
_FORGET_POSITIONS_ALL = _SQL["forget_positions_all"]


async def put_into_effect(connection: "PooledConnection", plan: Reconciliation, *, now: datetime) -> None:
    """In a transaction of the caller's, which holds the lock of edits."""
    new = [_document(each) for each in plan.new]
    await connection.execute(_INSERT_ALL, json.dumps(new), Origin.CONFIGURATION, now, CONFIGURATION)
    edits = [{**_document(each.declaration), "id": str(each.destination.id)} for each in plan.edits]
    await connection.execute(_EDIT_ALL, json.dumps(edits), Origin.CONFIGURATION, now, CONFIGURATION)
    moved = [
        _document(each.declaration)
        for each in plan.edits
        if place(each.destination.declaration) != place(each.declaration)
    ]
    await connection.execute(_FORGET_POSITIONS_ALL, json.dumps(moved))
    await connection.execute(_DELETE_ALL, [each.id for each in plan.gone], now)


def _document(declaration: DestinationDeclaration) -> dict[str, object]:
    """All of it, by column."""
    return {
        "organization": declaration.organization,
        "code": declaration.code,
        **declaration_to_json(declaration),
    }
