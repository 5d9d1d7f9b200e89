"""Keeps in Postgres what each daemon's configuration declares, and finds what must change.

Everything here is part of the caller's transaction, which makes these changes under the lock of that kind.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import anyio.to_thread

from exportd.database import queries
from exportd.database.unit_of_work import slices
from exportd.model.declared import (
    Declarable,
    Declaration,
    Declared,
    Document,
    Key,
    Reconciliation,
    documents,
    reconcile,
)

if TYPE_CHECKING:
    from exportd.database.connector import Connection

_SQL = queries.load("declarations")

SCHEDULE = "schedule"
DESTINATION = "destination"

_DeclarationT = TypeVar("_DeclarationT", bound=Declaration)
_RowT = TypeVar("_RowT", bound=Declarable[Any])


async def declare(
    connection: "Connection",
    kind: str,
    declarations: Sequence[_DeclarationT],
    rows: Sequence[_RowT],
    *,
    daemon: UUID | None,
) -> Reconciliation[_DeclarationT, _RowT]:
    """What must change so that the ``rows`` equal the declarations; see ``model.declared``.

    ``daemon`` is the spool id of the daemon that declares them, which must have a row. Its declarations replace its
    earlier ones. With None nothing is stored.
    """
    others = await _read(connection, kind, daemon)
    # In threads, because with thousands of declarations this takes long.
    plan = await anyio.to_thread.run_sync(reconcile, declarations, rows, others)
    if daemon is not None:
        written, withdrawn = await anyio.to_thread.run_sync(_difference, others.before, declarations)
        if written is not None:
            await connection.execute(_SQL["write"], kind, daemon, written)
        if withdrawn is not None:
            await connection.execute(_SQL["withdraw"], kind, daemon, withdrawn)
    return plan


async def _read(connection: "Connection", kind: str, daemon: UUID | None) -> Declared:
    """The declarations of one kind that all daemons have stored so far."""
    before: dict[Key, Document] = {}
    elsewhere: dict[Key, list[Document]] = {}
    async for rows in slices(connection, _SQL["all"], kind, daemon):
        for row in rows:
            key, document = Key(row["organization"], row["code"]), json.loads(row["content"])
            if row["own"]:
                before[key] = document
            else:
                elsewhere.setdefault(key, []).append(document)
    return Declared(before, elsewhere)


def _difference(before: Mapping[Key, Document], declarations: Sequence[Declaration]) -> tuple[str | None, str | None]:
    """What has to be written and what removed, as JSON; None where there is nothing."""
    now = documents(declarations)
    written = [
        {"organization": key.organization, "code": key.code, "content": document}
        for key, document in now.items()
        if before.get(key) != document
    ]
    withdrawn = [{"organization": key.organization, "code": key.code} for key in before if key not in now]
    return json.dumps(written) if written else None, json.dumps(withdrawn) if withdrawn else None
