"""Builds the queries that COPY runs, from validated names and shapes. Pure. No other module builds such queries.

Every query names the table's rows ``t``, live or read back from images, so one projection serves both. The connection's
search_path is pg_catalog, and operators of other types are qualified.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from exportd.catalog.shape import Column, Relation, RelationKind, Shape
from exportd.catalog.table_rules import duplicates_query
from exportd.database.quoting import identifier, literal, table
from exportd.extraction.projection import Projection
from exportd.extraction.window import SnapshotText, xmin
from exportd.model.change_log import TENANT_COLUMN, key_columns, log_table
from exportd.model.entity import Entity, EntityCode, OrganizationId
from exportd.model.schedule import ExportFormat

_LINE_QUOTE, _LINE_DELIMITER = "\x01", "\x02"
"""JSON text holds no raw control characters, so with these CSV's quoting never happens and a record is its own line."""


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """COPY's options for a format, as asyncpg takes them."""

    delimiter: str
    quote: str


def copy_options(file_format: ExportFormat) -> CopyOptions:
    """The options with which COPY writes the format's rows."""
    if file_format is ExportFormat.CSV:
        return CopyOptions(delimiter=",", quote='"')
    return CopyOptions(delimiter=_LINE_DELIMITER, quote=_LINE_QUOTE)


@dataclass(frozen=True, slots=True)
class PageRange:
    """A range of a table's pages, [first, end); ``end`` None means to the table's end, however it has grown."""

    first: int
    end: int | None


