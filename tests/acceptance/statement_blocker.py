"""Stops the daemon at an exact point: whatever statement meets a closed gate waits in the database until it opens.

A gate is an advisory lock that a trigger (or a function in the catalog) asks for. So nothing in the daemon knows.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from tests.fixtures.daemon import until

_LOCK = 4711

INSTALL = f"""
    CREATE FUNCTION public.pass_the_gate() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared({_LOCK});
        RETURN NEW;
    END $$;
    -- It says that it is immutable, or the catalog would not have it.
    CREATE FUNCTION public.pass_the_gate(value text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN
        IF value = 'at the gate' THEN
            PERFORM pg_advisory_xact_lock_shared({_LOCK});
        END IF;
        RETURN value;
    END $$;
"""

SEALING = "BEFORE UPDATE ON exportd.job FOR EACH ROW WHEN (NEW.phase = 'SEALED' AND OLD.phase = 'EXTRACTING')"
PUBLISHING = "BEFORE UPDATE ON exportd.job FOR EACH ROW WHEN (NEW.phase = 'PUBLISHING' AND OLD.phase = 'SEALED')"
DELIVERING = "BEFORE INSERT ON exportd.delivery FOR EACH ROW"
SUCCEEDING = "BEFORE UPDATE ON exportd.job FOR EACH ROW WHEN (NEW.state = 'SUCCEEDED' AND OLD.state = 'RUNNING')"


class Gate:
    """A closed gate. ``keeper`` is a connection that holds it and does nothing else meanwhile."""

    def __init__(self, keeper: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._keeper = keeper

    async def reached(self) -> int:
        """Wait until somebody stands before it; the process id of their backend."""

        async def look() -> int | None:
            pid: int | None = await self._keeper.fetchval(
                "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted LIMIT 1", _LOCK
            )
            return pid

        return await until(look, what="somebody at the gate")

    async def turn_away(self) -> None:
        """End the sessions that wait, so that what they asked for never happens."""
        await self._keeper.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks"
            " WHERE locktype = 'advisory' AND objid = $1 AND NOT granted",
            _LOCK,
        )


@asynccontextmanager
async def closed(keeper: "asyncpg.Connection[asyncpg.Record]", where: str | None = None) -> AsyncIterator[Gate]:
    """Close the gate for the block; ``where`` is one of the triggers above (None: only the catalog's function)."""
    await keeper.execute("SELECT pg_advisory_lock($1)", _LOCK)
    try:
        if where is not None:
            await keeper.execute(f"CREATE TRIGGER gate {where} EXECUTE FUNCTION public.pass_the_gate()")
        yield Gate(keeper)
    finally:
        if not keeper.is_closed():  # else the lock went with its session
            await keeper.execute("SELECT pg_advisory_unlock($1)", _LOCK)
            if where is not None:
                table = "exportd.delivery" if where is DELIVERING else "exportd.job"
                await keeper.execute(f"DROP TRIGGER gate ON {table}")
