"""Captured tables, and a consumer that replays what is exported of them and compares it with the tables.

All tests of a server share one database; each has a schema and entity codes of its own, and leaves them behind.
"""

import itertools
import json
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import anyio
import asyncpg

from exportd.capture.installer import CaptureInstaller, EntityCapture, capture_is_intact
from exportd.database.connector import Connection, Connector
from exportd.database.quoting import identifier, table
from exportd.extraction.copier import Copier, CopyTask
from exportd.extraction.snapshot_opener import SnapshotOpener
from exportd.extraction.snapshot_reader import OpenSnapshot, Reader
from exportd.model.change_log import key_columns, log_name, log_table
from exportd.model.entity import CaptureLevel, Entity, EntityCode, Field, OrganizationId, TableName
from exportd.model.errors import FullReason
from exportd.model.extraction import Mode
from exportd.model.job import Job, JobId
from exportd.model.schedule import DestinationCode, ExportFormat
from exportd.model.start import Position
from exportd.postgres.postgres_server import PostgresServer
from exportd.settings.schema import LimitSettings
from tests.fixtures.postgres import TEMPLATE

ACME = OrganizationId("acme")
OTHER = OrganizationId("other")

Key = tuple[Any, ...]

_SHARED = "captured"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Export:
    """What one run gave the consumer, by key."""

    mode: Mode
    reason: FullReason | None
    present: Mapping[Key, Mapping[str, Any]]
    deleted: Mapping[Key, Mapping[str, Any]]

    @property
    def keys(self) -> tuple[list[Key], list[Key]]:
        """The keys of what is there and of what was deleted, each in order."""
        return sorted(self.present), sorted(self.deleted)


class CapturedTable:
    """A captured table with one consumer per organization."""

    def __init__(self, source: "SourceDatabase", entity: Entity) -> None:
        self.source = source
        self.entity = entity
        self._positions: dict[OrganizationId, Position] = {}
        self._consumers: dict[OrganizationId, dict[Key, Mapping[str, Any]]] = {}

    @property
    def log(self) -> str:
        return table(log_table(self.entity.code))

    async def install(self) -> EntityCapture:
        (outcome,) = await self.source.installer.install([self.entity])
        return outcome

    async def findings(self) -> str:
        (outcome,) = await self.source.installer.status([self.entity])
        return "; ".join(outcome.findings)

    async def ops(self) -> list[tuple[str, Key]]:
        """The log's content: op and key, in order; T without its keys."""
        names = key_columns(self.entity)
        columns = ", ".join(f"l.{name}" for name in names)
        rows = await self.source.app.fetch(
            f"SELECT l.op::text AS op, k.* FROM {self.log} AS l LEFT JOIN LATERAL unnest({columns})"
            f" AS k ({', '.join(names)}) ON l.op <> 'T'"
        )
        return sorted((row["op"], tuple(row[name] for name in names) if row["op"] != "T" else ()) for row in rows)

    async def forget_log(self) -> None:
        await self.source.app.execute(f"DELETE FROM {self.log}")

    async def run(
        self,
        organization: OrganizationId = ACME,
        *,
        file_format: ExportFormat = ExportFormat.JSONL,
        forced: FullReason | None = None,
        destinations: Sequence[DestinationCode] = (),
        while_open: Callable[[OpenSnapshot], Any] | None = None,
    ) -> tuple[OpenSnapshot, bytes]:
        """One run; moves the position and returns the bytes of the file."""
        code = self.entity.code
        chunks: list[bytes] = []

        async def sink(chunk: bytes) -> None:
            chunks.append(chunk)

        async def done(_: CopyTask, __: int) -> None:
            pass

        job = a_job([code], organization, file_format=file_format, destinations=destinations)
        known = self._positions.get(organization)
        positions = {code: known} if known else {}
        reasons = {code: forced} if forced else {}
        async with self.source.opener.open(Reader(job, [self.entity], positions, reasons)) as snapshot:
            if while_open is not None:
                await while_open(snapshot)
            await self.source.copier.copy(snapshot, file_format, lambda _: sink, done)
        self._positions[organization] = position_of(snapshot, code, job.id, destinations)
        return snapshot, b"".join(chunks)

    async def export(
        self, organization: OrganizationId = ACME, *, forced: FullReason | None = None, compare: bool = True
    ) -> Export:
        """One run in JSONL, given to the consumer, whose copy must then equal the table (if ``compare``)."""
        snapshot, content = await self.run(organization, forced=forced)
        window = snapshot.windows[self.entity.code]
        records = [json.loads(line) for line in content.decode().splitlines()]
        present = {self._key(record): record for record in records if not record["deleted"]}
        deleted = {self._key(record): record for record in records if record["deleted"]}
        assert len(present) + len(deleted) == len(records), "a record is there twice"
        copy = self._consumers.setdefault(organization, {})
        if window.mode is Mode.FULL:
            copy.clear()
        for key in deleted:
            copy.pop(key, None)
        copy.update(present)
        if compare:
            assert copy == {self._key(record): record for record in await self._truth(organization)}
        return Export(window.mode, window.full_reason, present, deleted)

    def positions(self, organization: OrganizationId = ACME) -> dict[EntityCode, Position]:
        return {self.entity.code: self._positions[organization]}

    def set_position(self, position: Position, organization: OrganizationId = ACME) -> None:
        self._positions[organization] = position

    def with_entity(self, entity: Entity) -> "CapturedTable":
        """The same consumers after the catalog was changed."""
        other = CapturedTable(self.source, entity)
        other._positions, other._consumers = self._positions, self._consumers
        return other

    def _key(self, record: Mapping[str, Any]) -> Key:
        """The key's values; one that is nested, as JSON."""
        values = (record[name] for name in self.entity.key)
        return tuple(json.dumps(value) if isinstance(value, list | dict) else value for value in values)

    async def _truth(self, organization: OrganizationId) -> list[dict[str, Any]]:
        columns = ", ".join(
            f"{identifier(str(field.column))} AS {identifier(field.name)}" for field in self.entity.fields
        )
        tenant = self.entity.tenant
        where = f" WHERE {identifier(tenant)}::text = $1" if tenant else " WHERE $1::text IS NOT NULL"
        rows = f"SELECT {columns}, false AS deleted FROM {table(self.entity.table)}{where}"
        connection = await self.source.reading_session()
        found = await connection.fetch(f"SELECT row_to_json(r.*) FROM ({rows}) AS r", organization)
        return [json.loads(row[0]) for row in found]


