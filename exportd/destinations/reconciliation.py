"""What must change in the database so that the destinations are those that are declared. Pure."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from exportd.database import queries
from exportd.destinations.record import DestinationDeclaration, DestinationRecord, declaration_to_json, place
from exportd.model.declared import ALONE, Declared, Fate
from exportd.model.schedule import CONFIGURATION, Origin

if TYPE_CHECKING:
    from exportd.database.connector import Connection


@dataclass(frozen=True, slots=True)
class Edit:
    """A destination gets a new declaration."""

    destination: DestinationRecord
    declaration: DestinationDeclaration


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What is not in here stays as it is."""

    new: tuple[DestinationDeclaration, ...]
    edits: tuple[Edit, ...]
    gone: tuple[DestinationRecord, ...]

    def __bool__(self) -> bool:
        return bool(self.new or self.edits or self.gone)


def compare(
    declarations: Iterable[DestinationDeclaration], records: Iterable[DestinationRecord], others: Declared = ALONE
) -> Reconciliation:
    """One that the API made and that is declared now belongs to the configuration from here on. ``others`` is what was
    declared before, by this daemon and elsewhere.
    """
    declared = {(each.organization, each.code): each for each in declarations}
    edits: list[Edit] = []
    gone: list[DestinationRecord] = []
    for record in records:
        key = (record.declaration.organization, record.declaration.code)
        declaration = declared.pop(key, None)
        fate = others.fate(
            key,
            present=declaration_to_json(record.declaration),
            own=record.origin is Origin.CONFIGURATION,
            now=None if declaration is None else declaration_to_json(declaration),
        )
        if fate is Fate.EDITED and declaration is not None:
            edits.append(Edit(record, declaration))
        elif fate is Fate.GONE:
            gone.append(record)
    return Reconciliation(tuple(declared.values()), tuple(edits), tuple(gone))


# MERGED: Makes the destinations in Postgres those that are declared, set by set: there may be thousands.


_SQL = queries.load("destinations")
_INSERT_ALL = _SQL["insert_all"]
_EDIT_ALL = _SQL["edit_all"]
_DELETE_ALL = _SQL["delete_all"]
_FORGET_POSITIONS_ALL = _SQL["forget_positions_all"]


async def put_into_effect(connection: "Connection", plan: Reconciliation, *, now: datetime) -> None:
    """In a transaction of the caller's, which holds the lock of edits."""
    new = [_document(each) for each in plan.new]
    await connection.execute(_INSERT_ALL, json.dumps(new), Origin.CONFIGURATION, now, CONFIGURATION)
    edits = [{**_document(edit.declaration), "id": str(edit.destination.id)} for edit in plan.edits]
    await connection.execute(_EDIT_ALL, json.dumps(edits), Origin.CONFIGURATION, now, CONFIGURATION)
    moved = [
        _document(edit.declaration)
        for edit in plan.edits
        if place(edit.destination.declaration) != place(edit.declaration)
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
