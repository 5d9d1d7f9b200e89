"""Reads what can be thousands of rows, without holding up what else runs on the event loop."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg

    from exportd.database.connector import PooledConnection

_SLICE_ROWS = 250
"""So many are decoded, and then looked at by the caller, in a few milliseconds."""


async def slices(
    connection: "PooledConnection", query: str, *arguments: object
) -> "AsyncIterator[list[asyncpg.Record]]":
    """What a query finds, also one that writes and returns; in a transaction of the caller's."""
    cursor = await connection.cursor(query, *arguments)
    while rows := await cursor.fetch(_SLICE_ROWS):
        yield rows
