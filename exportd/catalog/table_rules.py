"""The requirements on a table, its key, its tenant and its fields for capturing and exporting changes. Pure.

Compares an entity with its table in the database. Each problem is one sentence that says what to do, with the key of
the catalog that it concerns.
"""

from collections.abc import Iterator, Sequence

from exportd.catalog.expressions import words_of
from exportd.catalog.names import camel_case, snake_case, unique_names
from exportd.catalog.shape import LiveColumn, LiveTable, ValueType, accepts, accepts_format, field_type, is_instant
from exportd.database.quoting import identifier, table
from exportd.model.change_log import SCHEMA
from exportd.model.entity import DELETED_FIELD, Entity, EntityCode, Field, TableName
from exportd.settings.document import KeyPath
from exportd.settings.sentences import closest, did_you_mean

Finding = tuple[KeyPath, str]
"""The key of the entity that a sentence is about, and the sentence."""

_SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema", "pg_toast", SCHEMA})
_MODIFIED_NAMES = (
    *("last_modified_at", "last_modified", "modified_at", "modified_on", "modified", "dt_last_modified", "dt_modified"),
    *("date_modified", "modified_date", "last_modified_date", "last_updated_at", "last_updated", "updated_at"),
    *("updated_on", "updated", "dt_last_updated", "dt_updated", "date_updated", "updated_date", "last_updated_date"),
)
"""Usual names of a column with the time of the last change, in snake_case. The first that exists is used."""

_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}


def missing_table(entity: Entity, others: Sequence[TableName]) -> Finding:
    """The table does not exist; perhaps one of the others was meant."""
    name, schema = entity.table.name, entity.table.schema
    same_name = (other for other in others if other.name.lower() == name.lower())
    beside = {other.name: other for other in others if other.schema == schema}
    meant = next(same_name, None) or beside.get(closest(name, beside) or "")
    hint = f"did you mean {meant}?" if meant else "check the name and the database of the DSN"
    return ("table",), f"there is no table {entity.table}; {hint}"


def findings(entity: Entity, live: LiveTable, *, open_types: frozenset[str] = frozenset()) -> Iterator[Finding]:
    """All problems except those of expressions. ``open_types`` are fields whose type is not declared."""
    unsuitable = list(_kind_findings(live))
    yield from unsuitable
    if unsuitable:
        return
    yield from _tree_findings(live)
    yield from _right_findings(live)
    yield from _key_findings(entity, live)
    yield from _tenant_findings(entity, live)
    yield from _modified_findings(entity, live)
    if entity.fields:
        for index, field in enumerate(entity.fields):
            for path, sentence in _field_findings(field, live, is_open=field.name in open_types):
                yield ("fields", index, *path), f"{field.name}: {sentence}"
    else:
        yield from _left_out_fields_findings(live)


def fields_of(live: LiveTable) -> tuple[Field, ...]:
    """Every column as a field, in the table's order: what an entity without fields exports."""
    names = unique_names([camel_case(column.name) for column in live.columns], taken=[DELETED_FIELD])
    return tuple(field_of(name, column) for name, column in zip(names, live.columns, strict=True))


def field_of(name: str, column: LiveColumn) -> Field:
    """A column as a field. A virtual generated column becomes its expression, which deleted rows have too."""
    type_, format_ = field_type(column.type)
    if column.generation is not None:
        return Field(name, expression=column.generation, type=type_, format=format_)
    return Field(name, column=column.name, type=type_, format=format_)


def modified_of(live: LiveTable) -> str | None:
    """The column that plainly has the time of a row's last change, if there is one."""
    by_name = {snake_case(column.name): column.name for column in live.columns if is_instant(column.type)}
    return next((by_name[name] for name in _MODIFIED_NAMES if name in by_name), None)


def _kind_findings(live: LiveTable) -> Iterator[Finding]:
    if live.name.schema in _SYSTEM_SCHEMAS:
        yield ("table",), f"{live.name} belongs to the system; only tables of the application can be exported"
    elif live.kind in _KINDS:
        yield ("table",), f"{live.name} is {_KINDS[live.kind]}; name the table that the rows are written to"
    elif live.partition_root is not None:
        yield ("table",), f"{live.name} is a partition; name the whole table, {live.partition_root}"
    elif live.parents:
        parents = " and ".join(map(str, live.parents))
        yield ("table",), f"{live.name} inherits from {parents}; name the table at the top, which has its rows too"
    elif live.persistence == "t":
        yield ("table",), f"{live.name} is a temporary table of one session; it cannot be exported"
    elif live.persistence == "u":
        yield ("table",), f"{live.name} is unlogged and empty after a crash; {_set_logged(live.name)}"


