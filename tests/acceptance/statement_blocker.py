"""Stops the daemon at an exact point: a statement that needs a blocked advisory lock waits in the database for it.

A trigger, or a function in the catalog, asks for the lock. So the daemon's code knows nothing of it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from tests.fixtures.daemon import until

_LOCK = 4711

INSTALL = f"""
    -- They wait for as long as the test takes.
    CREATE FUNCTION public.wait_while_blocked() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0 AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared({_LOCK});
        RETURN NEW;
    END $$;
    -- Declared immutable, or the catalog would refuse it.
    CREATE FUNCTION public.wait_while_blocked(value text) RETURNS text LANGUAGE plpgsql IMMUTABLE
    SET lock_timeout = 0 AS $$
    BEGIN
        IF value = 'blocked' THEN
            PERFORM pg_advisory_xact_lock_shared({_LOCK});
        END IF;
        RETURN value;
    END $$;
"""

SEALING = "BEFORE UPDATE ON exportd.job FOR EACH ROW WHEN (NEW.phase = 'SEALED' AND OLD.phase = 'EXTRACTING')"
PUBLISHING = "BEFORE UPDATE ON exportd.job FOR EACH ROW WHEN (NEW.phase = 'PUBLISHING' AND OLD.phase = 'SEALED')"
DELIVERING = "BEFORE INSERT ON exportd.delivery FOR EACH ROW"
SUCCEEDING = "BEFORE UPDATE ON exportd.job FOR EACH ROW WHEN (NEW.state = 'SUCCEEDED' AND OLD.state = 'RUNNING')"


class StatementBlocker:
    """A held lock. ``connection`` holds it and does nothing else meanwhile."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection

    async def blocked_backend(self) -> int:
        """Wait until a session waits for the lock; the process id of its backend."""

        async def look() -> int | None:
            pid: int | None = await self._connection.fetchval(
                "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted LIMIT 1", _LOCK
            )
            return pid

        return await until(look, what="a blocked statement")

    async def terminate_blocked(self) -> None:
        """Terminate the sessions that wait, so that their statements never run."""
        await self._connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks"
            " WHERE locktype = 'advisory' AND objid = $1 AND NOT granted",
            _LOCK,
        )


@asynccontextmanager
async def blocking(
    connection: "asyncpg.Connection[asyncpg.Record]", where: str | None = None
) -> AsyncIterator[StatementBlocker]:
    """Hold the lock during the block; ``where`` is one of the triggers above (None: only the catalog's function)."""
    await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
    try:
        if where is not None:
            await connection.execute(f"CREATE TRIGGER blocker {where} EXECUTE FUNCTION public.wait_while_blocked()")
        yield StatementBlocker(connection)
    finally:
        if not connection.is_closed():  # else the lock went with its session
            await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)
            if where is not None:
                table = "exportd.delivery" if where is DELIVERING else "exportd.job"
                await connection.execute(f"DROP TRIGGER blocker ON {table}")
