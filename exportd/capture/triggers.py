"""The SQL of one entity's capture: its log, its trigger functions, its triggers. Pure: names and shapes in, SQL out.

What the functions promise, and how:

**The application's write never fails because of us.** A renamed, dropped or retyped column must not break a trigger
function, and catching an exception would cost every statement a subtransaction. So the columns are fetched in a way
that always parses: SQL looks an unqualified name up in the innermost FROM first and in outer ones after, so
``SELECT "id" FROM (SELECT r.*) AS present`` finds the row's column where it exists and otherwise the column of the same
name in ``absent``, a subquery around it whose columns have the type ``exportd.absent``. The value then goes through
``exportd.log_…_key_1(value)``, which exists twice: for the key's own type it returns the value, for anything else NULL.
The planner inlines all of it away. A row whose key or tenant cannot be told is logged as T, which makes the entity's
next run full. (Each of the two takes the value twice, and a constant whose type decides for the second unless the
first fits exactly. Otherwise a column whose new type has an implicit cast to the old, as text has to varchar, would fit
both, and the write would fail.)

**Nothing in the writer's search_path is believed.** The functions run with our rights (SECURITY DEFINER); setting
search_path on them would cost 6% of the writer's throughput, so instead every name and operator is qualified. Rows
become text as anonymous records, for which nobody can define a cast.

**One log row per statement and tenant**, not per record: the keys are arrays. A thousand-row UPDATE then costs the
writer a quarter more instead of twice as much. A statement that changed one record, the commonest by far, has a path of
its own with the cheapest plan there is.

**An update that changes key or tenant** is a D of the old record with its image, beside the U of the new one. The two
transition tables list the records in the same order, so comparing the two arrays of keys decides whether any moved;
only then are they joined. (Were the order ever another, the arrays would differ and the join would decide.)
"""

from collections.abc import Iterator
from dataclasses import dataclass

from exportd.catalog.shape import Column, Kind, Relation, Shape
from exportd.database.quoting import dollar_quoted, identifier, literal, table
from exportd.model.change_log import DOORBELL_CHANNEL, SCHEMA, TENANT_COLUMN, key_columns, log_name, log_table
from exportd.model.entity import Entity, TableName
from exportd.model.errors import PermanentError
from exportd.model.reason import Reason

# Arrays hold at most this many keys: beyond it a statement's keys are spread over several log rows, so that no array
# of a huge statement reaches Postgres's limit of 1 GB.
_KEYS_PER_ROW = 10_000

# A column named found or new must not be taken for plpgsql's variable of that name.
_USE_COLUMN = "\n#variable_conflict use_column"

# Stands for the truncated table until the trigger runs. No name can hold a NUL.
_TRUNCATED = "\0"

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


@dataclass(frozen=True, slots=True)
class TriggerFunction:
    """A trigger function: everything CREATE FUNCTION needs, so that it can be compared with what is installed."""

    name: str
    body: str
    settings: tuple[tuple[str, str], ...] = ()

    def create(self) -> str:
        function = f"{table(TableName(SCHEMA, self.name))}()"
        settings = "".join(
            f"SET {name} = {value if name == 'search_path' else literal(value)}\n" for name, value in self.settings
        )
        return (
            f"CREATE OR REPLACE FUNCTION {function} RETURNS trigger\n"
            f"LANGUAGE plpgsql SECURITY DEFINER\n{settings}AS {dollar_quoted(self.body)};\n"
            f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC"
        )


