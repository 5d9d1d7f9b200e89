"""Compares the catalog with the live database, and completes it from there.

``check`` takes a catalog and a connection of the role that will export, and returns problems, each with the catalog's
line and what to do. It costs two queries for all entities, one prepared statement for each entity with expressions, and
one scan of each table that has inheritance children.

``examine`` divides the entities into those that fit the database, which are resolved, and those that are out of order.
An entity that does not fit does not keep others from being exported, and is examined again later. ``resolve`` completes
the fields of entities without any, and types that are not declared. A complete catalog costs no query. Otherwise it
costs one query, and a prepared statement for each entity with expressions of unknown type.

The server parses the expressions of fields, without reading a row. Each is prepared as ``SELECT (expression) FROM table
AS exportd_row WHERE (expression) IS NULL``: in WHERE the server refuses aggregates, window functions and functions that
return sets, and the alias makes a name such as ``accounts.name`` fail, which images of deleted rows could not resolve
either.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import asyncpg

from exportd.catalog.document import Catalog
from exportd.catalog.expressions import functions_of
from exportd.catalog.shape import LiveTable, ValueType, field_type
from exportd.catalog.table_reader import list_tables, read_tables, reading
from exportd.catalog.table_rules import (
    Finding,
    duplicates_query,
    duplicates_sentence,
    fields_of,
    findings,
    missing_table,
    no_column,
    type_findings,
)
from exportd.database import queries, quoting
from exportd.database.translator import FOREIGN_ERRORS, translate
from exportd.model.entity import Entity, EntityCode, Field, TableName
from exportd.model.errors import Problem, Reason, SettingsError, TransientError
from exportd.settings.document import sorted_by_line

if TYPE_CHECKING:
    from exportd.database.connector import Connection


_SQL = queries.load("catalog")

_ALIAS = "exportd_row"

_MAX_LOOKS = 3
"""How often a table that changes between two looks is looked at again."""

_MAX_ORGANIZATIONS = 100
_SEARCH_MS = 2000
"""How long a table is searched for rows of an organization."""


async def check(catalog: Catalog, connection: "Connection") -> list[Problem]:
    """All problems in the database that prevent the export of the entities; empty when there are none.

    Raises TransientError or PermanentError when the database cannot be read.
    """
    found = await problems_by_entity(catalog, connection, reads_rows=True)
    return sorted_by_line([problem for problems in found.values() for problem in problems])


async def problems_by_entity(
    catalog: Catalog, connection: "Connection", *, reads_rows: bool = False
) -> dict[EntityCode, list[Problem]]:
    """The same for each entity that cannot be exported; the others are left out.

    With ``reads_rows`` it looks for duplicate keys as well. A daemon leaves that to the job that reads the table,
    because it may take long, and may run code of the table's owner.
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
                types = await types_of(connection, entity.table, expressions_in(entity.fields))
                found = [
                    *findings(entity, live, open_types=open_fields),
                    *_expression_findings(entity, types, volatile, open_types=open_fields),
                ]
                if reads_rows and not found and live.has_children and await connection.fetch(duplicates_query(entity)):
                    found = [(("key",), duplicates_sentence(entity))]
            if found:
                problems[entity.code] = [catalog.problem(entity.code, text, about=path) for path, text in found]
    return problems


def _expression_findings(
    entity: Entity, types: Mapping[str, ValueType | str], volatile: frozenset[str], *, open_types: frozenset[str]
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
        type_ = types[field.expression]
        if isinstance(type_, str):
            yield ("fields", index, "expression"), f"{field.name}: {type_}"
        elif field.name not in open_types:
            for path, sentence in type_findings(field, type_, "the expression gives"):
                yield ("fields", index, *path), f"{field.name}: {sentence}"


async def examine(catalog: Catalog, connection: "Connection") -> Catalog:
    """Complete the entities that fit the database. The others are out of order.

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
    """Examine a catalog again. ``written`` is the catalog in the file.

    Entities that fit stay as they are. One that does not fit, or did not, is completed again from the file, because a
    restored table may have other columns. An entity that is out of order keeps what was known of it.
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
    given = await types_of(connection, entity.table, expressions_in(unknown))
    types: dict[str, ValueType] = {}
    problems = []
    for field in unknown:
        if field.expression is not None:
            type_ = given[field.expression]
        else:
            column = live.column(field.column or "")
            type_ = no_column(field.column or "", live) if column is None else column.type
        if isinstance(type_, str):
            about = ("fields", entity.fields.index(field))
            problems.append(catalog.problem(entity.code, f"{field.name}: {type_}", about=about))
        else:
            types[field.name] = type_
    return types, problems


def _typed(field: Field, type_: ValueType | None) -> Field:
    if type_ is None:
        return field
    known, format_ = field_type(type_)
    return replace(field, type=known, format=field.format or format_)


async def check_organizations(
    catalog: Catalog, connection: "Connection", entities_of: Mapping[str, Collection[EntityCode]]
) -> list[str]:
    """A sentence for each organization whose id is not a value of a tenant column's type, or that has no row in any of
    its tables.

    ``entities_of`` has the entities that each organization exports. A table that takes too long is not searched to its
    end. Raises TransientError or PermanentError when the database cannot be read.
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


async def types_of(
    connection: "Connection", table: TableName, expressions: Sequence[str]
) -> Mapping[str, ValueType | str]:
    """The type of each expression, or a sentence that says why it has none. Must run in a transaction.

    It takes one prepared statement when all are good.
    """
    if not expressions:
        return {}
    try:
        types = await _prepare(connection, table, expressions)
    except asyncpg.PostgresError as error:
        if len(expressions) == 1:
            return {expressions[0]: _sentence(error)}
        found: dict[str, ValueType | str] = {}
        for expression in expressions:
            found |= await types_of(connection, table, [expression])
        return found
    return dict(zip(expressions, types, strict=True))


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
