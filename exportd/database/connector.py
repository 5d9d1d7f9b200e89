"""Opens connections to the database: for the daemon's own tables, for its events, and for exports.

There may be two logins. One owns the schema exportd and the daemon's tables. The other one reads the application's
tables, and is the only one that touches them: Postgres may run code of a table's owner with the rights of the role that
reads the table (policies, functions in indexes). Such code can undo every setting of a session, but it cannot change
the login.

Errors are raised as TransientError or PermanentError. Their sentences name host, database and user, but never the
password. ``translate`` and ``translated`` do the same for later errors on a connection.
"""

import asyncio
import codecs
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import asyncpg

from exportd.database.session_settings import EXPORT_SETTINGS, set_statement
from exportd.database.translator import FOREIGN_ERRORS, translate
from exportd.model.errors import ExportdError, PermanentError, Reason, TransientError
from exportd.model.foreign_text import mask_secrets
from exportd.settings.dsn import Address, read_dsn
from exportd.settings.schema import DatabaseSettings

if TYPE_CHECKING:
    # The classes are generic for the type checker only.
    Connection = asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]
else:
    Connection, Pool = asyncpg.Connection, asyncpg.Pool

_CLEAN_UP_S = 5.0
"""How long a connection may take to close before it is terminated."""

_OWN_QUERY_TIMEOUT_S = 60.0
"""Queries on the daemon's own tables are short. One that takes longer waits for a server that does not answer any more.
"""

# As libpq does, but sooner: a COPY from a server that has vanished would wait forever.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}

_IDLE_S = 60.0
_MAX_SESSION_AGE_S = 600.0
"""An export session is kept for a minute without use, and for ten minutes in all: its memory grows, and it does not
have the settings that a DBA has made for the role since it began.
"""

_TRANSACTION_TIMEOUT_SINCE = 17

_TRANSACTION = re.compile(r"(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE SAVEPOINT|ROLLBACK TO)\b[^;]*;?")

_END = "SELECT pg_catalog.pg_terminate_backend($1)"


class OwnTablesConnection(asyncpg.Connection):
    """A connection of a pool for the daemon's own tables. It knows when its session may have to be reset.

    A query with parameters is a single statement of exportd, and transactions end. Neither leaves anything in the
    session, but any other text may.
    """

    __slots__ = ("may_be_altered",)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.may_be_altered = False

    async def execute(self, query: str, *arguments: object, timeout: float | None = None) -> str:
        if not arguments and not _TRANSACTION.fullmatch(query):
            self.may_be_altered = True
        return await super().execute(query, *arguments, timeout=timeout)


@dataclass(frozen=True, slots=True)
class ExportSession:
    """A connection whose settings make its output the same on every server, and the event loop's time when it was
    opened.
    """

    connection: "asyncpg.Connection[asyncpg.Record]"
    opened_at: float
    generation: int