def _tree_findings(live: LiveTable) -> Iterator[Finding]:
    for member in live.foreign_members:
        yield ("table",), f"its part {member} is a foreign table, whose changes cannot be seen; detach it"
    for member in live.unlogged_members:
        yield ("table",), f"its part {member} is unlogged and empty after a crash; {_set_logged(member)}"
    for member in live.shared_members:
        yield ("table",), f"its child {member} inherits from another table too; let it inherit from one only"


def _set_logged(name: TableName) -> str:
    return f"make it an ordinary one: ALTER TABLE {table(name)} SET LOGGED"


def _right_findings(live: LiveTable) -> Iterator[Finding]:
    role = identifier(live.role)
    if not live.is_reachable:
        schema = identifier(live.name.schema)
        yield ("table",), f"may not be reached by {live.role}; GRANT USAGE ON SCHEMA {schema} TO {role}"
    if not live.is_readable:
        yield ("table",), f"may not be read by {live.role}; GRANT SELECT ON {table(live.name)} TO {role}"
    if live.is_filtered:
        sentence = (
            f"row level security of {live.name} hides rows from {live.role}; "
            f"ALTER ROLE {role} BYPASSRLS, or connect as a role that it does not hold for"
        )
        yield ("table",), sentence


def _key_findings(entity: Entity, live: LiveTable) -> Iterator[Finding]:
    unknown = False
    for index, name in enumerate(entity.key):
        column = live.column(name)
        if column is None:
            unknown = True
            yield ("key", index), no_column(name, live)
        else:
            yield from ((("key", index), sentence) for sentence in _unfit_for_key(column, live))
    if not unknown:
        yield from _uniqueness_findings(entity, live)


def _unfit_for_key(column: LiveColumn, live: LiveTable) -> Iterator[str]:
    if column.is_nullable:
        yield (
            f"the key column {column.name} may be null; choose another key, or "
            f"ALTER TABLE {table(live.name)} ALTER COLUMN {identifier(column.name)} SET NOT NULL"
        )
    if column.generation is not None:
        yield f"the key column {column.name} is a virtual generated column, which deleted rows do not have"
    if not column.is_ordered:
        yield f"the key column {column.name} has the type {column.type.name}, which cannot be compared"


def _uniqueness_findings(entity: Entity, live: LiveTable) -> Iterator[Finding]:
    on_key = [index for index in live.indexes if set(index.columns) == set(entity.key)]
    if any(index.weakness is None for index in on_key):
        return
    columns = ", ".join(entity.key)
    proposal = f"ALTER TABLE {table(live.name)} ADD UNIQUE ({', '.join(map(identifier, entity.key))})"
    sound = next((index for index in live.indexes if index.weakness is None), None)
    if sound is not None:
        proposal = f"{sound.name} is unique on {', '.join(map(str, sound.columns))}: take that as key"
    if on_key:
        yield ("key",), f"the unique index {on_key[0].name} on {columns} {on_key[0].weakness}; {proposal}"
    else:
        yield ("key",), f"nothing makes {columns} unique; {proposal}"


def _tenant_findings(entity: Entity, live: LiveTable) -> Iterator[Finding]:
    if entity.tenant is None:
        return
    column = live.column(entity.tenant)
    if column is None:
        yield ("tenant",), f"{no_column(entity.tenant, live)} (or tenant = false: all organizations read all rows)"
    elif column.generation is not None:
        yield ("tenant",), f"{column.name} is a virtual generated column, which deleted rows do not have"
    elif column.is_array:
        yield ("tenant",), f"{column.name} is an array ({column.type.name}), which holds no single organization"
    elif not column.is_ordered:
        yield ("tenant",), f"{column.name} has the type {column.type.name}, which cannot be compared"


