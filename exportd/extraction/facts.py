"""From what the database says to the guards of an entity. Pure."""

from exportd.catalog.shape import Shape
from exportd.extraction.guards import ClusterFacts, Guards, definition_fingerprint, fingerprint
from exportd.model.entity import Entity


def guards_of(entity: Entity, shape: Shape, cluster: ClusterFacts) -> Guards:
    """The entity's guards at the snapshot in which ``shape`` was read."""
    # Number and version: a column that was dropped and added again, or rewritten by ALTER … USING, holds other values.
    columns = [(each.name, each.number, each.type_oid, each.type_modifier, each.version) for each in shape.root.columns]
    used = _used_columns(entity)
    return Guards(
        cluster=cluster,
        triggers=fingerprint(
            shape.log_oid,
            [(each.oid, [(t.oid, t.xmin, t.enabled) for t in each.triggers]) for each in shape.relations],
        ),
        partitions=fingerprint([(each.oid, str(each.name)) for each in shape.members]),
        columns=fingerprint([column for column in columns if used is None or column[0] in used]),
        row_shape=fingerprint(
            [(each.number, each.name, each.type_oid, each.type_modifier) for each in shape.root.columns],
            [[(c.number, c.name, c.type_oid) for c in each.columns] for each in shape.members],
            [[part for part in each.type_parts if part[0].startswith("attribute ")] for each in shape.root.columns],
        ),
        definition=definition_fingerprint(entity),
        type_parts={
            part: value
            for column in shape.root.columns
            if used is None or column.name in used
            for part, value in column.type_parts
        },
    )


def _used_columns(entity: Entity) -> set[str] | None:
    """The exported, key and tenant columns; None for all of them, because an expression may use any."""
    if any(each.expression for each in entity.fields):
        return None
    return {
        *entity.key,
        *([entity.tenant] if entity.tenant else []),
        *(each.column for each in entity.fields if each.column),
    }