def page_ranges(pages: int, streams: int) -> tuple[PageRange, ...]:
    """Divide a table into as many ranges as there are streams; together they hold every row exactly once."""
    bounds = sorted({pages * stream // streams for stream in range(streams)})
    return tuple(PageRange(first, end) for first, end in zip(bounds, [*bounds[1:], None], strict=True))


@dataclass(frozen=True, slots=True)
class TablePlan:
    """The planner's estimate of a table: how many live rows the organization has, and how many bytes a row has."""

    rows: int
    row_bytes: int


def parse_plan(text: str) -> TablePlan:
    """What EXPLAIN (FORMAT JSON) says of a query as a whole."""
    plan = json.loads(text)[0]["Plan"]
    return TablePlan(int(plan["Plan Rows"]), int(plan["Plan Width"]))


@dataclass(frozen=True, slots=True)
class _WindowBegin:
    """The beginning and the organization of a window, as SQL expressions."""

    xmin: str
    snapshot: str
    organization: str


_ASKED = _WindowBegin("pg_snapshot_xmin(asked.previous)", "asked.previous", "asked.organization")


@dataclass(frozen=True, slots=True)
class Statements:
    """The queries of one entity for one organization in one format."""

    entity: Entity
    shape: Shape
    file_format: ExportFormat
    projection: Projection
    organization: OrganizationId

    def full(self, pages: PageRange | None = None, *, start_date: datetime | None = None) -> str:
        """Every live row; with ``pages`` only those in a range of pages, with ``start_date`` only those modified then,
        later, or at an unknown time.
        """
        conditions = [*self._own]
        if start_date is not None:
            conditions.append(self._modified_since(start_date))
        if pages is not None:
            conditions.append(f"t.ctid >= '({pages.first},0)'::tid")
            if pages.end is not None:
                conditions.append(f"t.ctid < '({pages.end},0)'::tid")
        return self._live(conditions)

    def full_of(self, organizations: Sequence[OrganizationId]) -> str:
        """Every live row of several organizations, in one scan. Each row follows the place of its organization, from
        0.
        """
        return f"SELECT asked.place - 1 AS place, {self._row(deleted=False)} {self._rows_of(organizations)}"

    def changed(self, previous: SnapshotText, *, ordered: bool = False) -> str:
        """Every live row whose key is in the window; ``ordered`` by its key."""
        return self._live([*self._own, self._in_window(previous)], ordered=ordered)

    def changed_of(self, asked: Sequence[tuple[OrganizationId, SnapshotText]], keys: int) -> str:
        """The same for the windows of several organizations, which have ``keys`` keys at most. Each row follows the
        place of its window, from 0, and the rows are ordered by place first.
        """
        names = ", ".join(f"k.{key}" for key, _ in self._keys)
        # Without the limit the planner expects hundreds of thousands of keys, and scans the table for them.
        return (
            f"WITH k AS MATERIALIZED (\n"
            f"SELECT DISTINCT ON (asked.place, {names}) asked.place - 1 AS place, asked.organization, {names}\n"
            f"FROM {self._asked(asked)}\n"
            f"CROSS JOIN LATERAL ({self._logged_keys} WHERE {self._within(_ASKED)}) AS k\n"
            f"ORDER BY asked.place, {names} LIMIT {keys})\n"
            f"SELECT k.place, {self._row(deleted=False)} FROM k JOIN {table(self.entity.table)} AS t"
            f" ON {' AND '.join([*self._match('k'), *self._tenant_is('k.organization')])}\n"
            f"ORDER BY k.place, {self._order}"
        )

    def duplicates(self, previous: SnapshotText | None) -> str:
        """Returns a row when a key occurs twice, in the whole table or in the window that begins at ``previous``."""
        window = [] if previous is None else [self._in_window(previous)]
        return duplicates_query(self.entity, [*self._own, *window])

    def unlogged(self, previous: SnapshotText, added: Collection[Relation]) -> str:
        """Returns a row when the log has not recorded everything in the ``added`` members, else none.

        It has recorded everything when its window has the key of each of their rows, and each key that was written
        still exists. Otherwise a row may have been moved into a member, changed and deleted before the member had
        triggers, and an image from before that would be out of date.
        """
        unseen = [
            f"SELECT FROM ONLY {table(member.name)} AS t"
            f" WHERE {' AND '.join([*self._own, f'NOT {self._in_window(previous)}'])}"
            for member in added
            if member.kind is RelationKind.TABLE
        ]
        unexplained = (
            f"SELECT FROM ({self._logged_keys} WHERE {self._window(previous)} AND l.op <> 'D') AS k"
            f" WHERE NOT EXISTS (SELECT{self._from([*self._match('k'), *self._own])})"
        )
        return " UNION ALL ".join(f"({query} LIMIT 1)" for query in (*unseen, unexplained))

    def _in_window(self, previous: SnapshotText) -> str:
        return (
            f"EXISTS (SELECT FROM ({self._logged_keys} WHERE {self._window(previous)}) AS k"
            f" WHERE {' AND '.join(self._match('k'))})"
        )

    def deleted(self, previous: SnapshotText, *, ordered: bool = False) -> str:
        """The last image of every key that was deleted in the window and does not exist now; ``ordered`` by its key."""
        keys, values = self._image_keys()
        # json_to_record reads a string by the input function of the type. A cast would be as fast, but the owner of the
        # table may define one, and it would run with our rights.
        return self._as_lines(
            f"SELECT {self._select_list(deleted=True)} FROM (SELECT (read_back.row).* FROM (\n"
            f"SELECT DISTINCT ON ({keys}) {values}, l.image FROM {self._log} AS l\n"
            f"WHERE {self._window(previous)} AND l.op = 'D' ORDER BY {keys}, l.seq DESC) AS last\n"
            "CROSS JOIN LATERAL json_to_record(json_build_object('row', last.image))\n"
            f"    AS read_back (row {table(self.entity.table)})\n"
            f"WHERE NOT EXISTS (SELECT{self._from([*self._still_there(), *self._own])})) AS t{self._in_order(ordered)}"
        )

    def deleted_of(self, asked: Sequence[tuple[OrganizationId, SnapshotText]], keys: int) -> str:
        """The same of several organizations' windows; see ``changed_of``."""
        names, values = self._image_keys()
        still_there = [*self._still_there(), *self._tenant_is("last.organization")]
        # OFFSET keeps the planner from looking for all windows' deletions at once, which it does in the whole log.
        return (
            f"WITH last AS MATERIALIZED (\n"
            f"SELECT DISTINCT ON (asked.place, {names})\n"
            f"    asked.place - 1 AS place, asked.organization, {values}, l.image\n"
            f"FROM {self._asked(asked)} CROSS JOIN LATERAL\n"
            f"    (SELECT l.* FROM {self._log} AS l WHERE {self._within(_ASKED)} AND l.op = 'D' OFFSET 0) AS l\n"
            f"ORDER BY asked.place, {names}, l.seq DESC LIMIT {keys})\n"
            f"SELECT last.place, {self._row(deleted=True)} FROM last\n"
            "CROSS JOIN LATERAL json_to_record(json_build_object('row', last.image))\n"
            f"    AS read_back (row {table(self.entity.table)})\n"
            "CROSS JOIN LATERAL (SELECT (read_back.row).*) AS t\n"
            f"WHERE NOT EXISTS (SELECT{self._from(still_there)})\n"
            f"ORDER BY last.place, {self._order}"
        )

    @property
    def can_be_shared(self) -> bool:
        """Whether ``changed_of`` and ``deleted_of`` can be used: the keys can be ordered, and tenants compare as they
        do in the log.
        """
        tenant = self.entity.tenant
        return self.shape.ensures_unique(self.entity.key) and not (
            tenant and _is_compared_as_text(self._column(tenant))
        )

    def contents(self, previous: SnapshotText) -> str:
        """One row about the window: the entity's code, an upper bound of its keys, whether a T was logged
        (``unknown``), and whether a D was (``deletions``).
        """
        return f"SELECT {literal(self.entity.code)} AS entity, w.* FROM ({self._contents(self._begins(previous))}) AS w"

    def contents_of(self, asked: Sequence[tuple[OrganizationId, SnapshotText]]) -> str:
        """The same for the windows of several organizations: a row with the place, from 0, for each window that is not
        empty.
        """
        return (
            f"SELECT {literal(self.entity.code)} AS entity, w.*, asked.place - 1 AS place\n"
            f"FROM {self._asked(asked)}\n"
            f"CROSS JOIN LATERAL ({self._contents(_ASKED)}) AS w\n"
            "WHERE w.keys > 0 OR w.unknown OR w.deletions"
        )

    def _contents(self, begins: "_WindowBegin") -> str:
        count = f"cardinality(l.{key_columns(self.entity)[0]})"
        parts = f"SELECT l.op, {count} AS keys FROM {self._log} AS l WHERE {self._since(begins)}"
        if self.entity.tenant:
            # A T has no tenant, because a TRUNCATE concerns every organization.
            parts = (
                f"{parts} AND {self._of(begins.organization)} UNION ALL SELECT l.op, 0 FROM {self._log} AS l"
                f" WHERE l.{TENANT_COLUMN} IS NULL AND l.op = 'T' AND {self._since(begins)}"
            )
        return (
            "SELECT coalesce(sum(w.keys) FILTER (WHERE w.op <> 'T'), 0)::bigint"
            " AS keys, coalesce(bool_or(w.op = 'T'), false) AS unknown, coalesce(bool_or(w.op = 'D'), false)"
            f" AS deletions FROM ({parts}) AS w"
        )

    def count(self, rows: str) -> str:
        """Counts the rows of another of these queries."""
        return f"SELECT count(*) FROM ({rows}) AS counted"

    def plan(self) -> str:
        """EXPLAIN of reading every live row in its stored form: how many rows the planner expects, and their width."""
        return f"{self._explained}{self._from(self._own)}"

    def plan_of(self, organizations: Sequence[OrganizationId]) -> str:
        """The same for the rows of several organizations."""
        return f"{self._explained} {self._rows_of(organizations)}"

    # --- fragments ----------------------------------------------------------------------------------------------

    @property
    def _log(self) -> str:
        return table(log_table(self.entity.code))

    @property
    def _explained(self) -> str:
        fields = [field.expression or f"t.{identifier(field.column or '')}" for field in self.entity.fields]
        return f"EXPLAIN (FORMAT JSON) SELECT {', '.join(f'({field})' for field in fields)}"

    def _rows_of(self, organizations: Sequence[OrganizationId]) -> str:
        asked = f"unnest({self._array(organizations)}) WITH ORDINALITY AS asked (organization, place)"
        theirs = " AND ".join(self._tenant_is("asked.organization")) or "true"
        return f"FROM {asked} JOIN {table(self.entity.table)} AS t ON {theirs}"

    def _array(self, organizations: Sequence[OrganizationId]) -> str:
        return f"ARRAY[{', '.join(map(literal, organizations))}]::{self._tenant_type}[]"

    def _from(self, conditions: Sequence[str]) -> str:
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return f" FROM {table(self.entity.table)} AS t{where}"

    def _live(self, conditions: Sequence[str], *, ordered: bool = False) -> str:
        rows = f"SELECT {self._select_list(deleted=False)}{self._from(conditions)}"
        return self._as_lines(f"{rows}{self._in_order(ordered)}")

    @property
    def _order(self) -> str:
        return ", ".join(f"t.{identifier(name)}" for name in self.entity.key)

    def _in_order(self, ordered: bool) -> str:
        return f" ORDER BY {self._order}" if ordered else ""

    @property
    def _keys(self) -> Sequence[tuple[str, str]]:
        """The key's columns: by their names in the log, and in the table."""
        return list(zip(key_columns(self.entity), self.entity.key, strict=True))

    @property
    def _logged_keys(self) -> str:
        keys = ", ".join(f"unnest(l.{key}) AS {key}" for key, _ in self._keys)
        return f"SELECT {keys} FROM {self._log} AS l"

    def _image_keys(self) -> tuple[str, str]:
        """The key of an entry of the log with an image: as it is compared, and as columns."""
        compared = ", ".join(self._as_written(f"l.{key}[1]", name) for key, name in self._keys)
        return compared, ", ".join(f"l.{key}[1] AS {key}" for key, _ in self._keys)

    def _match(self, alias: str) -> list[str]:
        """Whether a row ``t`` of the table has the key of ``alias``, which is of the log."""
        return [self._matches(f"{alias}.{key}", name) for key, name in self._keys]

    def _still_there(self) -> list[str]:
        """Whether a row ``t`` of the table is the one of which the log has the image ``last``."""
        return self._match("last") + [
            f"{_as_text(f't.{identifier(name)}')} = {self._as_written(f'last.{key}', name)}"
            for key, name in self._keys
            if not self._column(name).equal_means_alike
        ]

    def _asked(self, asked: Sequence[tuple[OrganizationId, SnapshotText]]) -> str:
        begins = f"ARRAY[{', '.join(literal(previous) for _, previous in asked)}]::pg_snapshot[]"
        organizations = self._array([organization for organization, _ in asked])
        return f"unnest({begins}, {organizations}) WITH ORDINALITY AS asked (previous, organization, place)"

    def _row(self, *, deleted: bool) -> str:
        """The lines of ``_as_lines`` as columns of a wider query over ``t``."""
        select_list = self._select_list(deleted=deleted)
        if self.file_format is ExportFormat.CSV:
            return select_list
        return f"(SELECT row_to_json(record.*) FROM (SELECT {select_list}) AS record)"

    def _as_lines(self, query: str) -> str:
        if self.file_format is ExportFormat.CSV:
            return query
        # ``.*`` means the row even when a field is named record.
        return f"SELECT row_to_json(record.*) FROM ({query}) AS record"

    def _select_list(self, *, deleted: bool) -> str:
        return self.projection.select_list(self.file_format, deleted=deleted)

    def _modified_since(self, start_date: datetime) -> str:
        name = f"t.{identifier(self.entity.modified or '')}"
        start = _instant(start_date, self._column(self.entity.modified).base_type)
        return f"({name} OPERATOR(pg_catalog.>=) {start} OR {name} IS NULL)"

    @property
    def _own(self) -> list[str]:
        """Whether ``t`` is a row of the organization."""
        return self._tenant_is(literal(self.organization))

    def _tenant_is(self, organization: str) -> list[str]:
        """Whether ``t`` is the organization's, which is a value of ``_tenant_type``."""
        tenant = self.entity.tenant
        return [f"t.{identifier(tenant)} {self._equals(tenant)} {organization}"] if tenant else []

    def _window(self, previous: SnapshotText) -> str:
        return self._within(self._begins(previous))

    def _within(self, begins: "_WindowBegin") -> str:
        since = self._since(begins)
        return since if self.entity.tenant is None else f"{self._of(begins.organization)} AND {since}"

    def _begins(self, previous: SnapshotText) -> "_WindowBegin":
        return _WindowBegin(f"'{xmin(previous)}'::xid8", f"'{previous}'::pg_snapshot", literal(self.organization))

    @staticmethod
    def _since(begins: "_WindowBegin") -> str:
        return f"l.xid >= {begins.xmin} AND NOT pg_visible_in_snapshot(l.xid, {begins.snapshot})"

    def _of(self, organization: str) -> str:
        """Whether an entry of the log is of the organization."""
        tenant = self._read_back(f"l.{TENANT_COLUMN}", self._column(self.entity.tenant))
        return f"{tenant} {self._equals(self.entity.tenant)} {organization}"

    @property
    def _tenant_type(self) -> str:
        """The type that a literal has to which ``_of`` compares the log's values."""
        if self.entity.tenant is None:
            return "text"
        column = self._column(self.entity.tenant)
        return "text" if _is_compared_as_text(column) else column.type_name

    def _matches(self, logged: str, name: str) -> str:
        """Whether a key of the log is the row's, in the form for which the table's index serves, if there is one."""
        column, live = self._column(name), f"t.{identifier(name)}"
        if _is_compared_as_text(column):
            return f"{_as_text(live)} = {logged}"
        return f"{self._read_back(logged, column)} {self._equals(name)} {live}"

    def _read_back(self, logged: str, column: Column) -> str:
        """A value of the log as the type it had.

        Only a superuser can make a base type, and a cast from text to it. The application's own types have casts of
        their owners, and a label or attribute may have been renamed since, so they are compared as text.
        """
        if column.is_user_defined and not _is_compared_as_text(column):
            return f"{logged}::{column.type_name}"
        return logged

    def _as_written(self, logged: str, name: str) -> str:
        """A value of the log, such that two values are equal when they are written alike. Bob and bob are equal as
        citext, but they are two keys.
        """
        column = self._column(name)
        if column.is_logged_as_text:
            return f'{logged} COLLATE "C"'
        return logged if column.equal_means_alike else _as_text(logged)

    def _equals(self, column: str | None) -> str:
        shape = self._column(column)
        return f"OPERATOR({identifier(shape.equality)}.=)"

    def _column(self, name: str | None) -> Column:
        found = self.shape.root.column(name) if name else None
        if found is None:
            raise LookupError(name)
        return found


def lock_statement(entities: Sequence[Entity], *, uncaptured: Collection[EntityCode] = ()) -> str:
    """The statement that locks the tables of the entities and their logs. The logs of ``uncaptured`` entities are left
    out.
    """
    tables = [table(entity.table) for entity in entities]
    tables += [table(log_table(entity.code)) for entity in entities if entity.code not in uncaptured]
    return f"LOCK TABLE {', '.join(dict.fromkeys(tables))} IN ACCESS SHARE MODE"


def _instant(instant: datetime, base_type: str) -> str:
    """The instant as a constant of a type, the same in a session of any time zone: a column without one is in UTC.

    A date is a whole day, and the day of the instant goes on after it.
    """
    in_utc = instant.astimezone(UTC)
    match base_type:
        case "date":
            return f"{literal(in_utc.date().isoformat())}::date"
        case "timestamp":
            return f"{literal(in_utc.replace(tzinfo=None).isoformat())}::timestamp"
        case "timestamptz":
            return f"{literal(in_utc.isoformat())}::timestamptz"
        case _:
            raise LookupError(base_type)


def _is_compared_as_text(column: Column) -> bool:
    """Whether the key is compared as it is written: an array, or an enum, composite or range of the application's."""
    return bool(column.element_type) or (column.is_user_defined and column.base_kind != "b")


def _as_text(value: str) -> str:
    return f'concat({value}) COLLATE "C"'