@dataclass(frozen=True, slots=True)
class PassingFunction:
    """One of the two functions that fetch a column: for its own type, or for every other (see the top)."""

    name: str
    arguments: str
    result: str
    body: str

    def create(self) -> str:
        return (
            f"CREATE OR REPLACE FUNCTION {table(TableName(SCHEMA, self.name))}({self.arguments}) "
            f"RETURNS {self.result} LANGUAGE sql IMMUTABLE PARALLEL SAFE AS {literal(self.body)}"
        )


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger on one relation.

    ``clause`` is what stands before FOR EACH, ``level`` STATEMENT or ROW, ``fires`` both as pg_trigger.tgtype has it.
    """

    name: str
    relation: TableName
    clause: str
    function: str
    level: str
    fires: int

    def create(self) -> str:
        """Create it, firing also under session_replication_role = replica."""
        relation = table(self.relation)
        return (
            f"CREATE OR REPLACE TRIGGER {identifier(self.name)} {self.clause.format(relation=relation)} "
            f"FOR EACH {self.level} EXECUTE FUNCTION {table(TableName(SCHEMA, self.function))}();\n"
            f"ALTER TABLE {relation} ENABLE ALWAYS TRIGGER {identifier(self.name)}"
        )


@dataclass(frozen=True, slots=True)
class Capture:
    """Everything that captures one entity's changes."""

    log: str
    log_columns: tuple[tuple[str, str], ...]
    log_index: str
    passing_functions: tuple[PassingFunction, ...]
    functions: tuple[TriggerFunction, ...]
    triggers: tuple[Trigger, ...]

    def hand_over(self, log: TableName, role: str) -> tuple[str, ...]:
        """What gives the log and the functions to a role, when another has made them: they run with their owner's
        rights.
        """
        owner = f"OWNER TO {identifier(role)}"
        functions = [f"{table(TableName(SCHEMA, function.name))}()" for function in self.functions]
        functions += [
            f"{table(TableName(SCHEMA, passing_function.name))}({passing_function.arguments})"
            for passing_function in self.passing_functions
        ]
        return (f"ALTER TABLE {table(log)} {owner}", *(f"ALTER FUNCTION {function} {owner}" for function in functions))


def capture_of(entity: Entity, shape: Shape) -> Capture:
    """What must stand in the database so that the entity's changes are captured.

    Statement triggers fire for the table that a statement names, so a tree needs them on every table of it, all
    writing to the one log. Row triggers only where a logical replication subscription writes: its worker fires no
    others.
    """
    return _Writer(entity, shape).capture()