class SessionKeeper:
    """Keeps up to ``size`` unused sessions. The one that was used last is used first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._idle: dict[ExportSession, asyncio.TimerHandle] = {}

    def take(self) -> ExportSession | None:
        """Take a session that is still connected; None when there is none."""
        while self._idle:
            session, timer = self._idle.popitem()
            timer.cancel()
            if not session.connection.is_closed():
                return session
        return None

    def put(self, session: ExportSession) -> bool:
        """Keep a session. Returns False when it is too old or there are enough."""
        if len(self._idle) >= self._size or anyio.current_time() - session.opened_at > _MAX_SESSION_AGE_S:
            return False
        self._idle[session] = asyncio.get_running_loop().call_later(_IDLE_S, self._drop, session)
        return True

    def take_all(self) -> list[ExportSession]:
        """Take all sessions, to close them."""
        sessions = []
        while (session := self.take()) is not None:
            sessions.append(session)
        return sessions

    def _drop(self, session: ExportSession) -> None:
        del self._idle[session]
        session.connection.terminate()


@dataclass(slots=True)
class Connector:
    """Connects to the database of a DSN. With ``reader_dsn``, the application's tables are read by that login.

    ``lock_timeout_s`` applies to exports, because the application's writes queue behind a waiting lock.
    """

    dsn: str = field(repr=False)
    application_name: str = "exportd"
    lock_timeout_s: float = 2.0
    connect_timeout_s: float = 10.0
    reader_dsn: str | None = field(default=None, repr=False)
    _pools: "list[Pool]" = field(default_factory=list, init=False, repr=False)
    _keeper: "SessionKeeper | None" = field(default=None, init=False, repr=False)
    _generation: int = field(default=0, init=False, repr=False)

    @classmethod
    def of(cls, database: DatabaseSettings) -> "Connector":
        """A connector to the database that the configuration names."""
        return cls(database.dsn, lock_timeout_s=database.lock_timeout_s, reader_dsn=database.reading_dsn)

    @property
    def address(self) -> Address:
        """Host, database and user, for people to read; never the password."""
        return Address.of(self.dsn)

    @property
    def reader(self) -> str | None:
        """The role that reads the application's tables; None where there is one login only."""
        return Address.of(self.reader_dsn).user if self.reader_dsn else None

    async def use(self, database: DatabaseSettings) -> None:
        """Use other DSNs for new connections, including those of pools. Open connections are used until they are
        returned.
        """
        self.lock_timeout_s, self.reader_dsn = database.lock_timeout_s, database.reading_dsn
        await self._renew_sessions()
        if database.dsn != self.dsn:
            self.dsn = database.dsn
            for pool in self._pools:
                pool.set_connect_args(read_dsn(self.dsn).text, **self._pool_arguments())
                await pool.expire_connections()

    async def expire(self) -> None:
        """Reopen every connection of the pools when it is used next, because an old one may still have the state that
        the server refused.
        """
        for pool in self._pools:
            await pool.expire_connections()
        await self._renew_sessions()

    async def _renew_sessions(self) -> None:
        """Close the kept export sessions: they may belong to another login, or have lost a right."""
        self._generation += 1
        if self._keeper is not None:
            for session in self._keeper.take_all():
                await close(session.connection)

    async def export_connection(self) -> "asyncpg.Connection[asyncpg.Record]":
        """A new connection whose settings make its output the same on every server, to be closed by the caller.

        Raises as ``connection``.
        """
        return await self._connect(self.reader_dsn or self.dsn, self._export_settings(), for_export=True)

    @asynccontextmanager
    async def connection(self, purpose: str, *, lock_timeout_s: float | None = None) -> AsyncIterator[Connection]:
        """A connection that is closed at the end of the block, whatever happens.

        ``purpose`` ("listener") is seen in pg_stat_activity. Locks are waited for no longer than ``lock_timeout_s``, if
        it is given. Raises TransientError DATABASE_UNREACHABLE when no server answers, PermanentError DATABASE_REFUSED
        when it refuses: wrong password, no such database, no right to connect.
        """
        settings = {**self._server_settings(purpose), **_lock_timeout(lock_timeout_s)}
        connection = await self._connect(self.dsn, settings)
        try:
            yield connection
        finally:
            await close(connection)

    @asynccontextmanager
    async def reading(self, purpose: str) -> AsyncIterator[Connection]:
        """A connection of the login that reads the application's tables, closed at the end of the block."""
        connection = await self._connect(self.reader_dsn or self.dsn, self._server_settings(purpose))
        try:
            yield connection
        finally:
            await close(connection)

    @asynccontextmanager
    async def export_session(self) -> AsyncIterator[Connection]:
        """An export connection that is closed at the end of the block, whatever happens.

        Within ``keeping_sessions`` it is kept for a later block, if this one does not raise.
        """
        keeper = self._keeper
        session = await self._kept_session() if keeper is not None else None
        if session is None:
            session = ExportSession(await self.export_connection(), anyio.current_time(), self._generation)
        connection, kept = session.connection, False
        process_id = connection.get_server_pid()
        try:
            yield connection
            if keeper is not None and keeper is self._keeper and session.generation == self._generation:
                kept = await self._forget(connection) and keeper.put(session)
        finally:
            if not kept and not await close(connection):
                await self._end(process_id)

    @asynccontextmanager
    async def keeping_sessions(self, size: int) -> AsyncIterator[None]:
        """Keep up to ``size`` unused export sessions until the block ends."""
        self._keeper = SessionKeeper(size)
        try:
            yield
        finally:
            keeper, self._keeper = self._keeper, None
            for session in keeper.take_all():
                await close(session.connection)

    async def _kept_session(self) -> ExportSession | None:
        """A kept session that still answers, with the settings of a new one; None when there is none."""
        while self._keeper is not None and (session := self._keeper.take()) is not None:
            try:
                with suppress(*FOREIGN_ERRORS):
                    statement = self._session_statement(session.connection)
                    await session.connection.execute(statement, timeout=self.connect_timeout_s)
                    return session
            except BaseException:
                session.connection.terminate()
                raise
            session.connection.terminate()
        return None

    def _session_statement(self, connection: Connection) -> str:
        """The statement with the settings of an export session, including those that a pooler may have dropped when the
        connection was opened.
        """
        settings = {**self._export_settings(), "client_encoding": "UTF8"}
        if connection.get_server_version().major >= _TRANSACTION_TIMEOUT_SINCE:
            # Not when connecting, because an older server refuses an unknown setting.
            settings["transaction_timeout"] = "0"
        return set_statement(settings)

    async def _forget(self, connection: Connection) -> bool:
        """Undo everything that code of a table's owner may have left in a session. Returns False when the session
        cannot be used any more.
        """
        with anyio.move_on_after(_CLEAN_UP_S, shield=True), suppress(*FOREIGN_ERRORS):
            if connection.is_in_transaction():
                await connection.execute("ROLLBACK")
            await connection.execute("DISCARD ALL")
            await connection.reload_schema_state()
            return True
        return False

    @asynccontextmanager
    async def pool(self, size: int, *, lazily: bool = False) -> AsyncIterator[Pool]:
        """A pool of at most ``size`` connections for the daemon's own tables. The first is opened at once, unless
        ``lazily``.
        """
        pool: Pool | None = None
        try:
            with _translated_connecting(self.address):
                pool = await asyncpg.create_pool(
                    read_dsn(self.dsn).text,
                    min_size=0 if lazily else 1,
                    max_size=size,
                    init=self._settle,
                    reset=self._reset,
                    connection_class=OwnTablesConnection,
                    **self._pool_arguments(),
                )
            self._pools.append(pool)
            yield pool
        finally:
            if pool is not None:
                self._pools.remove(pool)
                await _close_pool(pool)

    def _pool_arguments(self) -> dict[str, Any]:
        return {
            "timeout": self._connect_timeout_s(),
            "command_timeout": _OWN_QUERY_TIMEOUT_S,
            # The flush of the seal also makes every commit durable that the export has seen, including those of an
            # application that commits asynchronously. So nothing is published that a crash could undo.
            "server_settings": self._pool_settings(),
        }

    def _pool_settings(self) -> dict[str, str]:
        return {**self._server_settings("tables"), "synchronous_commit": "on"}

    async def _settle(self, connection: Connection) -> None:
        """Set what a pooler may have dropped when the connection was opened."""
        await connection.execute(set_statement(self._pool_settings()))
        _note_settled(connection)

    async def _reset(self, connection: Connection) -> None:
        """Reset what the last user may have set, but keep the settings that all users need."""
        if not isinstance(connection, OwnTablesConnection) or connection.may_be_altered:
            await connection.execute(f"{connection.get_reset_query()}\n{set_statement(self._pool_settings())}")
            _note_settled(connection)

    async def _end(self, process_id: int) -> None:
        """Let the server terminate a session that does not end, because code of a table's owner may catch a cancel.

        Its locks would stay otherwise. The session belongs to the same role as the one that asks, so no other right is
        needed.
        """
        with anyio.move_on_after(self.connect_timeout_s + _CLEAN_UP_S, shield=True):
            with suppress(ExportdError, *FOREIGN_ERRORS):
                async with self.reading("end") as other:
                    await other.execute(_END, process_id)

    async def _connect(
        self, dsn: str, server_settings: dict[str, str], *, for_export: bool = False
    ) -> "asyncpg.Connection[asyncpg.Record]":
        with _translated_connecting(Address.of(dsn)):
            connection = await asyncpg.connect(
                read_dsn(dsn).text,
                timeout=self._connect_timeout_s(),
                server_settings=server_settings,
                # Code of a table's owner could put other prepared statements in the place of those kept by name.
                statement_cache_size=0 if for_export else 100,
            )
            try:
                # Set again, because a pooler may have dropped them.
                settings = set_statement({**server_settings, "client_encoding": "UTF8"})
                statement = self._session_statement(connection) if for_export else settings
                await connection.execute(statement, timeout=self.connect_timeout_s)
            except BaseException:
                connection.terminate()
                raise
        _keep_alive(connection)
        return connection

    def _connect_timeout_s(self) -> float:
        return read_dsn(self.dsn).connect_timeout_s or self.connect_timeout_s

    def _export_settings(self) -> dict[str, str]:
        return {**EXPORT_SETTINGS, **_lock_timeout(self.lock_timeout_s), **self._server_settings("export")}

    def _server_settings(self, purpose: str) -> dict[str, str]:
        # Every name in our SQL is qualified; with nothing else in the path, so is every name that the server prints.
        return {
            # The names and types that the server prints are compared, and must not depend on a setting of the role. It
            # comes first, because it decides how the server prints the path.
            "quote_all_identifiers": "off",
            "search_path": "pg_catalog",
            "jit": "off",  # it takes longer than our statements, which look dear where there are no statistics
            "application_name": f"{self.application_name} {purpose}",
        }


