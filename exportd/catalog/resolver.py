"""Fills in what the catalog leaves to the database: the fields of entities without any, and types not declared.

A catalog that leaves nothing open costs no query; another costs one, and a prepared statement for each entity with
expressions of unknown type.

``examine`` sorts the entities of a catalog into those that fit the database, which are resolved, and those that are out
of order. An entity that does not fit keeps no other from being exported: it is looked at again later.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from exportd.catalog.checker import expressions_in, judge, problems_by_entity
from exportd.catalog.document import Catalog
from exportd.catalog.live_table import LiveTable, ValueType, field_type
from exportd.catalog.table_reader import list_tables, read_tables, reading
from exportd.catalog.table_rules import fields_of, missing_table, no_column
from exportd.model.entity import Entity, EntityCode, Field
from exportd.model.errors import Problem, Reason, SettingsError, TransientError
from exportd.settings.document import sorted_by_line

if TYPE_CHECKING:
    from exportd.database.connector import Connection


_MAX_LOOKS = 3
"""A table that changes between two looks is looked at again, so often."""


async def resolve(catalog: Catalog, connection: "Connection") -> Catalog:
    """The catalog with every field and every type known.

    Raises SettingsError when a table, a column or an expression that is needed for it does not exist.
    """
    open_entities = [entity for entity in catalog.entities.values() if catalog.is_open(entity.code)]
    if not open_entities:
        return catalog
    problems: list[Problem] = []
    entities = dict(catalog.entities)
    async with reading(connection, doing="reading the tables of the catalog"):
        tables = await read_tables(connection, [entity.table for entity in open_entities])
        for entity in open_entities:
            live = tables.get(entity.table)
            if live is None:
                path, sentence = missing_table(entity, await list_tables(connection))
                problems.append(catalog.problem(entity.code, sentence, about=path))
            elif not entity.fields:
                entities[entity.code] = replace(entity, fields=fields_of(live))
            else:
                types, found = await _types(catalog, entity, live, connection)
                problems += found
                fields = tuple(_typed(field, types.get(field.name)) for field in entity.fields)
                entities[entity.code] = replace(entity, fields=fields)
    if problems:
        raise SettingsError(sorted_by_line(problems))
    return replace(catalog, entities=entities, open_types=frozenset())


async def _types(
    catalog: Catalog, entity: Entity, live: LiveTable, connection: "Connection"
) -> tuple[Mapping[str, ValueType], list[Problem]]:
    """The types of the entity's open fields, by name, and the problems of those that have none."""
    open_fields = catalog.open_fields(entity.code)
    unknown = [field for field in entity.fields if field.name in open_fields]
    verdicts = await judge(connection, entity.table, expressions_in(unknown))
    types: dict[str, ValueType] = {}
    problems = []
    for field in unknown:
        if field.expression is not None:
            type_, sentence = verdicts[field.expression].type, verdicts[field.expression].sentence
        else:
            column = live.column(field.column or "")
            type_ = None if column is None else column.type
            sentence = no_column(field.column or "", live)
        if type_ is None:
            about = ("fields", entity.fields.index(field))
            problems.append(catalog.problem(entity.code, f"{field.name}: {sentence}", about=about))
        else:
            types[field.name] = type_
    return types, problems


def _typed(field: Field, type_: ValueType | None) -> Field:
    if type_ is None:
        return field
    known, format_ = field_type(type_)
    return replace(field, type=known, format=field.format or format_)


async def examine(catalog: Catalog, connection: "Connection") -> Catalog:
    """The catalog with what only the database knows of the entities that fit it; the others are out of order.

    Raises TransientError or PermanentError when the database cannot be read.
    """
    for _ in range(_MAX_LOOKS):
        found = await problems_by_entity(catalog, connection)
        sound = _only(catalog, catalog.entities.keys() - found.keys())
        try:
            resolved = await resolve(sound, connection)
        except SettingsError:
            continue  # a table has changed since the first look
        return replace(
            catalog,
            entities={code: resolved.entities.get(code, entity) for code, entity in catalog.entities.items()},
            open_types=frozenset(pair for pair in catalog.open_types if pair[0] in found),
            out_of_order={code: tuple(sorted_by_line(found[code])) for code in catalog.entities if code in found},
        )
    raise TransientError(
        "The tables of the catalog kept changing while they were looked at. They are looked at again.",
        reason=Reason.CATALOG_MISMATCH,
    )


async def reexamine(known: Catalog, written: Catalog, connection: "Connection") -> Catalog:
    """A catalog that has been examined before, as it is now; ``written`` is as the file has it.

    What fits stays as it was known. What does not, or did not, is read anew from what is written: a table that is back
    may have other columns. An entity that is out of order keeps what was known of it.
    """
    doubtful = known.out_of_order.keys() | (await problems_by_entity(known, connection)).keys()
    if not doubtful:
        return known
    anew = await examine(_only(written, doubtful), connection)
    return replace(
        known,
        entities={
            code: anew.entities[code] if code in doubtful and code not in anew.out_of_order else entity
            for code, entity in known.entities.items()
        },
        open_types=frozenset(pair for pair in known.open_types if pair[0] in anew.out_of_order),
        out_of_order=anew.out_of_order,
    )


def _only(catalog: Catalog, codes: Collection[EntityCode]) -> Catalog:
    return replace(
        catalog,
        entities={code: entity for code, entity in catalog.entities.items() if code in codes},
        open_types=frozenset(pair for pair in catalog.open_types if pair[0] in codes),
        out_of_order={},
    )
