"""Fills in what the catalog leaves to the database: the fields of entities without any, and types not declared.

A catalog that leaves nothing open costs no query; another costs one, and a prepared statement for each entity with
expressions of unknown type.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from exportd.catalog.column_types import ValueType, field_type
from exportd.catalog.document import Catalog
from exportd.catalog.expression_checker import expressions_in, judge
from exportd.catalog.live_table import LiveTable
from exportd.catalog.table_reader import list_tables, read_tables, reading
from exportd.catalog.table_rules import fields_of, missing_table, no_column
from exportd.model.entity import Entity, Field
from exportd.model.errors import Problem, SettingsError
from exportd.settings.document import sorted_by_line

if TYPE_CHECKING:
    from exportd.database.connector import Connection


async def resolve(catalog: Catalog, connection: "Connection") -> Catalog:
    """The catalog with every field and every type known.

    Raises SettingsError when a table, a column or an expression that is needed for it does not exist.
    """
    open_entities = [
        entity for entity in catalog.entities.values() if not entity.fields or catalog.open_fields(entity.code)
    ]
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