class _Writer:
    def __init__(self, entity: Entity, shape: Shape) -> None:
        self._entity = entity
        self._shape = shape
        self._name = log_name(entity.code)
        self._log = table(log_table(entity.code))
        self._sequence = table(sequence_of(self._name))
        self._keys = key_columns(entity)
        root = shape.root
        self._key_shapes = [_present(root, name) for name in entity.key]
        self._tenant_shape = _present(root, entity.tenant) if entity.tenant else None

    def capture(self) -> Capture:
        functions: list[TriggerFunction] = []
        triggers: list[Trigger] = []
        for member in self._shape.relations:
            own = list(self._functions_for(member))
            functions.extend(each for each in own if each not in functions)
            triggers.extend(self._triggers_for(member, {each.name for each in own}))
        return Capture(
            log=self._create_log(),
            log_columns=tuple(self._log_columns()),
            log_index=self._create_index(),
            passing_functions=tuple(self._passing_functions()),
            functions=tuple(functions),
            triggers=tuple(triggers),
        )

    # --- the log ------------------------------------------------------------------------------------------------

    def _log_columns(self) -> Iterator[tuple[str, str]]:
        yield "seq", "bigint"
        yield "xid", "xid8"
        yield "op", '"char"'
        for name, column in zip(self._keys, self._key_shapes, strict=True):
            yield name, f"{column.type_name}[]"
        if self._tenant_shape:
            yield TENANT_COLUMN, self._tenant_shape.type_name
        yield "image", "text"

    def _create_log(self) -> str:
        columns = [
            # Orders the images of a key. CACHE 1: a session must not hold numbers back while another deletes the key.
            "seq bigint",
            "xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id()",
            'op pg_catalog."char" NOT NULL',
            *(
                f"{name} {column.type_name}[]{_collate(column)}"
                for name, column in zip(self._keys, self._key_shapes, strict=True)
            ),
        ]
        if self._tenant_shape:
            columns.append(f"{TENANT_COLUMN} {self._tenant_shape.type_name}{_collate(self._tenant_shape)}")
        columns.append("image text")
        # Long arrays go out of line uncompressed: compressing keys costs the writer time for nothing.
        storage = "".join(f"ALTER TABLE {self._log} ALTER {name} SET STORAGE EXTERNAL;\n" for name in self._keys)
        # Rows are only inserted and, in batches, deleted: vacuum by inserts and soon, so that space is reused.
        return (
            f"CREATE TABLE {self._log} (\n    " + ",\n    ".join(columns) + "\n) WITH (\n"
            "    autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.1,\n"
            "    autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0\n);\n"
            f"{storage}"
            f"CREATE SEQUENCE {self._sequence} CACHE 1 OWNED BY {self._log}.seq"
        )

    def _create_index(self) -> str:
        indexed = f"{TENANT_COLUMN}, xid" if self._tenant_shape else "xid"
        return f"CREATE INDEX ON {self._log} ({indexed})"

    def _passing_functions(self) -> Iterator[PassingFunction]:
        # The NULL has its type from the log. Naming the type would trust the writer's search_path, and break when an
        # extension moves to another schema.
        for name, column in zip(self._keys, self._key_shapes, strict=True):
            null = f"((NULL::{self._log}).{name})[1]"
            yield from _overloads(f"{self._name}_{name}", column.type_name, column.type_name, "$1", null)
        if self._tenant_shape:
            argument = self._tenant_shape.type_name
            null = f"(NULL::{self._log}).{TENANT_COLUMN}"
            yield from _overloads(f"{self._name}_{TENANT_COLUMN}", argument, argument, "$1", null)
            yield from _overloads(f"{self._name}_has_tenant", argument, "pg_catalog.bool", "true", "false")

    # --- fragments of the trigger functions ---------------------------------------------------------------------

    def _rows(self, source: str, alias: str, *, reordered: bool = False) -> str:
        """Rows of ``source`` as (key_1…, tenant, known, row), by the fetch that always parses.

        ``row`` is the whole row as an anonymous record, which the rows of transition tables and subqueries are (those
        of a table are not); with ``reordered``, its columns in the root table's order. ROW(written.*) would be the
        same, but the server refuses to read a virtual generated column in a transition table.
        """
        own = [*self._entity.key, *([self._entity.tenant] if self._entity.tenant else [])]
        columns = [column.name for column in self._shape.root.columns if not column.is_virtual] if reordered else []
        absent = ", ".join(f"NULL::exportd.absent AS {identifier(name)}" for name in dict.fromkeys([*own, *columns]))
        fetched = [
            f"{self._passed(key, name)} AS {key}" for key, name in zip(self._keys, self._entity.key, strict=True)
        ]
        known = [f"fetched.{key} IS NOT NULL" for key in self._keys]
        if self._entity.tenant:
            fetched.append(f"{self._passed(TENANT_COLUMN, self._entity.tenant)} AS {TENANT_COLUMN}")
            fetched.append(f"{self._passed('has_tenant', self._entity.tenant)} AS has_tenant")
            known.append("fetched.has_tenant")
        if reordered:
            values = ("NULL" if column.is_virtual else identifier(column.name) for column in self._shape.root.columns)
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

    def _passed(self, function: str, column: str) -> str:
        value = identifier(column)
        return f"{table(TableName(SCHEMA, f'{self._name}_{function}'))}({value}, {value}, 1)"

    def _logged(self, *others: str) -> str:
        """The log's columns for one record or statement: its keys and tenant, and ``others``."""
        return ", ".join([*self._keys, *([TENANT_COLUMN] if self._entity.tenant else []), *others])

    def _one(self, alias: str) -> str:
        """One record's keys and tenant, as the log holds them."""
        keys = [f"ARRAY[{alias}.{key}]" for key in self._keys]
        return ", ".join([*keys, f"{alias}.{TENANT_COLUMN}"] if self._entity.tenant else keys)

    def _same(self, one: str, other: str) -> str:
        """Whether two records have the same key and tenant. Hashable on the key."""
        conditions = [
            f"{_comparable(f'{one}.{key}', column)} OPERATOR(pg_catalog.=) {_comparable(f'{other}.{key}', column)}"
            for key, column in zip(self._keys, self._key_shapes, strict=True)
        ]
        if self._tenant_shape:
            left, right = f"{one}.{TENANT_COLUMN}", f"{other}.{TENANT_COLUMN}"
            equal = (
                f"{_comparable(left, self._tenant_shape)} OPERATOR(pg_catalog.=) "
                f"{_comparable(right, self._tenant_shape)} AND {left} IS NOT NULL AND {right} IS NOT NULL"
            )
            conditions.append(f"({equal} OR {left} IS NULL AND {right} IS NULL)")
        return " AND ".join(conditions)

    def _ring(self) -> str:
        # Expressions, which plpgsql evaluates without a query. NULL before the doorbell is armed for the first time.
        return f"""IF pg_catalog.pg_sequence_last_value('exportd.doorbell'::pg_catalog.regclass)::pg_catalog.float8
     OPERATOR(pg_catalog.>) pg_catalog.date_part('epoch', pg_catalog.now()) THEN
    PERFORM pg_catalog.pg_notify({literal(DOORBELL_CHANNEL)}, {literal(self._entity.code)});
  END IF;"""

    def _log_arrays(self, op: str) -> str:
        """Log all of new_rows, their keys gathered into arrays: a log row per tenant (and 10,000 keys)."""
        arrays = [f"pg_catalog.array_agg(n.{key})" for key in self._keys]
        groups = ["n.known", f"n.position OPERATOR(pg_catalog./) {_KEYS_PER_ROW}"]
        if self._entity.tenant:
            arrays.append(f"CASE WHEN n.known THEN n.{TENANT_COLUMN} END")
            groups.append(f"n.{TENANT_COLUMN}")
        return f"""INSERT INTO {self._log} (op, {self._logged()})
    SELECT CASE WHEN n.known THEN {literal(op)} ELSE 'T' END::pg_catalog."char", {", ".join(arrays)}
    FROM (SELECT n.*, pg_catalog.row_number() OVER () AS position
          FROM {self._rows("new_rows", "n")}) AS n
    GROUP BY {", ".join(groups)};"""

    def _none_moved(self) -> str:
        """Few rows, and the same keys and tenants in both transition tables."""
        compared = [
            (key, _comparable(f"r.{key}", shape)) for key, shape in zip(self._keys, self._key_shapes, strict=True)
        ]
        if self._tenant_shape:
            compared.append((TENANT_COLUMN, _comparable(f"r.{TENANT_COLUMN}", self._tenant_shape)))
            if not self._tenant_shape.equal_means_alike:
                compared.append(("no_tenant", f"r.{TENANT_COLUMN} IS NULL"))

        def arrays(source: str, alias: str) -> str:
            gathered = ", ".join(f"pg_catalog.array_agg({value}) AS {name}" for name, value in compared)
            return f"(SELECT {gathered} FROM {self._rows(source, 'r')}) AS {alias}"

        equal = " AND ".join(f"n.{name} OPERATOR(pg_catalog.=) o.{name}" for name, _ in compared)
        return f"""NOT EXISTS (SELECT FROM new_rows OFFSET {_KEYS_PER_ROW})
       AND EXISTS (SELECT FROM {arrays("new_rows", "n")},
                   {arrays("old_rows", "o")}
                   WHERE {equal})"""

    def _log_images(self, source: str, image: str, *, reordered: bool, where: str = "") -> str:
        """Log rows as gone, each with its image; rows that cannot be told apart as T."""
        tenant = f", CASE WHEN o.known THEN o.{TENANT_COLUMN} END" if self._entity.tenant else ""
        keys = ", ".join(f"ARRAY[o.{key}]" for key in self._keys)
        return f"""INSERT INTO {self._log} (seq, op, {self._logged("image")})
    SELECT pg_catalog.nextval({literal(self._sequence)}::pg_catalog.regclass),
           CASE WHEN o.known THEN 'D' ELSE 'T' END::pg_catalog."char", {keys}{tenant}, {image}
    FROM {self._rows(source, "o", reordered=reordered)}{where};"""

    # --- the trigger functions ----------------------------------------------------------------------------------

    def _functions_for(self, member: Relation) -> Iterator[TriggerFunction]:
        # A partition may have its columns in another order; its images must read like the root's rows.
        reordered = not self._shape.same_layout(member)
        suffix = f"_{member.oid:x}" if reordered else ""
        if self._shape.subscribed:
            # A row trigger of a partitioned table would be cloned to the partitions, which have their own.
            if member.kind is not Kind.PARTITIONED:
                row = self._row_body(reordered=reordered)
                yield TriggerFunction(f"{self._name}_row{suffix}", row, _IMAGE_SETTINGS)
        else:
            yield TriggerFunction(f"{self._name}_insert", self._insert_body())
            yield TriggerFunction(f"{self._name}_update{suffix}", self._update_body(reordered=reordered))
            delete = self._delete_body(reordered=reordered)
            yield TriggerFunction(f"{self._name}_delete{suffix}", delete, _IMAGE_SETTINGS)
        if member.kind is not Kind.PARTITIONED:
            truncate = self._truncate_body(reordered=reordered)
            yield TriggerFunction(f"{self._name}_truncate{suffix}", truncate, _IMAGE_SETTINGS)

    def _insert_body(self) -> str:
        return f"""{_USE_COLUMN}
BEGIN
  INSERT INTO {self._log} (op, {self._logged()})
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
        unmatched = f"""
    WHERE o.known AND NOT EXISTS (SELECT FROM {self._rows("new_rows", "n")}
                                  WHERE {self._same("o", "n")})"""
        return f"""{_USE_COLUMN}
