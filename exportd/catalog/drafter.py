"""Reads the catalogs of a database and proposes an exportd catalog. It needs three queries and reads no row of a table.

The proposal has an entity for each table that can be exported. Tables that are left out are named at the end with the
reason. The result passes the checks without changes.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from exportd.catalog.names import camel_case, entity_code, format_table_name, label, type_token, unique_names
from exportd.catalog.shape import LiveTable
from exportd.catalog.table_reader import list_schemas, list_tables, read_tables, reading
from exportd.catalog.table_rules import fields_of, findings, modified_of
from exportd.database import queries
from exportd.model.entity import Entity, EntityCode, Field, TableName
from exportd.model.errors import Problem, SettingsError
from exportd.settings.sentences import did_you_mean

if TYPE_CHECKING:
    from exportd.database.connector import Connection

_SQL = queries.load("catalog")


async def draft(
    connection: "Connection", *, tenant_column: str | None = None, schemas: Sequence[str] | None = None
) -> str:
    """The TOML text of a catalog with an entity for each table with a primary key, in these schemas or all.

    Raises SettingsError for a schema that does not exist and a column that no table has, TransientError or
    PermanentError when the database cannot be read.
    """
    async with reading(connection, doing="drafting a catalog"):
        if schemas is not None:
            _check_schemas(schemas, await list_schemas(connection))
        names = await list_tables(connection, schemas)
        tables = await read_tables(connection, names)
        rows = await connection.fetch(_SQL["list_references"], None if schemas is None else list(schemas))
    references = [
        ForeignKey(
            table=TableName(row["schema_name"], row["table_name"]),
            columns=tuple(row["columns"]),
            other_table=TableName(row["other_schema_name"], row["other_table_name"]),
            other_columns=tuple(row["other_columns"]),
        )
        for row in rows
    ]
    found = [tables[name] for name in names if name in tables]
    if tenant_column is not None:
        _check_tenant_column(tenant_column, found)
    return render(found, references, tenant_column=tenant_column)


def _check_schemas(schemas: Sequence[str], known: Sequence[str]) -> None:
    problems = [
        Problem("--schema", f"the database has no schema {name}; {did_you_mean(name, known, what='schemas')}")
        for name in schemas
        if name not in known
    ]
    if problems:
        raise SettingsError(problems)


def _check_tenant_column(name: str, tables: Sequence[LiveTable]) -> None:
    known = dict.fromkeys(column.name for live in tables for column in live.columns)
    if name not in known:
        hint = did_you_mean(name, known, what="columns")
        raise SettingsError.of(f"no table has a column {name}; {hint}", where="--tenant-column")


_INTRODUCTION = """\
# A draft by `exportd catalog draft`: one entity for each table that can be exported.
# Rename, reorder and remove what you like; `exportd check` compares the file with the database.
"""

_ROOM_FOR_A_NUMBER = 3


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key: ``columns`` of ``table`` refer to ``other_columns`` of ``other_table``, in the same order."""

    table: TableName
    columns: tuple[str, ...]
    other_table: TableName
    other_columns: tuple[str, ...]


def render(tables: Sequence[LiveTable], references: Sequence[ForeignKey], *, tenant_column: str | None) -> str:
    """The catalog as TOML.

    With a ``tenant_column``, tables that lack it are left out; without one, every entity has ``tenant = false``. In the
    table of the tenants themselves another column is used: the one to which the foreign keys of tenant columns refer.
    """
    tenants = {} if tenant_column is None else _tenants_tables(references, tenant_column)
    kept: list[tuple[Entity, LiveTable]] = []
    left_out: list[tuple[TableName, str]] = []
    for live in tables:
        tenant = tenant_column
        if tenant is not None and live.column(tenant) is None:
            tenant = tenants.get(live.name, tenant)
        entity = _entity(live, tenant)
        reason = _reason_against(entity, live, tenant)
        if reason is None:
            kept.append((entity, live))
        else:
            left_out.append((live.name, reason))
    kept = _named_apart(kept)
    codes = {entity.table: entity.code for entity, _ in kept}
    blocks = [_INTRODUCTION]
    for entity, live in kept:
        own = [reference for reference in references if reference.table == entity.table]
        blocks.append(_block(_with_references(entity, own, codes), live))
    blocks += [_left_out_block(left_out)] if left_out else []
    return "\n".join(blocks)


def _tenants_tables(references: Sequence[ForeignKey], tenant_column: str) -> dict[TableName, str]:
    """The tables to which tenant columns refer, each with the referenced column."""
    return {
        reference.other_table: reference.other_columns[reference.columns.index(tenant_column)]
        for reference in references
        if tenant_column in reference.columns and reference.other_table != reference.table
    }


