"""How a trigger function reads the rows that were written, so that no ALTER TABLE can break it. Pure: SQL.

**The application's write never fails because of us.** A renamed, dropped or retyped column must not break a trigger
function, and catching an exception would cost every statement a subtransaction. So the columns are fetched in a way
that always parses: SQL looks an unqualified name up in the innermost FROM first and in outer ones after, so
``SELECT "id" FROM (SELECT r.*) AS present`` finds the row's column where it exists and otherwise the column of the same
name in ``absent``, a subquery around it whose columns have the type ``exportd.absent``. The value then goes through
``exportd.log_…_key_1(value)``, which exists twice: for the key's own type it returns the value, for anything else NULL.
The planner inlines all of it away. A row whose key or tenant is unknown is logged as T, which makes the entity's next
run full.

Each of the two functions takes the value twice, and a constant whose type decides for the second unless the first fits
exactly. Otherwise a column whose new type has an implicit cast to the old, as text has to varchar, would fit both, and
the write would fail.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from exportd.capture.log_definition import LogDefinition
from exportd.catalog.shape import Shape
from exportd.database.quoting import identifier, literal, table
from exportd.model.change_log import SCHEMA, TENANT_COLUMN
from exportd.model.entity import TableName


@dataclass(frozen=True, slots=True)
class PassingFunction:
    """One of the two functions that fetch a column: for its own type, or for every other."""

    name: str
    arguments: str
    result: str
    body: str

    def create(self) -> str:
        """The statement that creates it, or replaces it."""
        return (
            f"CREATE OR REPLACE FUNCTION {table(TableName(SCHEMA, self.name))}({self.arguments}) "
            f"RETURNS {self.result} LANGUAGE sql IMMUTABLE PARALLEL SAFE AS {literal(self.body)}"
        )


def passing_functions(log: LogDefinition) -> Iterator[PassingFunction]:
    """The functions through which an entity's key and tenant are fetched."""
    # The NULL has its type from the log. Naming the type would trust the writer's search_path, and break when an
    # extension moves to another schema.
    for name, column in zip(log.keys, log.key_shapes, strict=True):
        null = f"((NULL::{log.table}).{name})[1]"
        yield from _overloads(f"{log.name}_{name}", column.type_name, column.type_name, "$1", null)
    if log.tenant_shape:
        argument = log.tenant_shape.type_name
        null = f"(NULL::{log.table}).{TENANT_COLUMN}"
        yield from _overloads(f"{log.name}_{TENANT_COLUMN}", argument, argument, "$1", null)
        yield from _overloads(f"{log.name}_has_tenant", argument, "pg_catalog.bool", "true", "false")


def written_rows(log: LogDefinition, shape: Shape, source: str, alias: str, *, reordered: bool = False) -> str:
    """Rows of ``source`` as (key_1…, tenant, known, row), by the fetch that always parses.

    ``row`` is the whole row as an anonymous record, which the rows of transition tables and subqueries are (those of a
    table are not); with ``reordered``, its columns in the root table's order. ROW(written.*) would be the same, but the
    server refuses to read a virtual generated column in a transition table.
    """
    entity = log.entity
    own = [*entity.key, *([entity.tenant] if entity.tenant else [])]
    columns = [column.name for column in shape.root.columns if not column.is_virtual] if reordered else []
    absent = ", ".join(f"NULL::exportd.absent AS {identifier(name)}" for name in dict.fromkeys([*own, *columns]))
    fetched = [f"{_passed(log, key, name)} AS {key}" for key, name in zip(log.keys, entity.key, strict=True)]
    known = [f"fetched.{key} IS NOT NULL" for key in log.keys]
    if entity.tenant:
        fetched.append(f"{_passed(log, TENANT_COLUMN, entity.tenant)} AS {TENANT_COLUMN}")
        fetched.append(f"{_passed(log, 'has_tenant', entity.tenant)} AS has_tenant")
        known.append("fetched.has_tenant")
    if reordered:
        values = ("NULL" if column.is_virtual else identifier(column.name) for column in shape.root.columns)
        fetched.append(f"ROW({', '.join(values)}) AS reordered")
    # Without the cast, .* would be all columns. It does not make a table's row anonymous.
    row = "fetched.reordered" if reordered else "(written.*)::pg_catalog.record"
    return (
        f"(SELECT fetched.*, {' AND '.join(known)} AS known, {row} AS row\n"
        f"          FROM (SELECT {absent}) AS absent\n"
        f"          CROSS JOIN {source} AS written\n"
        f"          CROSS JOIN LATERAL (SELECT {', '.join(fetched)} FROM (SELECT written.*) AS present) AS fetched"
        f") AS {alias}"
    )


def _passed(log: LogDefinition, function: str, column: str) -> str:
    value = identifier(column)
    return f"{table(TableName(SCHEMA, f'{log.name}_{function}'))}({value}, {value}, 1)"


def _overloads(name: str, argument: str, result: str, known: str, other: str) -> Iterator[PassingFunction]:
    yield PassingFunction(name, f"{argument}, {argument}, bigint", result, f"SELECT {known}")
    yield PassingFunction(name, "anyelement, anyelement, integer", result, f"SELECT {other}")