BEGIN
  INSERT INTO {self._log} (op, {self._logged()})
  SELECT 'U', {self._one("n")}
  FROM {self._rows("new_rows", "n")},
       {self._rows("old_rows", "o")}
  WHERE {self._same("o", "n")}
    AND n.known AND NOT EXISTS (SELECT FROM new_rows OFFSET 1);
  IF NOT FOUND THEN
    {self._log_arrays("U")}
    IF NOT ({self._none_moved()}) THEN
    {self._log_images("old_rows", "exportd.row_image(o.row)", reordered=reordered, where=unmatched)}
    END IF;
  END IF;
  {self._ring()}
  RETURN NULL;
END
"""

    def _delete_body(self, *, reordered: bool) -> str:
        return f"""{_USE_COLUMN}
BEGIN
  {self._log_images("old_rows", "o.row::pg_catalog.text", reordered=reordered)}
  {self._ring()}
  RETURN NULL;
END
"""

    def _truncate_body(self, *, reordered: bool) -> str:
        # The table is named at run time, so that it may be renamed. T when images may be missing: at REPEATABLE READ
        # the transaction does not see rows committed after its snapshot, though TRUNCATE removes them; and our own
        # rights or a row security policy may hide rows.
        images = self._log_images(f"(SELECT * FROM ONLY {_TRUNCATED})", "o.row::pg_catalog.text", reordered=reordered)
        before, after = images.removesuffix(";").split(_TRUNCATED)
        return f"""{_USE_COLUMN}
