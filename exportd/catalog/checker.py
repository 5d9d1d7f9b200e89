"""Compares the catalog with the live database.

It takes a catalog and a connection as the role that will export, and gives problems, each with the catalog's line and
what to do. It costs two queries for all entities, one prepared statement for each entity with expressions, and one
reading of each table that has inheritance children.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from exportd.catalog.column_types import accepts, accepts_format, field_type
from exportd.catalog.document import Catalog
from exportd.catalog.duplicate_keys import duplicates_query, duplicates_sentence
from exportd.catalog.expression_checker import ExpressionVerdict, expressions_in, judge, volatile_functions
from exportd.catalog.expressions import functions_of
from exportd.catalog.table_reader import list_tables, read_tables, reading
from exportd.catalog.table_rules import Finding, findings, missing_table
from exportd.model.entity import Entity, EntityCode, Field
from exportd.model.errors import Problem
from exportd.settings.document import sorted_by_line

if TYPE_CHECKING:
    from exportd.database.connector import Connection


async def check(catalog: Catalog, connection: "Connection") -> list[Problem]:
    """Everything in the database that prevents the export of the entities; empty when nothing does.

    Raises TransientError or PermanentError when the database cannot be read.
    """
    found = await problems_by_entity(catalog, connection)
    return sorted_by_line([problem for problems in found.values() for problem in problems])


async def problems_by_entity(catalog: Catalog, connection: "Connection") -> dict[EntityCode, list[Problem]]:
    """The same for each entity that cannot be exported; the others are left out."""
    entities = list(catalog.entities.values())
    problems: dict[EntityCode, list[Problem]] = {}
    async with reading(connection, doing="checking the catalog"):
        tables = await read_tables(connection, [entity.table for entity in entities])
        is_complete = all(entity.table in tables for entity in entities)
        others = [] if is_complete else await list_tables(connection)
        expressions = expressions_in(field for entity in entities for field in entity.fields)
        volatile = await volatile_functions(connection, expressions)
        for entity in entities:
            live = tables.get(entity.table)
            open_fields = catalog.open_fields(entity.code)
            if live is None:
                found = [missing_table(entity, others)]
            else:
                verdicts = await judge(connection, entity.table, expressions_in(entity.fields))
                found = [
                    *findings(entity, live, open_types=open_fields),
                    *_expression_findings(entity, verdicts, volatile, open_types=open_fields),
                ]
                if not found and live.has_children and await connection.fetch(duplicates_query(entity)):
                    found = [(("key",), duplicates_sentence(entity))]
            if found:
                problems[entity.code] = [catalog.problem(entity.code, text, about=path) for path, text in found]
    return problems


def _expression_findings(
    entity: Entity, verdicts: Mapping[str, ExpressionVerdict], volatile: frozenset[str], *, open_types: frozenset[str]
) -> Iterator[Finding]:
    for index, field in enumerate(entity.fields):
        if field.expression is None:
            continue
        for function in sorted(functions_of(field.expression) & volatile):
            sentence = (
                f"{function}() is volatile: a record must stay the same until it changes; "
                "use another function, or declare this one IMMUTABLE if it is"
            )
            yield ("fields", index, "expression"), f"{field.name}: {sentence}"
        verdict = verdicts[field.expression]
        for key, sentence in _verdict_findings(field, verdict, is_open=field.name in open_types):
            yield ("fields", index, key), f"{field.name}: {sentence}"


def _verdict_findings(field: Field, verdict: ExpressionVerdict, *, is_open: bool) -> Iterator[tuple[str, str]]:
    if verdict.type is None:
        yield "expression", verdict.sentence or "the database refuses it"
        return
    if is_open:
        return
    proposed, format_ = field_type(verdict.type)
    if not accepts(field.type, verdict.type):
        yield "type", f'the expression gives {verdict.type.name}; write type = "{proposed}"'
    elif not accepts_format(field.format, verdict.type):
        hint = f'write format = "{format_}"' if format_ else "leave the format out"
        yield "format", f"the expression gives {verdict.type.name}; {hint}"
