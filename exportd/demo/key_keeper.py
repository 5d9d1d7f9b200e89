"""Puts keys and indexes aside while many rows are inserted, and makes them again."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from exportd.database.connector import Connection

# Foreign keys first: they depend on the keys that they refer to.
_CONSTRAINTS = """
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) AS drop,
       format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) AS make
FROM pg_constraint
WHERE contype IN ('f', 'p', 'u')
  AND ($1::text[]::regclass[] @> ARRAY[conrelid::regclass] OR $1::text[]::regclass[] @> ARRAY[confrelid::regclass])
ORDER BY contype, conrelid, conname
"""

_INDEXES = """
SELECT format('DROP INDEX %s', indexrelid::regclass) AS drop, pg_get_indexdef(indexrelid) AS make
FROM pg_index
WHERE indrelid = ANY ($1::text[]::regclass[])
  AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND conrelid = indrelid)
ORDER BY indexrelid
"""


@asynccontextmanager
async def unguarded(connection: Connection, tables: Sequence[str]) -> AsyncIterator[None]:
    """Drops the tables' keys, the foreign keys to and from them, and their indexes; makes them again at the end, which
    checks all rows.

    To be used inside a transaction: if something fails, its end is what brings them back.
    """
    await connection.execute("SELECT set_config('search_path', 'pg_catalog', true)")
    aside = [*await connection.fetch(_CONSTRAINTS, tables), *await connection.fetch(_INDEXES, tables)]
    for each in aside:
        await connection.execute(each["drop"])
    yield
    await connection.execute("SELECT set_config('maintenance_work_mem', '256MB', true)")
    for each in reversed(aside):
        await connection.execute(each["make"])
