"""The SQL of one entity's change log: its table, sequence and index. Pure: names and shapes in, SQL out.

The log has one row for each statement and tenant: ``op`` is I, U or D, or T where the changed records are unknown (the
entity's next run is full then). ``key_1``… are arrays, one element for each changed record. A D has one record only and
its ``image``, the deleted row as text; ``seq`` orders the images of a key.

Keys and tenants have their own types, except those that are not Postgres's own, and arrays: these are logged as text.
Nothing of ours may depend on a type of the application, which would no longer be able to drop it.
"""

from collections.abc import Iterator

from exportd.catalog.shape import Column, Relation, Shape
from exportd.database.quoting import table
from exportd.model.change_log import SCHEMA, TENANT_COLUMN, key_columns, log_name, log_table
from exportd.model.entity import Entity, TableName
from exportd.model.errors import PermanentError, Reason


class LogDefinition:
    """What an entity's log is called and holds.

    ``name`` is bare, ``table`` and ``sequence`` are quoted for SQL. ``keys`` are the log's key columns; ``key_shapes``
    and ``tenant_shape`` the columns of the entity's table that they are made from. Raises PermanentError when the table
    does not have them, or the tenant is an array.
    """

    def __init__(self, entity: Entity, shape: Shape) -> None:
        self.entity = entity
        self.name = log_name(entity.code)
        self.table = table(log_table(entity.code))
        self.sequence = table(_sequence_of(self.name))
        self.keys = key_columns(entity)
        self.key_shapes = [_present(shape.root, name) for name in entity.key]
        self.tenant_shape = _present(shape.root, entity.tenant) if entity.tenant else None
        if self.tenant_shape and self.tenant_shape.element_type:
            raise PermanentError(
                f"The column {entity.tenant} of {shape.root.name} is an array, which holds no single organization. "
                "Correct the catalog.",
                reason=Reason.CATALOG_MISMATCH,
            )

    def columns(self) -> Iterator[tuple[str, str]]:
        """The columns by name and type, as an installed log is compared with them."""
        yield "seq", "bigint"
        yield "xid", "xid8"
        yield "op", '"char"'
        for name, column in zip(self.keys, self.key_shapes, strict=True):
            yield name, f"{logged_type(column)}[]"
        if self.tenant_shape:
            yield TENANT_COLUMN, logged_type(self.tenant_shape)
        yield "image", "text"

    def create(self) -> str:
        """The statements that create the table and its sequence."""
        columns = [
            # Orders the images of a key. CACHE 1: a session must not hold numbers back while another deletes the key.
            "seq bigint",
            "xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id()",
            'op pg_catalog."char" NOT NULL',
            *(
                f"{name} {logged_type(column)}[]{_collate(column)}"
                for name, column in zip(self.keys, self.key_shapes, strict=True)
            ),
        ]
        if self.tenant_shape:
            columns.append(f"{TENANT_COLUMN} {logged_type(self.tenant_shape)}{_collate(self.tenant_shape)}")
        columns.append("image text")
        # Long arrays go out of line uncompressed: compressing keys costs the writer time for nothing.
        storage = "".join(f"ALTER TABLE {self.table} ALTER {name} SET STORAGE EXTERNAL;\n" for name in self.keys)
        # Rows are only inserted and, in batches, deleted: vacuum by inserts and soon, so that space is reused.
        return (
            f"CREATE TABLE {self.table} (\n    " + ",\n    ".join(columns) + "\n) WITH (\n"
            "    autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.1,\n"
            "    autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0\n);\n"
            f"{storage}"
            f"CREATE SEQUENCE {self.sequence} CACHE 1 OWNED BY {self.table}.seq"
        )

    def create_index(self) -> str:
        """The statement that creates the index by which windows find their rows."""
        # A tenant of an extension's type, such as citext, is compared as that type: an index on text is of no use.
        tenant = self.tenant_shape
        by_tenant = tenant is not None and not (tenant.is_user_defined and tenant.base_kind == "b")
        indexed = f"{TENANT_COLUMN}, xid" if by_tenant else "xid"
        return f"CREATE INDEX ON {self.table} ({indexed})"


def logged_type(column: Column) -> str:
    """The type of the column's values in the log."""
    return "text" if column.is_logged_as_text else column.type_name


def _sequence_of(log: str) -> TableName:
    """The sequence of a log (bare name). Not log_…_seq, which may be the log of another entity."""
    return TableName(SCHEMA, log.replace("log_", "seq_", 1))


def _present(root: Relation, name: str) -> Column:
    column = root.column(name)
    if column is None:
        raise PermanentError(
            f"{root.name} has no column {name}, which the catalog names as key or tenant column.",
            reason=Reason.CATALOG_MISMATCH,
        )
    return column


def _collate(column: Column) -> str:
    return f" COLLATE {column.collation}" if column.collation and not column.is_logged_as_text else ""
