"""How to find records that have the same key, where no index of the database rules them out. Pure.

An inheritance child has indexes of its own: its rows may have keys that its parent's rows have. To a consumer, which
holds one record for each key, one of the two is lost.
"""

from collections.abc import Sequence

from exportd.database.quoting import identifier, table
from exportd.model.entity import Entity


def duplicates_query(entity: Entity, conditions: Sequence[str] = ()) -> str:
    """One row when an organization has some key twice among the rows ``t`` that fulfil the conditions, else none."""
    tenant = (entity.tenant,) if entity.tenant else ()
    columns = ", ".join(f"t.{identifier(name)}" for name in dict.fromkeys((*entity.key, *tenant)))
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT FROM {table(entity.table)} AS t{where} GROUP BY {columns} HAVING pg_catalog.count(*) > 1 LIMIT 1"


def duplicates_sentence(entity: Entity) -> str:
    """What to say of them, and what to do."""
    columns = ", ".join(map(identifier, entity.key))
    return (
        f"{entity.table} holds several rows with the same key ({columns}), of which a consumer could keep one only. "
        f"Find them: SELECT {columns}, count(*) FROM {table(entity.table)} GROUP BY {columns} HAVING count(*) > 1. "
        "An inheritance child does not share its parent's indexes: give its rows keys of their own, or make it a "
        "partition."
    )
