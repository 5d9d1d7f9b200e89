"""Locks tables without blocking the application for long.

A session that waits for a lock makes later ones wait behind it, so each wait is short, and the caller tries again. It
is also shorter than Postgres's deadlock_timeout of a second: a session that has waited for us that long looks for a
deadlock and, if there is one, fails. We must have given up before.
"""

import asyncpg

from exportd.database.connector import Connection
from exportd.database.translator import translate
from exportd.model.errors import ExportdError, TransientError
from exportd.model.reason import Reason

MAX_LOCK_WAIT_S = 0.8


async def take_locks(connection: Connection, statement: str, *, wait_s: float = MAX_LOCK_WAIT_S) -> None:
    """Run a LOCK TABLE statement in the open transaction; all its locks together may take ``wait_s``.

    What comes later in the transaction waits as long for each of its locks. Raises what ``translate_lock`` gives.
    """
    wait_ms = max(1, round(min(wait_s, MAX_LOCK_WAIT_S) * 1000))
    # One bounds the wait for each lock, the other for all of them.
    await connection.execute(f"SET LOCAL lock_timeout = {wait_ms}; SET LOCAL statement_timeout = {wait_ms}")
    await connection.execute(statement)
    await connection.execute("SET LOCAL statement_timeout = 0")


def translate_lock(error: BaseException, *, doing: str) -> ExportdError:
    """Like ``translate``, with LOCK_NOT_AVAILABLE for everything that another session's lock can cause."""
    busy = (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError, asyncpg.DeadlockDetectedError)
    if isinstance(error, busy):
        return TransientError(
            f"Another session held a lock while {doing}: {error}. It is tried again.", reason=Reason.LOCK_NOT_AVAILABLE
        )
    return translate(error, doing=doing)
