"""Keeps what each daemon's configuration declares, in the transaction that makes it so."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING
from uuid import UUID

import anyio.to_thread

from exportd.database import queries
from exportd.database.connector import slices
from exportd.model.declared import Declared, Document, Key

if TYPE_CHECKING:
    from exportd.database.connector import Connection

_SQL = queries.load("declarations")
_ALL = _SQL["all"]
_WRITE = _SQL["write"]
_WITHDRAW = _SQL["withdraw"]

SCHEDULE = "schedule"
DESTINATION = "destination"


async def read_declared(connection: "Connection", kind: str, daemon: UUID | None) -> Declared:
    """What the daemons declare of a kind; ``daemon`` is the spool of the one that asks, if it is one."""
    before: dict[Key, Document] = {}
    elsewhere: dict[Key, list[Document]] = {}
    async for rows in slices(connection, _ALL, kind, daemon):
        for row in rows:
            key, document = (row["organization"], row["code"]), json.loads(row["content"])
            if row["own"]:
                before[key] = document
            else:
                elsewhere.setdefault(key, []).append(document)
    return Declared(before, elsewhere)


async def write_declared(
    connection: "Connection",
    kind: str,
    daemon: UUID,
    *,
    before: Mapping[Key, Document],
    now: Mapping[Key, Document],
) -> None:
    """Have a daemon declare these, where it declared others ``before``."""
    written, withdrawn = await anyio.to_thread.run_sync(_difference, before, now)
    if written is not None:
        await connection.execute(_WRITE, kind, daemon, written)
    if withdrawn is not None:
        await connection.execute(_WITHDRAW, kind, daemon, withdrawn)


def _difference(before: Mapping[Key, Document], now: Mapping[Key, Document]) -> tuple[str | None, str | None]:
    """What has to be written and what withdrawn, as JSON; None where there is nothing."""
    written = [
        {"organization": key[0], "code": key[1], "content": document}
        for key, document in now.items()
        if before.get(key) != document
    ]
    withdrawn = [{"organization": key[0], "code": key[1]} for key in before if key not in now]
    return json.dumps(written) if written else None, json.dumps(withdrawn) if withdrawn else None