@dataclass
class SourceDatabase:
    """One test's schema in the shared database. ``app`` is a session of the application, that schema in its path."""

    server: PostgresServer
    dsn: str
    schema: str
    app: Connection
    connector: Connector
    installer: CaptureInstaller
    opener: SnapshotOpener
    copier: Copier
    _exit_stack: AsyncExitStack = field(repr=False)
    _reading_session: Connection | None = None

    async def reading_session(self) -> Connection:
        """A connection that writes values as exports do, to compare with."""
        if self._reading_session is None:
            self._reading_session = await self._exit_stack.enter_async_context(self.connector.export_session())
        return self._reading_session

    async def session(self, *, user: str = "postgres") -> Connection:
        """Another session of the application, closed at the end of the test."""
        connection = await asyncpg.connect(self.dsn.replace("postgres@", f"{user}@", 1))
        self._exit_stack.push_async_callback(connection.close, timeout=5)
        await connection.execute(f"SET search_path = {identifier(self.schema)}, public")
        return connection

    async def entity(
        self,
        name: str,
        *,
        key: Sequence[str] = ("id",),
        tenant: str | None = None,
        fields: Sequence[str] | None = None,
        code: str | None = None,
        level: CaptureLevel = CaptureLevel.STATEMENT,
    ) -> Entity:
        """An entity on a table of this test's schema; every column is a field of its own name (or those given)."""
        found = await self.app.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped"
            " ORDER BY attnum",
            table(TableName(self.schema, name)),
        )
        names = fields or [row["attname"] for row in found]
        columns = tuple(Field(column, column=column) for column in names)
        code = code or f"E{next(_numbers)}"
        return Entity(EntityCode(code), name, "t", TableName(self.schema, name), tuple(key), tenant, columns, level)

    async def capture(self, name: str, columns: str = "", **options: Any) -> CapturedTable:
        """Create a table (unless ``columns`` is empty: then it is there) and capture it."""
        if columns:
            await self.app.execute(f"CREATE TABLE {identifier(name)} ({columns})")
        captured = CapturedTable(self, await self.entity(name, **options))
        await captured.install()
        return captured


def a_job(
    entities: Sequence[EntityCode],
    organization: OrganizationId = ACME,
    *,
    file_format: ExportFormat = ExportFormat.JSONL,
    destinations: Sequence[DestinationCode] = (),
) -> Job:
    return Job(
        JobId(uuid.uuid4()),
        organization,
        None,
        None,
        datetime.now(UTC),
        tuple(entities),
        file_format,
        tuple(destinations),
    )


def position_of(
    snapshot: OpenSnapshot, entity: EntityCode, job: JobId, destinations: Sequence[DestinationCode] = ()
) -> Position:
    """The position that a run with this snapshot leaves, in the form in which the database gives it back."""
    guards = json.loads(json.dumps(snapshot.guards[entity].to_json()))
    return Position(entity, job, snapshot.snapshot, snapshot.taken_at, guards, tuple(destinations))


@asynccontextmanager
async def open_source_database(server: PostgresServer, dsn: str | None = None) -> AsyncIterator[SourceDatabase]:
    """A schema of its own in the shared database, or in the one of ``dsn``."""
    dsn = dsn or await _shared_database(server)
    schema = f"test_{next(_numbers)}"
    async with AsyncExitStack() as exit_stack:
        app = await asyncpg.connect(dsn)
        exit_stack.push_async_callback(app.close, timeout=5)
        await app.execute(f"CREATE SCHEMA {schema}; SET search_path = {schema}, public")
        connector = Connector(dsn)
        yield SourceDatabase(
            server,
            dsn,
            schema,
            app,
            connector,
            CaptureInstaller(connector, pause=anyio.sleep),
            SnapshotOpener(connector, is_intact=capture_is_intact, pause=anyio.sleep),
            Copier(connector, LimitSettings(streams=1, stream_threshold=1_000_000_000)),
            exit_stack,
        )


_prepared: set[str] = set()


async def _shared_database(server: PostgresServer) -> str:
    dsn = server.dsn(_SHARED)
    if dsn not in _prepared:
        await server.create_database(_SHARED, TEMPLATE)
        connection = await asyncpg.connect(dsn)
        await connection.execute("CREATE EXTENSION citext")
        await connection.close()
        _prepared.add(dsn)
    return dsn


def bare_log(captured: CapturedTable) -> str:
    return log_name(captured.entity.code)