DECLARE
  readable pg_catalog.bool := pg_catalog.has_schema_privilege(TG_TABLE_SCHEMA, 'USAGE')
    AND pg_catalog.has_table_privilege(TG_RELID, 'SELECT');
BEGIN
  IF readable THEN
    EXECUTE {literal(before)} || TG_RELID::pg_catalog.regclass::pg_catalog.text || {literal(after)};
  END IF;
  IF NOT readable OR pg_catalog.row_security_active(TG_RELID)
     OR pg_catalog.current_setting('transaction_isolation') <> 'read committed' THEN
    INSERT INTO {self._log} (op) VALUES ('T');
  END IF;
  {self._ring()}
  RETURN NULL;
END
"""

    def _row_body(self, *, reordered: bool) -> str:
        """For each row, where a subscription's worker writes.

        The statements are planned anew each time: a plan that expands a row variable does not notice ALTER TABLE.
        """
        moved = f"""
    WHERE NOT EXISTS (SELECT FROM {self._rows("(SELECT ($2).*)", "n")}
                      WHERE {self._same("o", "n")})"""
        tenant = f", CASE WHEN n.known THEN n.{TENANT_COLUMN} END" if self._entity.tenant else ""
        keys = ", ".join(f"ARRAY[n.{key}]" for key in self._keys)
        image = "o.row::pg_catalog.text"
        written = f"""INSERT INTO {self._log} (op, {self._logged()})
    SELECT CASE WHEN n.known THEN 'U' ELSE 'T' END::pg_catalog."char", {keys}{tenant}
    FROM {self._rows("(SELECT ($1).*)", "n")}"""
        moved_away = self._log_images("(SELECT ($1).*)", image, reordered=reordered, where=moved)
        gone = self._log_images("(SELECT ($1).*)", image, reordered=reordered)
        return f"""{_USE_COLUMN}