def _modified_findings(entity: Entity, live: LiveTable) -> Iterator[Finding]:
    if entity.modified is None:
        return
    column = live.column(entity.modified)
    if column is None:
        yield ("modified",), no_column(entity.modified, live)
    elif not is_instant(column.type):
        sentence = (
            f"{column.name} has the type {column.type.name}; name a timestamptz, timestamp or date, or leave it out"
        )
        yield ("modified",), sentence


def _field_findings(field: Field, live: LiveTable, *, is_open: bool) -> Iterator[Finding]:
    if field.expression is not None:
        used = words_of(field.expression)
        for column in live.columns:
            if column.generation is not None and column.name in used:
                yield ("expression",), f"{_virtual(column)} in place of {column.name}"
        return
    column_name = field.column or ""
    found = live.column(column_name)
    if found is None:
        yield ("column",), no_column(column_name, live)
        return
    if found.generation is not None:
        yield ("column",), f'{_virtual(found)}: expression = "…" in place of column'
    if not is_open:
        yield from type_findings(field, found.type, f"the column {found.name} has the type")


def type_findings(field: Field, type_: ValueType, subject: str) -> Iterator[Finding]:
    """The problems of a field's declared type and format. ``subject`` names the column or expression in sentences."""
    proposed, format_ = field_type(type_)
    if not accepts(field.type, type_):
        yield ("type",), f'{subject} {type_.name}; write type = "{proposed}"'
    elif not accepts_format(field.format, type_):
        hint = f'write format = "{format_}"' if format_ else "leave the format out"
        yield ("format",), f"{subject} {type_.name}; {hint}"


def _left_out_fields_findings(live: LiveTable) -> Iterator[Finding]:
    plain = [camel_case(column.name) for column in live.columns]
    for column, name, unique in zip(live.columns, plain, unique_names(plain, taken=[DELETED_FIELD]), strict=True):
        if name != unique and name.casefold() == DELETED_FIELD:
            sentence = f"the table has a column {column.name}, and every record a field {DELETED_FIELD}"
        elif name != unique:
            sentence = f"the column {column.name} would be a second field {name}"
        else:
            continue
        example = f'{{ name = "{unique}", column = "{column.name}" }}'
        yield ("fields",), f"{sentence}; list the fields, this one as {example}, say"


def _virtual(column: LiveColumn) -> str:
    return (
        f"{column.name} is a virtual generated column, which deleted rows do not have; "
        f"write its expression {column.generation}"
    )


def no_column(name: str, live: LiveTable) -> str:
    """The sentence about a column that the table does not have."""
    hint = did_you_mean(name, [column.name for column in live.columns], what="columns")
    return f"{live.name} has no column {name}; {hint}"


def duplicates_query(entity: Entity, conditions: Sequence[str] = ()) -> str:
    """One row when an organization has some key twice among the rows ``t`` that fulfil the conditions, else none.

    For a table without an index that prevents this: an inheritance child has its own indexes, and its rows may have
    keys of its parent's rows. A consumer holds one record for each key, so it would lose one of the two.
    """
    tenant = (entity.tenant,) if entity.tenant else ()
    columns = ", ".join(f"t.{identifier(name)}" for name in dict.fromkeys((*entity.key, *tenant)))
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT FROM {table(entity.table)} AS t{where} GROUP BY {columns} HAVING pg_catalog.count(*) > 1 LIMIT 1"


def duplicates_sentence(entity: Entity) -> str:
    """The sentence about duplicates, and what to do."""
    columns = ", ".join(map(identifier, entity.key))
    return (
        f"{entity.table} holds several rows with the same key ({columns}), of which a consumer could keep one only. "
        f"Find them: SELECT {columns}, count(*) FROM {table(entity.table)} GROUP BY {columns} HAVING count(*) > 1. "
        "An inheritance child does not share its parent's indexes: give its rows keys of their own, or make it a "
        "partition."
    )


def no_modified(*codes: EntityCode) -> str:
    """The sentence about entities that are to be exported from a start date on, and name no ``modified``."""
    them, entry = ("it", "its entry") if len(codes) == 1 else ("them", "their entries")
    return (
        f"{', '.join(codes)}: the catalog names no column with the time of the last change, so there is no export from "
        f"a start date on. Leave {them} or the start date out, or set `modified` in {entry} of the catalog."
    )
