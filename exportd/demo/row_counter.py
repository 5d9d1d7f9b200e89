"""Counts the rows that a transaction has changed so far, whoever changed them: statements, cascades, triggers."""

from exportd.database.connector import Connection
from exportd.demo.proportions import SHARES
from exportd.demo.summary import RowCounts
from exportd.model.entity import EntityCode

_ENTITIES = {code.lower(): code for code in SHARES}

# Only a difference within one transaction means something: the counts of earlier ones may still be in it.
_COUNTS = """
SELECT relname, pg_stat_get_xact_tuples_inserted(oid) AS inserted, pg_stat_get_xact_tuples_updated(oid) AS updated,
       pg_stat_get_xact_tuples_deleted(oid) AS deleted
FROM pg_catalog.pg_class WHERE relnamespace = 'public'::regnamespace AND relname = ANY ($1)
"""


async def count_rows(connection: Connection) -> dict[EntityCode, RowCounts]:
    """The counts up to here. What is undone by a rollback to a savepoint stays in them."""
    return {
        _ENTITIES[row["relname"]]: RowCounts(row["inserted"], row["updated"], row["deleted"])
        for row in await connection.fetch(_COUNTS, list(_ENTITIES))
    }
