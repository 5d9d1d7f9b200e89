"""Lets the server parse the expressions of fields, without reading a row.

Each is prepared as ``SELECT (expression) FROM table AS exportd_row WHERE (expression) IS NULL``: in WHERE the
server refuses aggregates, window functions and functions that return sets, and the alias makes a name such as
``accounts.name`` fail, which images of deleted rows could not resolve either.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from exportd.catalog.expressions import functions_of
from exportd.catalog.live_table import ValueType
from exportd.database import queries, quoting
from exportd.model.entity import Field, TableName

if TYPE_CHECKING:
    from exportd.database.connector import Connection

_SQL = queries.load("catalog")

_ALIAS = "exportd_row"


@dataclass(frozen=True, slots=True)
class ExpressionVerdict:
    """The server's answer about one expression: its type, or a sentence that says why it has none."""

    type: ValueType | None = None
    sentence: str | None = None


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
