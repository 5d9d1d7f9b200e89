"""The facts that must be the same as in the previous run for an incremental run to be exact. Pure.

``guards_of`` makes the guards of an entity from the shape of its table. They are stored with the position, and
``difference`` compares them in the next run. A difference makes the entity's run full, and the run says for which
reason. So a run is never incremental where it should be full, and never full without saying why.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exportd.catalog.shape import Relation, Shape
from exportd.model.entity import Entity, EntityCode
from exportd.model.errors import FullReason
from exportd.model.identity_cache import IdentityCache

_ATTRIBUTE = "attribute "

_REPLICA = "R"
"""pg_trigger.tgenabled of a trigger that fires for replicated changes alone."""

_MAX_KNOWN = 64

_MAX_AGE = 1 << 31
"""After this many transactions everything is compared again. It is half of the range of transaction numbers that row
versions can tell apart.
"""


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """Identifies the sequence of transaction numbers. A restore, an upgrade or a failover starts another sequence."""

    system_identifier: str
    timeline: str
    database_oid: int


@dataclass(frozen=True, slots=True)
class Guards:
    """The facts of one entity at one snapshot. Fingerprints are hex digests.

    ``triggers`` covers pg_trigger's oid, xmin and tgenabled of every capture trigger and the log table's oid, without
    the triggers that fire for replicated changes alone: ``replica_triggers`` covers those. ``partitions`` covers the
    tree below the table with its names, ``members`` without them; ``columns`` the columns that are exported, key or
    tenant, each with the version of its description; ``row_shape`` every column, which is what makes an image readable;
    ``definition`` the catalog's entry. ``type_parts`` are labels and attributes of enums and composite types in the
    exported columns: renaming one changes what rows look like. ``logged``: every table survives a crash.

    A column's description has a new version also after a GRANT or SET STATISTICS, which change no value. ``layout`` are
    the same columns without versions, and ``files`` the tables' files: an ALTER that leaves both has left the values.
    ``last_member`` is the highest oid of a member, 0 without any: by it a later run knows which members were there.
    Positions of earlier versions have no ``layout``, ``files``, ``members``, ``replica_triggers`` and ``last_member``.
    """

    cluster: ClusterFacts
    triggers: str
    partitions: str
    columns: str
    row_shape: str
    definition: str
    type_parts: Mapping[str, str]
    layout: str | None = None
    files: str | None = None
    members: str | None = None
    replica_triggers: str | None = None
    logged: bool = True
    last_member: int | None = None

    def to_json(self) -> Mapping[str, Any]:
        """The JSON that ``from_json`` reads. Equal guards give equal text."""
        return _document_of(self)

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "Guards | None":
        """The guards that were stored with a position; None when a version of exportd with other guards stored them.
        None counts as changed.
        """
        return _guards_in(document)


@IdentityCache
def _document_of(guards: Guards) -> Mapping[str, Any]:
    facts = {field.name: getattr(guards, field.name) for field in dataclasses.fields(guards)}
    return {**facts, "cluster": dataclasses.asdict(guards.cluster), "type_parts": dict(guards.type_parts)}


@IdentityCache
def _guards_in(document: Mapping[str, Any]) -> Guards | None:
    try:
        return Guards(
            cluster=ClusterFacts(**document["cluster"]),
            **{
                field.name: document[field.name]
                for field in dataclasses.fields(Guards)
                if field.name != "cluster" and (field.name in document or field.default is dataclasses.MISSING)
            },
        )
    except (KeyError, TypeError):
        return None


def guards_of(entity: Entity, shape: Shape, cluster: ClusterFacts) -> Guards:
    """The entity's guards at the snapshot in which ``shape`` was read."""
    used = _used_columns(entity)
    exported = [column for column in shape.root.columns if used is None or column.name in used]
    return Guards(
        cluster=cluster,
        triggers=_trigger_fingerprint(shape, replica=False),
        partitions=fingerprint([(member.oid, str(member.name)) for member in shape.members]),
        columns=fingerprint(
            [
                # A column that was dropped and added again, or rewritten by ALTER … USING, holds other values.
                (column.name, column.number, column.type_oid, column.type_modifier, column.version)
                for column in exported
            ]
        ),
        row_shape=fingerprint(
            [(column.number, column.name, column.type_oid, column.type_modifier) for column in shape.root.columns],
            [[(c.number, c.name, c.type_oid) for c in member.columns] for member in shape.members],
            [
                [(part, _without_version(value)) for part, value in column.type_parts if part.startswith(_ATTRIBUTE)]
                for column in shape.root.columns
            ],
        ),
        definition=_definition_fingerprint(entity),
        type_parts={part: value for column in exported for part, value in column.type_parts},
        layout=fingerprint(
            [
                # Nothing is rewritten when a column that is generated on reading gets another expression.
                (
                    column.name,
                    column.number,
                    column.type_oid,
                    column.type_modifier,
                    column.is_virtual and column.version,
                )
                for column in exported
            ]
        ),
        files=fingerprint([(relation.oid, relation.file) for relation in shape.relations]),
        members=fingerprint([member.oid for member in shape.members]),
        replica_triggers=_trigger_fingerprint(shape, replica=True),
        logged=shape.is_logged,
        last_member=max((member.oid for member in shape.members), default=0),
    )


