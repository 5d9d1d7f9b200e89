"""Shapes of tables that no database has."""

import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from exportd.catalog.shape import CaptureTrigger, Column, Relation, RelationKind, Shape
from exportd.extraction.guards import ClusterFacts
from exportd.model.entity import Entity, EntityCode, Field, TableName

CLUSTER = ClusterFacts("7000000000000000001", "00000001", 16384)

THINGS = Entity(
    EntityCode("THINGS"),
    "things",
    "things",
    TableName("public", "things"),
    ("id",),
    "organization_id",
    (Field("id", column="id"), Field("note", column="note")),
)


def column(name: str, type_name: str = "text", **options: Any) -> Column:
    given: dict[str, Any] = {
        "number": 1,
        "type_oid": zlib.crc32(type_name.encode()),
        "type_modifier": -1,
        "base_type": type_name,
        "base_kind": "b",
        "element_type": "",
        "element_kind": "",
        "collation": None,
        "equality": "pg_catalog",
        **options,
    }
    return Column(name=name, type_name=type_name, **given)


def relation(
    name: str,
    columns: Sequence[Column],
    *,
    oid: int,
    kind: RelationKind = RelationKind.TABLE,
    triggers: Sequence[CaptureTrigger] = (),
) -> Relation:
    numbered = tuple(replace(given, number=number) for number, given in enumerate(columns, start=1))
    return Relation(oid, TableName("public", name), kind, 10, numbered, tuple(triggers))


COLUMNS = (column("id", "uuid"), column("organization_id"), column("note"), column("spare", "integer"))
ROOT = relation("things", COLUMNS, oid=100)
SHAPE = Shape(ROOT, (), log_oid=200, log_columns=())


def tree(*members: Relation) -> Shape:
    return replace(SHAPE, root=replace(ROOT, kind=RelationKind.PARTITIONED), members=members)
