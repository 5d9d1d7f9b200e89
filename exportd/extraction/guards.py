"""What must not have changed since the previous run for an incremental one to be exact. Pure.

``guards_of`` makes the guards from what the database says of a table. They are stored with the position, and
``difference`` compares them at the next run. A difference makes that entity's run full, with a reason code: a run is
never silently incremental, and never silently full.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from exportd.catalog.shape import Shape
from exportd.model.entity import Entity
from exportd.model.reason import FullReason


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """Which line of transaction numbers this is. A restore, an upgrade or a failover starts another."""

    system_identifier: str
    timeline: str
    database_oid: int


@dataclass(frozen=True, slots=True)
class Guards:
    """The facts of one entity at one snapshot. Fingerprints are hex digests.

    ``triggers`` covers pg_trigger's oid, xmin and tgenabled of every capture trigger and the log table's oid;
    ``partitions`` the tree below the table; ``columns`` the columns that are exported, key or tenant; ``row_shape``
    every column, which is what makes an image readable; ``definition`` the catalog's entry. ``type_parts`` are labels
    and attributes of enums and composite types in the exported columns: renaming one changes what rows look like.
    """

    cluster: ClusterFacts
    triggers: str
    partitions: str
    columns: str
    row_shape: str
    definition: str
    type_parts: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """The document that ``from_json`` reads."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Guards | None":
        """The guards a position was stored with; None when an older version stored others (compares as changed)."""
        try:
            return cls(
                cluster=ClusterFacts(**document["cluster"]),
                **{field.name: document[field.name] for field in dataclasses.fields(cls) if field.name != "cluster"},
            )
        except (KeyError, TypeError):
            return None


def guards_of(entity: Entity, shape: Shape, cluster: ClusterFacts) -> Guards:
    """The entity's guards at the snapshot in which ``shape`` was read."""
    # Number and version: a column that was dropped and added again, or rewritten by ALTER … USING, holds other values.
    columns = [
        (column.name, column.number, column.type_oid, column.type_modifier, column.version)
        for column in shape.root.columns
    ]
    used = _used_columns(entity)
    return Guards(
        cluster=cluster,
        triggers=fingerprint(
            shape.log_oid,
            [(relation.oid, [(t.oid, t.xmin, t.enabled) for t in relation.triggers]) for relation in shape.relations],
        ),
        partitions=fingerprint([(member.oid, str(member.name)) for member in shape.members]),
        columns=fingerprint([column for column in columns if used is None or column[0] in used]),
        row_shape=fingerprint(
            [(column.number, column.name, column.type_oid, column.type_modifier) for column in shape.root.columns],
            [[(c.number, c.name, c.type_oid) for c in member.columns] for member in shape.members],
            [[part for part in column.type_parts if part[0].startswith("attribute ")] for column in shape.root.columns],
        ),
        definition=_definition_fingerprint(entity),
        type_parts={
            part: value
            for column in shape.root.columns
            if used is None or column.name in used
            for part, value in column.type_parts
        },
    )


def difference(before: Guards | None, now: Guards) -> FullReason | None:
    """Why a run since ``before`` cannot be incremental, the weightiest reason first; None when it can.

    ``row_shape`` is not compared here: it matters only while the window holds images.
    """
    if before is None:
        return FullReason.CATALOG_CHANGED
    old, new = before.cluster, now.cluster
    checks = (
        (
            (old.system_identifier, old.database_oid) == (new.system_identifier, new.database_oid),
            FullReason.CLUSTER_CHANGED,
        ),
        (old.timeline == new.timeline, FullReason.TIMELINE_CHANGED),
        (before.definition == now.definition, FullReason.CATALOG_CHANGED),
        (before.columns == now.columns, FullReason.COLUMNS_CHANGED),
        (before.type_parts == _known(now.type_parts, before.type_parts), FullReason.COLUMNS_CHANGED),
        (before.partitions == now.partitions, FullReason.PARTITIONS_CHANGED),
        (before.triggers == now.triggers, FullReason.CAPTURE_CHANGED),
    )
    return next((reason for same, reason in checks if not same), None)


def fingerprint(*facts: object) -> str:
    """A digest that is equal exactly when the facts are."""
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:32]


def _known(parts: Mapping[str, str], before: Mapping[str, str]) -> Mapping[str, str]:
    """The parts without the labels that have been added since: no row had them."""
    return {part: value for part, value in parts.items() if part in before or not part.startswith("label ")}


def _used_columns(entity: Entity) -> set[str] | None:
    """The exported, key and tenant columns; None for all of them, because an expression may use any."""
    if any(field.expression for field in entity.fields):
        return None
    return {
        *entity.key,
        *([entity.tenant] if entity.tenant else []),
        *(field.column for field in entity.fields if field.column),
    }


def _definition_fingerprint(entity: Entity) -> str:
    """Changes when the catalog exports something else: fields, their order or source, key, tenant, table."""
    return fingerprint(
        str(entity.table),
        entity.key,
        entity.tenant,
        [(field.name, field.column, field.expression) for field in entity.fields],
    )