@dataclass(frozen=True, slots=True)
class KnownCatalog:
    """The catalog as it was at a snapshot whose newest transaction was ``xmax``, after everything had been compared.

    ``fingerprint`` is that of the catalog then. Capture was complete.
    """

    entities: tuple[Entity, ...]
    fingerprint: str
    xmax: int
    shapes: Mapping[EntityCode, Shape]
    guards: Mapping[EntityCode, Guards]

    def holds(self, fingerprint: str, cluster: ClusterFacts, xmax: int) -> bool:
        """Whether nothing has changed up to a later snapshot in which the catalog has ``fingerprint``.

        Row versions show only the lower half of a transaction's number, which repeats. So the answer is no after too
        many transactions.
        """
        same_cluster = all(guards.cluster == cluster for guards in self.guards.values())
        return same_cluster and fingerprint == self.fingerprint and 0 <= xmax - self.xmax < _MAX_AGE


class CatalogMemory:
    """Remembers the catalog as it was found last, for each set of entities that jobs export. It lives in
    memory only.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[EntityCode, ...], KnownCatalog] = {}

    def of(self, entities: Sequence[Entity]) -> KnownCatalog | None:
        known = self._known.get(_codes(entities))
        return known if known is not None and known.entities == tuple(entities) else None

    def remember(self, known: KnownCatalog) -> None:
        """Keep what was found. Schedules have few different sets of entities; when there are too many, the oldest is
        dropped.
        """
        while len(self._known) >= _MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[_codes(known.entities)] = known

    def forget(self, known: KnownCatalog) -> None:
        self._known.pop(_codes(known.entities), None)


def _codes(entities: Sequence[Entity]) -> tuple[EntityCode, ...]:
    return tuple(entity.code for entity in entities)


@dataclass(frozen=True, slots=True)
class GrownTree:
    """A partitioned table that still has the members of the previous run, unchanged, and ``added`` ones.

    ``known`` are the guards without the added members. An incremental run is exact if the log has recorded everything
    in the ``added`` members, whose triggers may be younger than their first rows.
    """

    known: Guards
    known_shape: Shape
    added: tuple[Relation, ...]


def growth(before: Guards | None, entity: Entity, shape: Shape, cluster: ClusterFacts) -> GrownTree | None:
    """The members that were added since ``before``, if nothing else makes the run full; else None."""
    if before is None or before.last_member is None or not shape.is_logged:
        return None
    known_shape = shape.up_to(before.last_member)
    known = guards_of(entity, known_shape, cluster)
    added = tuple(member for member in shape.members if member not in known_shape.members)
    return GrownTree(known, known_shape, added) if added and difference(before, known) is None else None


def difference(before: Guards | None, now: Guards) -> FullReason | None:
    """The reason why a run since ``before`` cannot be incremental; None when it can. Of several reasons, the most
    serious one.

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
        (before.logged and now.logged, FullReason.TABLE_UNLOGGED),
        (_same_values(before, now), FullReason.COLUMNS_CHANGED),
        (
            _comparable(before.type_parts) == _comparable(_known(now.type_parts, before.type_parts)),
            FullReason.COLUMNS_CHANGED,
        ),
        (before.partitions == now.partitions or before.members == now.members, FullReason.PARTITIONS_CHANGED),
        (before.triggers == now.triggers, FullReason.CAPTURE_CHANGED),
        # A release without these triggers recorded only what ordinary sessions wrote, and promised no more.
        (before.replica_triggers in {None, now.replica_triggers}, FullReason.CAPTURE_CHANGED),
    )
    return next((reason for same, reason in checks if not same), None)


def fingerprint(*facts: object) -> str:
    """A digest that is equal exactly when the facts are."""
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:32]


def _trigger_fingerprint(shape: Shape, *, replica: bool) -> str:
    """The fingerprint of the capture triggers that fire for replicated changes only, or of all others."""
    return fingerprint(
        shape.log_oid,
        [
            (
                relation.oid,
                [
                    (trigger.oid, trigger.xmin, trigger.enabled)
                    for trigger in relation.triggers
                    if (trigger.enabled == _REPLICA) == replica
                ],
            )
            for relation in shape.relations
        ],
    )


def _same_values(before: Guards, now: Guards) -> bool:
    """Whether no ALTER of an exported column can have changed values that no trigger has seen."""
    return before.columns == now.columns or (before.layout == now.layout and before.files == now.files)


def _comparable(parts: Mapping[str, str]) -> Mapping[str, str]:
    return {part: _without_version(value) if part.startswith(_ATTRIBUTE) else value for part, value in parts.items()}


def _without_version(attribute: str) -> str:
    """An attribute's name and type, without the version of its description. The type cannot change while a table uses
    it, and no other change of the attribute changes a value.
    """
    return attribute.rpartition(" ")[0]


def _known(parts: Mapping[str, str], before: Mapping[str, str]) -> Mapping[str, str]:
    """The parts without the labels that were added since the previous run: no row had them then."""
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