BEGIN
  IF TG_OP = 'DELETE' THEN
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

    # --- the triggers -------------------------------------------------------------------------------------------

    def _triggers_for(self, member: Relation, functions: set[str]) -> Iterator[Trigger]:
        stem = f"exportd_{self._entity.code.lower()}"
        for function in sorted(functions):
            event = function.removeprefix(f"{self._name}_").split("_")[0]
            clause, level, fires = _CLAUSES[event]
            yield Trigger(f"{stem}_{event}", member.name, clause, function, level, fires)


_ROW, _BEFORE, _INSERT, _DELETE, _UPDATE, _TRUNCATE = 1, 2, 4, 8, 16, 32
_CLAUSES = {
    "insert": ("AFTER INSERT ON {relation} REFERENCING NEW TABLE AS new_rows", "STATEMENT", _INSERT),
    "update": (
        "AFTER UPDATE ON {relation} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
        "STATEMENT",
        _UPDATE,
    ),
    "delete": ("AFTER DELETE ON {relation} REFERENCING OLD TABLE AS old_rows", "STATEMENT", _DELETE),
    "truncate": ("BEFORE TRUNCATE ON {relation}", "STATEMENT", _BEFORE | _TRUNCATE),
    "row": ("AFTER INSERT OR UPDATE OR DELETE ON {relation}", "ROW", _ROW | _INSERT | _UPDATE | _DELETE),
}
"""What each function's trigger fires on. An AFTER TRUNCATE trigger would find the table empty."""


def _present(root: Relation, name: str) -> Column:
    column = root.column(name)
    if column is None:
        raise PermanentError(
            f"{root.name} has no column {name}, which the catalog names as key or tenant column.",
            reason=Reason.CATALOG_MISMATCH,
        )
    if column.element_type:
        raise PermanentError(
            f"The column {name} of {root.name} is an array, which can be neither key nor tenant. Correct the catalog.",
            reason=Reason.CATALOG_MISMATCH,
        )
    return column


def _collate(column: Column) -> str:
    return f" COLLATE {column.collation}" if column.collation else ""


def _comparable(value: str, column: Column) -> str:
    """The value, such that equal means written alike.

    To the consumer of a file, Bob and bob are two keys, whatever the column's type or collation thinks.
    """
    if column.equal_means_alike:
        return value
    return f'pg_catalog.concat({value}) COLLATE pg_catalog."C"'


def _overloads(name: str, argument: str, result: str, known: str, other: str) -> Iterator[PassingFunction]:
    yield PassingFunction(name, f"{argument}, {argument}, bigint", result, f"SELECT {known}")
    yield PassingFunction(name, "anyelement, anyelement, integer", result, f"SELECT {other}")


def sequence_of(log: str) -> TableName:
    """The sequence of a log (bare name). Not log_…_seq, which may be the log of another entity."""
    return TableName(SCHEMA, log.replace("log_", "seq_", 1))
