"""Locks tables without blocking the application for long.

Later sessions queue behind a session that waits for a lock, so each wait is short, and the caller tries again. It is
also shorter than Postgres's deadlock_timeout of a second: a session that has waited for us for that long looks for a
deadlock and fails if there is one. By then we must have given up.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from types import TracebackType

import asyncpg
import structlog
from asyncpg import Record

from exportd.database import queries
from exportd.database.connector import Connection, storable
from exportd.database.quoting import table
from exportd.database.translator import FOREIGN_ERRORS, translate
from exportd.model.entity import EntityCode, TableName
from exportd.model.errors import ExportdError, Reason, TransientError
from exportd.model.foreign_text import shown
from exportd.model.job import JobProgress, Stall

MAX_LOCK_WAIT_S = 0.8

_MAX_HOLDERS = 5

_WRITERS = [
    *("RowExclusiveLock", "ShareUpdateExclusiveLock", "ShareLock"),
    *("ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"),
]
_IN_THE_WAY = {"ACCESS SHARE": ["AccessExclusiveLock"], "SHARE ROW EXCLUSIVE": _WRITERS}
"""For each wanted mode, the modes of other sessions that it conflicts with. A mode that is not listed conflicts with
all.
"""

_SQL = queries.load("locks")

_logger = structlog.stdlib.get_logger()


class LockWait:
    """Reports the sessions that hold the locks for which a job waits: in the job's progress, and once in the log.

    A context manager around all attempts. ``doing`` says what the locks are for.
    """

    def __init__(self, doing: str, progress: JobProgress | None = None) -> None:
        self.doing = doing
        self._progress = JobProgress() if progress is None else progress
        self._since = datetime.now(UTC)
        self._stall: Stall | None = None

    def __enter__(self) -> "LockWait":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._stall is not None:
            self._progress.replace_stall(self._stall, None)
            waited_s = round((datetime.now(UTC) - self._since).total_seconds(), 1)
            _logger.info("no longer waiting for a lock", doing=self.doing, waited_s=waited_s, taken=error is None)

    async def failure(
        self,
        connection: Connection,
        error: BaseException,
        tables: Collection[TableName],
        *,
        mode: str,
        entities: Mapping[EntityCode, TableName],
    ) -> ExportdError:
        """Translate the ``error`` of an attempt by ``translate_lock``. The result names the sessions that hold the
        locks.

        ``tables`` are the tables to lock in ``mode``, ``entities`` their entities, each with its table.
        """
        failure = translate_lock(error, doing=self.doing)
        if failure.reason is not Reason.LOCK_NOT_AVAILABLE:
            return failure
        holders = await lock_holders(connection, tables, mode=mode)
        sentence = storable(f"The job waits for a lock while {self.doing}. {holders}".strip(), connection)
        if self._stall is None:
            _logger.warning("waiting for a lock", doing=self.doing, error=sentence)
        blocked = list(entities)
        if len(blocked) > 1:
            blocked = [code for code in blocked if await lock_holders(connection, [entities[code]], mode=mode)]
        stall = Stall(tuple(blocked), failure.reason, sentence, self._since)
        self._progress.replace_stall(self._stall, stall)
        self._stall = stall
        return translate_lock(error, doing=self.doing, holders=holders)


async def take_locks(connection: Connection, statement: str, *, wait_s: float = MAX_LOCK_WAIT_S) -> None:
    """Run a LOCK TABLE statement in the open transaction; all its locks together may take ``wait_s``.

    Later statements of the transaction wait as long for each of their locks. Raises the error of ``translate_lock``.
    """
    wait_ms = max(1, round(min(wait_s, MAX_LOCK_WAIT_S) * 1000))
    # One bounds the wait for each lock, the other for all of them.
    await connection.execute(f"SET LOCAL lock_timeout = {wait_ms}; SET LOCAL statement_timeout = {wait_ms}")
    await connection.execute(statement)
    await connection.execute("SET LOCAL statement_timeout = 0")


def translate_lock(error: BaseException, *, doing: str, holders: str = "") -> ExportdError:
    """Like ``translate``, with LOCK_NOT_AVAILABLE for everything that another session's lock can cause.

    ``holders`` is what ``lock_holders`` said.
    """
    busy = (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError, asyncpg.DeadlockDetectedError)
    if isinstance(error, busy):
        return TransientError(
            f"Another session held a lock while {doing}: {error}.{holders and f' {holders}'} It is tried again.",
            reason=Reason.LOCK_NOT_AVAILABLE,
        )
    return translate(error, doing=doing)


async def lock_holders(connection: Connection, tables: Iterable[TableName], *, mode: str) -> str:
    """A sentence that names the sessions whose locks on the tables conflict with ``mode``; "" for none.

    It belongs to an error that is about to be raised. If the sessions cannot be read, it is "".
    """
    try:
        rows = await connection.fetch(_SQL["holders"], [table(name) for name in tables], _IN_THE_WAY.get(mode))
    except FOREIGN_ERRORS:
        return ""
    named = [_holder(row) for row in rows[:_MAX_HOLDERS]]
    more = ["others"] if len(rows) > _MAX_HOLDERS else []
    return f"Locks are held by {'; '.join([*named, *more])}." if named else ""


def _holder(row: Record) -> str:
    since = f", since {row['since'].astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if row["since"] else ""
    if row["pid"] is None:
        name = f" {shown(row['gid'])!r}" if row["gid"] else ""
        return f"a prepared transaction{name}{since}"
    application = f" {shown(row['application_name'])!r}" if row["application_name"] else ""
    role = f" of {shown(row['role'])}" if row["role"] else ""
    state = f" ({row['state']})" if row["state"] else ""
    return f"session {row['pid']}{application}{role}{state}{since}"