def _note_settled(connection: Connection) -> None:
    if isinstance(connection, OwnTablesConnection):
        connection.may_be_altered = False


def _lock_timeout(lock_timeout_s: float | None) -> dict[str, str]:
    return {} if lock_timeout_s is None else {"lock_timeout": f"{max(1, round(lock_timeout_s * 1000))}ms"}


async def close(connection: Connection) -> bool:
    """Closes a connection, or terminates it when that takes too long. Safe during cancellation.

    Returns whether it closed in time. If not, the server's session may go on.
    """
    with anyio.move_on_after(_CLEAN_UP_S, shield=True) as scope:
        with suppress(*FOREIGN_ERRORS):
            await connection.close()
    if not connection.is_closed():
        connection.terminate()
        return False
    return not scope.cancelled_caught


def _keep_alive(connection: Connection) -> None:
    """Let the kernel detect a server that is gone. Only for TCP, with the options that the system has."""
    transport: asyncio.BaseTransport | None = getattr(connection, "_transport", None)
    line = transport.get_extra_info("socket") if transport is not None else None
    if line is None or line.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


@contextmanager
def _translated_connecting(address: Address) -> Iterator[None]:
    try:
        yield
    except (asyncpg.exceptions.ClientConfigurationError, ValueError) as error:
        raise PermanentError(
            f"The DSN of {address} cannot be used: {mask_secrets(str(error))}", reason=Reason.DATABASE_REFUSED
        ) from error
    except asyncpg.PostgresError as error:
        raise translate(error, doing=f"connecting to {address}") from error
    except FOREIGN_ERRORS as error:
        words = mask_secrets(str(error)) or "no answer in time"
        raise TransientError(
            f"The database did not answer while connecting to {address}: {words}", reason=Reason.DATABASE_UNREACHABLE
        ) from error


async def _close_pool(pool: Pool) -> None:
    with anyio.move_on_after(_CLEAN_UP_S, shield=True) as scope:
        try:
            await pool.close()
        except FOREIGN_ERRORS:
            pool.terminate()
    if scope.cancelled_caught:
        pool.terminate()


def storable(text: str, connection: Connection) -> str:
    """The text with characters that the database's encoding lacks shown as escapes."""
    encoding = connection.get_settings().server_encoding
    try:
        codec = codecs.lookup(encoding).name
    except LookupError:
        codec = "ascii"  # a part of each encoding that a database can have
    return text.encode(codec, "backslashreplace").decode(codec)
