"""Writes the SQL of one entity's trigger functions, which write its changes into the log. Pure: names and shapes in,
SQL out.

What the functions guarantee, and how:

**The application's write never fails because of us.** ``written_rows`` reads the rows so that no ALTER TABLE can break
the function.

**Nothing in the writer's search_path is trusted.** The functions run with exportd's rights (SECURITY DEFINER). Setting
search_path on them would cost 6% of the writer's throughput, so every name and operator is qualified instead. Rows
become text as anonymous records, for which no role can define a cast.

**One log row per statement and tenant**, not per record: the keys are arrays. A thousand-row UPDATE then costs the
writer a quarter more instead of twice as much. A statement that changed one record, the commonest by far, has a path of
its own with the cheapest plan there is.

**A row or key that is too large for one value** is logged as T. ``written_rows`` measures before anything is fetched or
put together; only a row whose text may be too long is tried in a block that catches the error.

**An update that changes key or tenant** is a D of the old record with its image, beside the U of the new one. The two
transition tables list the records in the same order, so comparing the two arrays of keys decides whether any moved;
only then are they joined. (Were the order ever another, the arrays would differ and the join would decide.)
"""

from collections.abc import Iterator
from dataclasses import dataclass

from exportd.capture.written_rows import (
    LogDefinition,
    is_long_key,
    is_too_long_key,
    keys_may_be_long,
    large_columns,
    record_can_be_tried,
    written_rows,
)
from exportd.catalog.shape import Column, Relation, RelationKind, Shape
from exportd.database.quoting import dollar_quoted, literal, table
from exportd.model.change_log import DOORBELL_CHANNEL, MAX_QUEUE_SHARE, SCHEMA, TENANT_COLUMN
from exportd.model.entity import CaptureLevel, TableName

# Arrays hold at most this many keys, and a long key stands alone: a statement's keys are spread over several log rows,
# so that no array of a huge statement reaches Postgres's limit of 1 GB.
_KEYS_PER_ROW = 10_000

# A column named found or new must not be mistaken for plpgsql's variable of that name.
_USE_COLUMN = "\n#variable_conflict use_column"

# A row's text in a function that has _IMAGE_SETTINGS.
_TEXT = "{row}::pg_catalog.text"

# Stands for the truncated table until the trigger runs. No name can contain a NUL.
_TRUNCATED = "\0"