def _entity(live: LiveTable, tenant_column: str | None) -> Entity:
    primary_key = live.primary_key
    key = () if primary_key is None else tuple(name for name in primary_key.columns if name is not None)
    return Entity(
        code=EntityCode(entity_code(live.name.name)),
        label=label(live.name.name),
        type_token=type_token(live.name.name),
        table=live.name,
        key=key,
        tenant=tenant_column,
        fields=fields_of(live),
        modified=modified_of(live),
    )


def _reason_against(entity: Entity, live: LiveTable, tenant_column: str | None) -> str | None:
    if live.primary_key is None and live.kind in {"r", "p"}:
        unique = next((index for index in live.indexes if index.weakness is None), None)
        hint = f"; {unique.name} is unique and may do when its columns are NOT NULL" if unique else ""
        return f"has no primary key{hint}"
    if tenant_column is not None and live.column(tenant_column) is None and live.kind in {"r", "p"}:
        return f"has no column {tenant_column}; if its rows are for every organization, write tenant = false"
    return "; ".join(sentence for _, sentence in findings(entity, live)) or None


def _named_apart(kept: Sequence[tuple[Entity, LiveTable]]) -> list[tuple[Entity, LiveTable]]:
    """Tables of the same name in several schemas get numbers."""
    shortened = [entity.code[: 40 - _ROOM_FOR_A_NUMBER].rstrip("_") for entity, _ in kept]
    codes = unique_names(shortened)
    tokens = unique_names([entity.type_token for entity, _ in kept])
    return [
        (replace(entity, code=EntityCode(code), type_token=token), live)
        for (entity, live), code, token in zip(kept, codes, tokens, strict=True)
    ]


def _with_references(entity: Entity, references: Sequence[ForeignKey], codes: Mapping[TableName, EntityCode]) -> Entity:
    """Foreign keys of one column, the tenant aside, become references of that column's field."""
    by_column: dict[str, EntityCode] = {}
    for reference in references:
        pointing = [column for column in reference.columns if column != entity.tenant]
        if len(pointing) == 1 and reference.other_table in codes:
            by_column.setdefault(pointing[0], codes[reference.other_table])
    fields = tuple(replace(field, reference=by_column.get(field.column or "")) for field in entity.fields)
    return replace(entity, fields=fields)


def _block(entity: Entity, live: LiveTable) -> str:
    tenant = "false" if entity.tenant is None else _text(entity.tenant)
    lines = [
        *_remarks(entity, live),
        "[[entity]]",
        f"code = {_text(entity.code)}",
        f"label = {_text(entity.label)}",
        f"type_token = {_text(entity.type_token)}",
        f"table = {_text(format_table_name(entity.table))}",
        f"key = [{', '.join(_text(column) for column in entity.key)}]",
        f"tenant = {tenant}",
        *([] if entity.modified is None else [f"modified = {_text(entity.modified)}"]),
        "fields = [",
        *(f"  {_field(field)}," for field in entity.fields),
        "]",
    ]
    return "\n".join(lines) + "\n"


def _remarks(entity: Entity, live: LiveTable) -> Iterator[str]:
    if entity.code != entity_code(live.name.name):
        yield _comment("The code was shortened or numbered, because another table has the same name.")
    tenant = live.column(entity.tenant) if entity.tenant is not None else None
    if tenant is not None and tenant.is_nullable:
        yield _comment(f"Rows whose {tenant.name} is null belong to no organization and are in no file.")
    for field, column in zip(entity.fields, live.columns, strict=True):
        if column.generation is not None:
            yield _comment(
                f"{column.name} is a virtual generated column: deleted rows get its value by the expression."
            )
        if field.name != camel_case(column.name):
            yield _comment(f"The column {column.name} is the field {field.name}: its own name is taken.")


def _field(field: Field) -> str:
    source = ("column", field.column) if field.expression is None else ("expression", field.expression)
    pairs = [("name", field.name), source, ("type", field.type)]
    pairs += [("format", field.format), ("reference", field.reference)]
    return "{ " + ", ".join(f"{key} = {_text(value)}" for key, value in pairs if value is not None) + " }"


def _left_out_block(left_out: Sequence[tuple[TableName, str]]) -> str:
    lines = [_comment(f"{name}: {reason}") for name, reason in left_out]
    return "\n".join([_comment("Left out:"), *lines]) + "\n"


def _text(text: str) -> str:
    """A TOML basic string, which is one of JSON, but that it holds no DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _comment(text: str) -> str:
    """A comment of TOML on one line, which may hold everything but control characters and line ends."""
    return "# " + "".join(character if character.isprintable() else " " for character in text)
