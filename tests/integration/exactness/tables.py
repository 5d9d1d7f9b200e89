"""The applications of the exactness runs, and the reads of them: four tables that are written in every way there is.

``plain`` has a tenant that may be NULL; ``pair`` has none, a composite key whose uniqueness is checked at the end of a
statement, and a foreign key that is set to NULL; ``split`` is partitioned, two levels deep, with partitions whose
columns stand in another order, and ``plain`` cascades into it; ``child`` hangs on ``plain`` by its own key, with
ON DELETE and ON UPDATE CASCADE.

The other application has ``visit`` only, which is partitioned by a column that its key does not have. Another session
adds and removes partitions all the time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from exportd.database.connector import Connection
from exportd.model.entity import Entity, Field, OrganizationId
from tests.fixtures.file_parsers import Cell
from tests.fixtures.snapshot_exports import entity

SCHEMA = """
CREATE TABLE public.plain (
    gone text, id int PRIMARY KEY, org text, stamp text NOT NULL, amount numeric, note varchar(40)
);
ALTER TABLE public.plain DROP gone;

CREATE TABLE public.pair (
    a int, b text, stamp text NOT NULL, amount numeric,
    related int REFERENCES public.plain (id) ON DELETE SET NULL ON UPDATE SET NULL,
    PRIMARY KEY (a, b) DEFERRABLE INITIALLY IMMEDIATE
);

CREATE TABLE public.split (
    org text NOT NULL, id int, stamp text NOT NULL, amount numeric,
    related int REFERENCES public.plain (id) ON DELETE CASCADE ON UPDATE SET NULL,
    PRIMARY KEY (id, org)
) PARTITION BY RANGE (id);
CREATE TABLE public.split_0 PARTITION OF public.split FOR VALUES FROM (0) TO (60);
CREATE TABLE public.split_1 (
    amount numeric, junk int, id int NOT NULL, stamp text NOT NULL, related int, org text NOT NULL
);
ALTER TABLE public.split_1 DROP junk;
ALTER TABLE public.split ATTACH PARTITION public.split_1 FOR VALUES FROM (60) TO (120);
CREATE TABLE public.split_2 (stamp text NOT NULL, related int, id int NOT NULL, amount numeric, org text NOT NULL)
    PARTITION BY LIST (org);
CREATE TABLE public.split_2_rest PARTITION OF public.split_2 DEFAULT;
CREATE TABLE public.split_2_o1 PARTITION OF public.split_2 FOR VALUES IN ('o1');
ALTER TABLE public.split ATTACH PARTITION public.split_2 FOR VALUES FROM (120) TO (200);

CREATE TABLE public.child (
    parent_id int REFERENCES public.plain (id) ON DELETE CASCADE ON UPDATE CASCADE,
    line int, org text NOT NULL, stamp text NOT NULL, PRIMARY KEY (parent_id, line)
);
CREATE INDEX ON public.pair (related);
CREATE INDEX ON public.split (related);

CREATE TABLE public.visit (org text NOT NULL, id int NOT NULL, hour int NOT NULL, stamp text NOT NULL)
    PARTITION BY RANGE (hour);

CREATE TABLE public.touch (number bigint PRIMARY KEY, entity text, org text, key text[], stamp text);
"""

PLAIN = entity(
    "PLAIN",
    "plain",
    key=["id"],
    tenant="org",
    fields=["id", "stamp", "amount", "note", Field("loud", expression="upper(stamp)")],
)
PAIR = entity("PAIR", "pair", key=["a", "b"], tenant=None, fields=["b", "a", "stamp", "amount", "related"])
SPLIT = entity("SPLIT", "split", key=["org", "id"], tenant="org", fields=["id", "org", "stamp", "amount", "related"])
CHILD = entity("CHILD", "child", key=["parent_id", "line"], tenant="org", fields=["parent_id", "line", "stamp"])
VISIT = entity("VISIT", "visit", key=["id"], tenant="org", fields=["id", "org", "hour", "stamp"])
ENTITIES = (PLAIN, PAIR, SPLIT, CHILD)
GROWING_ENTITIES = (VISIT,)

ORGANIZATIONS = tuple(map(OrganizationId, ("o1", "o2", "o3")))

RELATIONS = {
    "PLAIN": ("plain",),
    "PAIR": ("pair",),
    "SPLIT": ("split", "split_0", "split_1", "split_2", "split_2_o1", "split_2_rest"),
    "CHILD": ("child",),
    "VISIT": ("visit",),
}
"""The tables through which an entity may be written."""

Key = tuple[Cell, ...]
Row = tuple[Cell, ...]
"""A record's fields as text, in the catalog's order."""


@dataclass(frozen=True, slots=True)
class Touch:
    """A record as a transaction of a writer left it, in the writers' own record."""

    number: int
    key: Key
    stamp: str


def key_of(entity: Entity, row: Row) -> Key:
    names = entity.field_names
    return tuple(row[names.index(column)] for column in entity.key)


async def read_whole(connection: Connection, entity: Entity, organization: OrganizationId | None) -> dict[Key, Row]:
    """Every record that the organization has now."""
    listed = ", ".join(f"({field.expression or field.column})::text" for field in entity.fields)
    query = f"SELECT {listed} FROM public.{entity.table.name}"
    rows = await (
        connection.fetch(f"{query} WHERE org = $1", organization) if entity.tenant else connection.fetch(query)
    )
    whole = {key_of(entity, tuple(row)): tuple(row) for row in rows}
    assert len(whole) == len(rows)
    return whole


async def read_touches(connection: Connection, organization: OrganizationId, floor: int) -> dict[str, list[Touch]]:
    """The organization's touches from number ``floor`` on, by entity, in order."""
    rows: Sequence[tuple[int, str, list[str], str]] = [
        (row["number"], row["entity"], row["key"], row["stamp"])
        for row in await connection.fetch(
            "SELECT * FROM public.touch WHERE number >= $1 AND (org = $2 OR entity = 'PAIR') ORDER BY number",
            floor,
            organization,
        )
    ]
    return {
        touched.code: [Touch(number, tuple(key), stamp) for number, code, key, stamp in rows if code == touched.code]
        for touched in (*ENTITIES, *GROWING_ENTITIES)
    }