# With these settings the text of a row does not depend on the writer's session.
_IMAGE_SETTINGS = (
    ("search_path", "pg_catalog, pg_temp"),
    ("datestyle", "ISO, YMD"),
    ("intervalstyle", "postgres"),
    ("timezone", "UTC"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("xmlbinary", "base64"),
)

# For one record. Up to version 17, Postgres keeps what a function in SQL returns in memory up to work_mem, then in a
# temporary file, which temp_file_limit may forbid. Statements that are planned for each record are never worth
# compiling, whatever the writer's jit_above_cost.
_ROW_SETTINGS = (*_IMAGE_SETTINGS, ("work_mem", "1GB"), ("jit", "off"))


@dataclass(frozen=True, slots=True)
class TriggerFunction:
    """A trigger function, with everything that CREATE FUNCTION needs, so that it can be compared with the installed
    one.
    """

    name: str
    body: str
    settings: tuple[tuple[str, str], ...] = ()

    def create(self) -> str:
        """The statements that create or replace it, and keep other roles from calling it."""
        function = f"{table(TableName(SCHEMA, self.name))}()"
        settings = "".join(
            f"SET {name} = {value if name == 'search_path' else literal(value)}\n" for name, value in self.settings
        )
        return (
            f"CREATE OR REPLACE FUNCTION {function} RETURNS trigger\n"
            f"LANGUAGE plpgsql SECURITY DEFINER\n{settings}AS {dollar_quoted(self.body)};\n"
            f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC"
        )


class TriggerFunctions:
    """Writes the trigger functions of an entity whose log is ``log`` and whose table is ``shape``."""

    def __init__(self, log: LogDefinition, shape: Shape) -> None:
        self._log = log
        self._shape = shape
        self._entity = log.entity

    def functions_for(self, member: Relation) -> Iterator[TriggerFunction]:
        """The functions that the triggers of one relation of the tree call."""
        # A partition may have its columns in another order; its images must read like the root's rows.
        reordered = not self._shape.same_layout(member)
        suffix = f"_{member.oid:x}" if reordered else ""
        if self._entity.capture is CaptureLevel.STATEMENT:
            keys = _IMAGE_SETTINGS if self._keys_depend_on_settings() else ()
            yield TriggerFunction(f"{self._log.name}_insert", self._insert_body(), keys)
            update = self._update_body(reordered=reordered)
            yield TriggerFunction(f"{self._log.name}_update{suffix}", update, keys or self._update_settings())
            delete = self._delete_body(reordered=reordered)
            yield TriggerFunction(f"{self._log.name}_delete{suffix}", delete, _IMAGE_SETTINGS)
        # A row trigger of a partitioned table would be cloned to the partitions, which have their own.
        if member.kind is not RelationKind.PARTITIONED:
            row = self._row_body(reordered=reordered)
            yield TriggerFunction(f"{self._log.name}_row{suffix}", row, _ROW_SETTINGS)
            truncate = self._truncate_body(reordered=reordered)
            yield TriggerFunction(f"{self._log.name}_truncate{suffix}", truncate, _IMAGE_SETTINGS)

    def _insert_body(self) -> str:
        return f"""{_USE_COLUMN}
BEGIN
  INSERT INTO {self._log.table} (op, {self._logged()})
  SELECT 'I', {self._one("n")}
  FROM {self._rows("new_rows", "n")}
  WHERE n.known AND NOT EXISTS (SELECT FROM new_rows OFFSET 1);
  IF NOT FOUND THEN
    {self._log_arrays("I")}
  END IF;
  {self._ring()}
  RETURN NULL;
END
"""

    def _update_body(self, *, reordered: bool) -> str:
        # A key that was too long may be short now. If the columns are missing, the new rows show that. The conditions
        # are joined by AND, because with OR the server compares each old row with each new one.
        gone, lost = "o.known", is_too_long_key("o")
        matches = self._same("o", "n")
        if keys_may_be_long(self._log):
            gone, matches = f"({lost} OR {gone})", f"{matches} AND NOT {lost}"
        unmatched = f"""
    WHERE {gone} AND NOT EXISTS (SELECT FROM {self._rows("new_rows", "n")}
                                  WHERE {matches})"""
        return f"""{_USE_COLUMN}
BEGIN
  INSERT INTO {self._log.table} (op, {self._logged()})
  SELECT 'U', {self._one("n")}
  FROM {self._rows("new_rows", "n")},
       {self._rows("old_rows", "o")}
  WHERE {self._same("o", "n")}
    AND n.known AND NOT EXISTS (SELECT FROM new_rows OFFSET 1);
  IF NOT FOUND THEN
    {self._log_arrays("U")}
    IF NOT ({self._none_moved()}) THEN
    {self._log_moved(unmatched, reordered=reordered)}
    END IF;
  END IF;
  {self._ring()}
  RETURN NULL;
END
"""

    def _log_moved(self, unmatched: str, *, reordered: bool) -> str:
        image = "exportd.row_image({row})"
        whole = self._log_images("old_rows", image, reordered=reordered, where=unmatched)
        if reordered or not large_columns(self._shape):
            return whole
        # Join by columns, because a whole row would be built before the join, however large it is. A subquery's row
        # stays a list of columns until it is used, but the server refuses to read a virtual generated column in a
        # transition table.
        parts = self._log_images("(SELECT * FROM old_rows)", image, reordered=reordered, where=unmatched)
        return f"""IF EXISTS (SELECT FROM pg_catalog.pg_attribute AS a WHERE a.attrelid OPERATOR(pg_catalog.=) TG_RELID
               AND a.attgenerated OPERATOR(pg_catalog.=) 'v' AND NOT a.attisdropped) THEN
    {whole}
    ELSE
    {parts}
    END IF;"""

    def _delete_body(self, *, reordered: bool) -> str:
        return f"""{_USE_COLUMN}
BEGIN
  {self._log_images("old_rows", _TEXT, reordered=reordered)}
  {self._ring()}
  RETURN NULL;
END
"""

    def _truncate_body(self, *, reordered: bool) -> str:
        # The table is named at run time, so that it may be renamed. It is read only when that runs none of its owner's
        # code, which would have our rights; runs_no_foreign_code says when. Nor at REPEATABLE READ, where the
        # transaction's snapshot may hold rows that have changed since, and lack some that TRUNCATE removes.
        images = self._log_images(f"(SELECT * FROM ONLY {_TRUNCATED})", _TEXT, reordered=reordered)
        before, after = images.removesuffix(";").split(_TRUNCATED)
        return f"""{_USE_COLUMN}
BEGIN
  IF pg_catalog.has_schema_privilege(TG_TABLE_SCHEMA, 'USAGE') AND pg_catalog.has_table_privilege(TG_RELID, 'SELECT')
     AND exportd.runs_no_foreign_code(TG_RELID) THEN
    EXECUTE {literal(before)} || TG_RELID::pg_catalog.regclass::pg_catalog.text || {literal(after)};
  ELSE
    INSERT INTO {self._log.table} (op) VALUES ('T');
  END IF;
  {self._ring()}
  RETURN NULL;
END
"""

    def _row_body(self, *, reordered: bool) -> str:
        """The body of a row trigger: for the worker of a subscription, or for all writers if the catalog asks for it.

        The statements are planned each time, because a plan that expands a row variable does not notice ALTER TABLE.
        """
        moved = f"""
    WHERE NOT EXISTS (SELECT FROM {self._rows("(SELECT ($2).*)", "n")}
                      WHERE {self._same("o", "n")})"""
        tenant = f", CASE WHEN n.known THEN n.{TENANT_COLUMN} END" if self._entity.tenant else ""
        written = f"""INSERT INTO {self._log.table} (op, {self._logged()})
    SELECT CASE WHEN n.known THEN 'U' ELSE 'T' END::pg_catalog."char", {self._known_keys("n")}{tenant}
    FROM {self._rows("(SELECT ($1).*)", "n")}"""
        moved_away = self._log_images("(SELECT ($1).*)", _TEXT, reordered=reordered, where=moved)
        gone = self._log_images("(SELECT ($1).*)", _TEXT, reordered=reordered)
        return f"""{_USE_COLUMN}
BEGIN
  {self._unless_too_large()} TG_OP = 'DELETE' THEN
    EXECUTE {literal(gone)} USING OLD;
  ELSE
    EXECUTE {literal(written)} USING NEW;
    IF TG_OP = 'UPDATE' THEN
      EXECUTE {literal(moved_away)} USING OLD, NEW;
    END IF;
  END IF;
  {self._ring()}
  RETURN NULL;
END
"""

    def _update_settings(self) -> tuple[tuple[str, str], ...]:
        """The settings of images, where keys are compared as text that depends on the session. They cost a little
        time.
        """
        return _IMAGE_SETTINGS if any(column.spelling_depends_on_session for column in self._log.shapes) else ()

    def _unless_too_large(self) -> str:
        """The IF of a row trigger that logs a T for a record that is too large to be passed on.

        OLD and NEW are NULL, and so are their sizes, in triggers of INSERT and DELETE.
        """
        if not large_columns(self._shape):
            return "IF"
        return f"""IF NOT ({record_can_be_tried("OLD")} AND {record_can_be_tried("NEW")}) THEN
    INSERT INTO {self._log.table} (op) VALUES ('T');
  ELSIF"""

    # --- fragments of the functions --------------------------------------------------------------------------------

    def _rows(self, source: str, alias: str, *, reordered: bool = False, measured: bool = False) -> str:
        return written_rows(self._log, self._shape, source, alias, reordered=reordered, measured=measured)

    def _keys_depend_on_settings(self) -> bool:
        """Whether a key or tenant is logged as a text that the writer's session might spell otherwise."""
        return any(
            column.is_logged_as_text and column.base_kind != "e" and not column.base_type.endswith(".citext")
            for column in self._log.shapes
        )

    def _logged(self, *others: str) -> str:
        """The log's columns for one record or statement: its keys and tenant, and ``others``."""
        return ", ".join([*self._log.keys, *([TENANT_COLUMN] if self._entity.tenant else []), *others])

    def _one(self, alias: str) -> str:
        """One record's keys and tenant, as the log holds them."""
        keys = [f"ARRAY[{alias}.{key}]" for key in self._log.keys]
        return ", ".join([*keys, f"{alias}.{TENANT_COLUMN}"] if self._entity.tenant else keys)

    def _same(self, one: str, other: str) -> str:
        """Whether two records have the same key and tenant. Hashable on the key."""
        conditions = [
            f"{_comparable(f'{one}.{key}', column)} OPERATOR(pg_catalog.=) {_comparable(f'{other}.{key}', column)}"
            for key, column in zip(self._log.keys, self._log.key_shapes, strict=True)
        ]
        if self._log.tenant_shape:
            left, right = f"{one}.{TENANT_COLUMN}", f"{other}.{TENANT_COLUMN}"
            equal = (
                f"{_comparable(left, self._log.tenant_shape)} OPERATOR(pg_catalog.=) "
                f"{_comparable(right, self._log.tenant_shape)} AND {left} IS NOT NULL AND {right} IS NOT NULL"
            )
            conditions.append(f"({equal} OR {left} IS NULL AND {right} IS NULL)")
        return " AND ".join(conditions)

    def _ring(self) -> str:
        # Expressions, which plpgsql evaluates without a query. NULL before the doorbell is armed for the first time.
        # The queue is looked at only while the doorbell is armed.
        return f"""IF pg_catalog.pg_sequence_last_value('exportd.doorbell'::pg_catalog.regclass)::pg_catalog.float8
     OPERATOR(pg_catalog.>) pg_catalog.date_part('epoch', pg_catalog.now())
     AND pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) {MAX_QUEUE_SHARE}::pg_catalog.float8 THEN
    PERFORM pg_catalog.pg_notify({literal(DOORBELL_CHANNEL)}, {literal(self._entity.code)});
  END IF;"""

    def _log_arrays(self, op: str) -> str:
        """Log all rows of new_rows, with their keys in arrays: one log row per tenant and 10,000 keys."""
        arrays = [f"pg_catalog.array_agg({self._known_key('n', key)})" for key in self._log.keys]
        part = f"n.position OPERATOR(pg_catalog./) {_KEYS_PER_ROW}"
        if keys_may_be_long(self._log):
            part = f"CASE WHEN {is_long_key('n')} THEN OPERATOR(pg_catalog.-) n.position ELSE {part} END"
        groups = ["n.known", part]
        if self._entity.tenant:
            arrays.append(f"CASE WHEN n.known THEN n.{TENANT_COLUMN} END")
            groups.append(f"n.{TENANT_COLUMN}")
        return f"""INSERT INTO {self._log.table} (op, {self._logged()})
    SELECT CASE WHEN n.known THEN {literal(op)} ELSE 'T' END::pg_catalog."char", {", ".join(arrays)}
    FROM (SELECT n.*, pg_catalog.row_number() OVER () AS position
          FROM {self._rows("new_rows", "n")}) AS n
    GROUP BY {", ".join(groups)};"""

    def _none_moved(self) -> str:
        """Whether both transition tables have few rows, and the same keys and tenants."""
        compared = [
            (key, _comparable(f"r.{key}", shape))
            for key, shape in zip(self._log.keys, self._log.key_shapes, strict=True)
        ]
        if self._log.tenant_shape:
            compared.append((TENANT_COLUMN, _comparable(f"r.{TENANT_COLUMN}", self._log.tenant_shape)))
            if not _is_comparable(self._log.tenant_shape):
                compared.append(("no_tenant", f"r.{TENANT_COLUMN} IS NULL"))

        def arrays(source: str, alias: str) -> str:
            gathered = ", ".join(f"pg_catalog.array_agg({value}) AS {name}" for name, value in compared)
            return f"(SELECT {gathered} FROM {self._rows(source, 'r')}) AS {alias}"

        equal = " AND ".join(f"n.{name} OPERATOR(pg_catalog.=) o.{name}" for name, _ in compared)
        short = ""
        if keys_may_be_long(self._log):
            short = "".join(
                f"\n       AND NOT EXISTS (SELECT FROM {self._rows(source, 'r')} WHERE {is_long_key('r')})"
                for source in ("new_rows", "old_rows")
            )
        return f"""NOT EXISTS (SELECT FROM new_rows OFFSET {_KEYS_PER_ROW}){short}
       AND EXISTS (SELECT FROM {arrays("new_rows", "n")},
                   {arrays("old_rows", "o")}
                   WHERE {equal})"""

    def _log_images(self, source: str, image: str, *, reordered: bool, where: str = "") -> str:
        """Log rows as deleted, each with its image; as T if the key or tenant is unknown, or the image is too long.

        ``image`` is the expression that turns ``{row}`` into text.
        """
        tenant = f", CASE WHEN o.known THEN o.{TENANT_COLUMN} END" if self._entity.tenant else ""
        told, text = "o.known", image.format(row="o.row")
        rows = f"{self._rows(source, 'o', reordered=reordered, measured=bool(large_columns(self._shape)))}{where}"
        if large_columns(self._shape):
            # Each image is made once. OFFSET 0 keeps it from being made again for each of its uses.
            columns = ", ".join(f"o.{column}" for column in (*self._logged().split(", "), "known"))
            careful = "CASE WHEN o.can_be_tried THEN exportd.large_row_image(o.row) END"
            made = f"CASE WHEN o.known THEN CASE WHEN o.may_be_large THEN {careful} ELSE {text} END END"
            rows = f"(SELECT {columns}, {made} AS image\n    FROM {rows} OFFSET 0) AS o"
            told, text = f"o.known AND {self._has_image()}", "o.image"
        return f"""INSERT INTO {self._log.table} (seq, op, {self._logged("image")})
    SELECT pg_catalog.nextval({literal(self._log.sequence)}::pg_catalog.regclass),
           CASE WHEN {told} THEN 'D' ELSE 'T' END::pg_catalog."char", {self._known_keys("o")}{tenant}, {text}
    FROM {rows};"""

    def _has_image(self) -> str:
        """Whether the record has a tenant. Without one it is in no file, and a T without a tenant would concern every
        organization.
        """
        return f"(o.image IS NOT NULL OR o.{TENANT_COLUMN} IS NULL)" if self._entity.tenant else "o.image IS NOT NULL"

    def _known_keys(self, alias: str) -> str:
        return ", ".join(f"ARRAY[{self._known_key(alias, key)}]" for key in self._log.keys)

    def _known_key(self, alias: str, key: str) -> str:
        """The key, or NULL where it is unknown: it may be too long for the log."""
        long = keys_may_be_long(self._log)
        return f"CASE WHEN {alias}.known THEN {alias}.{key} END" if long else f"{alias}.{key}"


def _is_comparable(column: Column) -> bool:
    return column.is_logged_as_text or column.equal_means_alike


def _comparable(value: str, column: Column) -> str:
    """The value, such that two values are equal when they are written alike. Types that are not Postgres's own are
    logged as text.

    To the consumer of a file, Bob and bob are two keys, whatever the column's type or collation thinks.
    """
    if _is_comparable(column):
        return value
    return f'pg_catalog.concat({value}) COLLATE pg_catalog."C"'
