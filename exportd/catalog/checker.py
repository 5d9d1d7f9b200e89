"""Compares the catalog with the live database.

It takes a catalog and a connection as the role that will export, and gives problems, each with the catalog's line and
what to do. It costs two queries for all entities, one prepared statement for each entity with expressions, and one
reading of each table that has inheritance children.

The server parses the expressions of fields, without reading a row. Each is prepared as ``SELECT (expression) FROM table
AS exportd_row WHERE (expression) IS NULL``: in WHERE the server refuses aggregates, window functions and functions that
return sets, and the alias makes a name such as ``accounts.name`` fail, which images of deleted rows could not resolve
either.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from exportd.catalog.document import Catalog
from exportd.catalog.expressions import functions_of
from exportd.catalog.live_table import ValueType
from exportd.catalog.table_reader import list_tables, read_tables, reading
from exportd.catalog.table_rules import (
    Finding,
    duplicates_query,
    duplicates_sentence,
    findings,
    missing_table,
    type_findings,
)
from exportd.database import queries, quoting
from exportd.database.translator import FOREIGN_ERRORS, translate
from exportd.model.entity import Entity, EntityCode, Field, TableName
from exportd.model.errors import Problem
from exportd.settings.document import sorted_by_line

if TYPE_CHECKING:
    from exportd.database.connector import Connection


_SQL = queries.load("catalog")

_ALIAS = "exportd_row"

_MAX_ORGANIZATIONS = 100
_SEARCH_MS = 2000
"""How long a table is searched for the rows of an organization."""


@dataclass(frozen=True, slots=True)
class ExpressionVerdict:
    """The server's answer about one expression: its type, or a sentence that says why it has none."""

    type: ValueType | None = None
    sentence: str | None = None


async def check(catalog: Catalog, connection: "Connection") -> list[Problem]:
    """Everything in the database that prevents the export of the entities; empty when nothing does.

    Raises TransientError or PermanentError when the database cannot be read.
    """
    found = await problems_by_entity(catalog, connection, reads_rows=True)
    return sorted_by_line([problem for problems in found.values() for problem in problems])


async def problems_by_entity(
    catalog: Catalog, connection: "Connection", *, reads_rows: bool = False
) -> dict[EntityCode, list[Problem]]:
    """The same for each entity that cannot be exported; the others are left out.

    ``reads_rows`` looks for duplicate keys as well. A daemon leaves that to the job that reads the table: it may take
    long, and may run code of the table's owner.
    """
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
                if reads_rows and not found and live.has_children and await connection.fetch(duplicates_query(entity)):
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
        if verdict.type is None:
            yield ("fields", index, "expression"), f"{field.name}: {verdict.sentence or 'the database refuses it'}"
        elif field.name not in open_types:
            for path, sentence in type_findings(field, verdict.type, "the expression gives"):
                yield ("fields", index, *path), f"{field.name}: {sentence}"


async def check_organizations(
    catalog: Catalog, connection: "Connection", entities_of: Mapping[str, Collection[EntityCode]]
) -> list[str]:
    """A sentence for each organization that is no value of a tenant column's type, or has no row in any of its tables.

    ``entities_of`` says what is exported of each. A table that takes long to search is not searched to its end. Raises
    TransientError or PermanentError when the database cannot be read.
    """
    problems = []
    for organization in list(entities_of)[:_MAX_ORGANIZATIONS]:
        entities = [catalog.entities[code] for code in entities_of[organization] if code in catalog.entities]
        tenanted = [(entity.table, entity.tenant) for entity in entities if entity.tenant is not None]
        found = False
        for name, tenant in dict.fromkeys(tenanted):
            try:
                found = await _has_rows(connection, name, tenant, organization) or found
            except asyncpg.DataError as error:
                found = True
                problems.append(
                    f"organization {organization} is no value of the tenant column {tenant} of {name}: {error}; "
                    "write it as the database does, or correct the catalog's tenant"
                )
        if tenanted and not found:
            names = ", ".join(str(name) for name, _ in dict.fromkeys(tenanted))
            problems.append(
                f"organization {organization} has no row in {names}: its exports will be empty; compare it with the "
                "values of the tenant columns"
            )
    return problems


async def _has_rows(connection: "Connection", name: TableName, tenant: str, organization: str) -> bool:
    condition = f"{quoting.identifier(tenant)} = {quoting.literal(organization)}"
    statement = f"SELECT EXISTS (SELECT FROM {quoting.table(name)} WHERE {condition})"
    try:
        async with connection.transaction(readonly=True):
            await connection.execute(f"SET LOCAL statement_timeout = {_SEARCH_MS}")
            return bool(await connection.fetchval(statement))
    except asyncpg.QueryCanceledError:
        return True  # nothing is known, and nothing is complained about
    except asyncpg.DataError:
        raise
    except FOREIGN_ERRORS as error:
        raise translate(error, doing=f"looking for the rows of {organization}") from error


def expressions_in(fields: Iterable[Field]) -> list[str]:
    """The expressions of these fields, each once."""
    return list(dict.fromkeys(field.expression for field in fields if field.expression is not None))


async def judge(
    connection: "Connection", table: TableName, expressions: Sequence[str]
) -> Mapping[str, ExpressionVerdict]:
    """A verdict on each expression, by one prepared statement when all are good. Must run in a transaction."""
    if not expressions:
        return {}
    try:
        types = await _prepare(connection, table, expressions)
    except asyncpg.PostgresError as error:
        if len(expressions) == 1:
            return {expressions[0]: ExpressionVerdict(sentence=_sentence(error))}
        verdicts: dict[str, ExpressionVerdict] = {}
        for expression in expressions:
            verdicts |= await judge(connection, table, [expression])
        return verdicts
    return {expression: ExpressionVerdict(type=type_) for expression, type_ in zip(expressions, types, strict=True)}


async def volatile_functions(connection: "Connection", expressions: Iterable[str]) -> frozenset[str]:
    """The functions in the expressions whose value changes from call to call, such as ``random``."""
    used = sorted({function for expression in expressions for function in functions_of(expression)})
    if not used:
        return frozenset()
    rows = await connection.fetch(_SQL["list_volatile_functions"], used)
    return frozenset(row["function_name"] for row in rows)


async def _prepare(connection: "Connection", table: TableName, expressions: Sequence[str]) -> list[ValueType]:
    columns = ", ".join(f"({expression}) AS c{number}" for number, expression in enumerate(expressions))
    condition = " OR ".join(f"({expression}) IS NULL" for expression in expressions)
    source = f"{quoting.table(table)} AS {_ALIAS}"
    async with connection.transaction():  # a savepoint: a refusal must not end the transaction around it
        statement = await connection.prepare(f"SELECT {columns} FROM {source} WHERE {condition}")
    return [
        ValueType(
            name=attribute.type.name,
            base=attribute.type.name,
            is_nested=attribute.type.kind in {"array", "composite"},
        )
        for attribute in statement.get_attributes()
    ]


def _sentence(error: asyncpg.PostgresError) -> str:
    message = (error.message or str(error)).replace(f"{_ALIAS}.", "")
    hint = (error.hint or "").replace(f"{_ALIAS}.", "")
    return f"the database refuses it: {message}" + (f" ({hint})" if hint else "")
