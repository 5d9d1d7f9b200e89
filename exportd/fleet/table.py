"""The daemons in Postgres: a daemon writes its own row, and reads those of the others.

A daemon is identified by its spool. It counts as running while its last heartbeat is recent. One that stopped stays
registered for a day, so that a host that is rebooted or repaired keeps what it declares. All methods raise
TransientError when the database is out of reach.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from exportd.database import queries
from exportd.database.connector import storable
from exportd.database.unit_of_work import notify, statements, transaction, write_audit
from exportd.jobs.operations import JobOperator
from exportd.model.errors import PermanentError, Reason
from exportd.model.schedule import Pause

if TYPE_CHECKING:
    from exportd.database.connector import Connection, Pool

_SQL = queries.load("daemons")
_DECLARATIONS_SQL = queries.load("declarations")

HEARTBEAT_S = 15.0

RUNNING_S = 3 * HEARTBEAT_S
"""A daemon whose last heartbeat is older does not run."""

EPHEMERAL = "spool.ephemeral"
"""The setting that a daemon announces when its spool does not survive it."""

EPHEMERAL_COUNTED_S = 15 * 60.0
"""How long such a daemon keeps in effect what it declares."""

COUNTED_S = 24 * 3600.0
"""How long a daemon that does not run keeps in effect what it declares."""


@dataclass(frozen=True, slots=True)
class DaemonIdentity:
    """Which daemon it is. A daemon is identified by its spool; ``configuration`` is the path of its file."""

    spool_id: UUID
    host: str
    pid: int
    configuration: str
    version: str


@dataclass(frozen=True, slots=True)
class DaemonRecord:
    """A daemon as the database keeps it. Times are aware UTC, by the server's clock.

    ``running``: its last heartbeat is recent, and it has not deregistered. ``declared_at`` is when it last put a
    configuration into effect (None: not yet). ``settings`` are the values of the keys that all daemons should agree on,
    ``entities`` the fingerprints of its catalog's entities by code.
    """

    spool_id: UUID
    host: str
    pid: int
    version: str
    started_at: datetime
    seen_at: datetime
    declared_at: datetime | None
    running: bool
    settings: Mapping[str, str]
    entities: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DeclaredDifference:
    """A destination or schedule (``kind``) that this daemon and the one of ``spool_id`` declare differently.

    Only one of them declares it, or both do with different content.
    """

    spool_id: UUID
    kind: str
    organization: str
    code: str
    is_here: bool
    is_there: bool


class DaemonTable:
    """``exportd.daemon``: a daemon writes its own row, and evicts the stale ones."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    async def register(self, identity: DaemonIdentity) -> None:
        """Insert or renew the daemon's row, and evict the daemon whose place it takes."""
        async with statements(self._pool, "registering this daemon") as connection:
            await connection.execute(
                _SQL["register"],
                identity.spool_id,
                storable(identity.host, connection),
                identity.pid,
                storable(identity.configuration, connection),
                identity.version,
            )
            await _forget_gone(connection, identity.spool_id)

    async def announce(self, spool_id: UUID, *, settings: Mapping[str, str], entities: Mapping[str, str]) -> None:
        """Record what this daemon declares now, and notify the others."""
        async with transaction(self._pool, "telling the other daemons") as connection:
            await connection.execute(_SQL["announce"], spool_id, json.dumps(settings), json.dumps(entities))
            await notify(connection, "daemons_changed")

    async def paused(self) -> Pause | None:
        """The pause of all daemons, if there is one."""
        return await JobOperator(self._pool).paused()

    async def beat(self, spool_id: UUID) -> bool:
        """Record a heartbeat, and evict stale daemons. False when this daemon itself was evicted: register again."""
        async with statements(self._pool, "keeping this daemon known") as connection:
            known = await connection.fetchval(_SQL["beat"], spool_id) is not None
            await _forget_gone(connection, spool_id)
        return known

    async def leave(self, spool_id: UUID, *, for_good: bool) -> None:
        """Record that the daemon does not run any more. What it declares stays in effect for a while.

        ``for_good``: remove its row, for its spool will not come back. The others remove what only it declared.
        """
        async with transaction(self._pool, "leaving the other daemons") as connection:
            await connection.execute(_SQL["forget"] if for_good else _SQL["stop"], spool_id)
            await notify(connection, "daemons_changed")

    async def forget(self, spool_id: UUID, *, actor: str) -> str:
        """Remove a daemon that does not run; returns its host. The running ones remove what only it declared.

        Raises PermanentError NOT_FOUND, or STILL_RUNNING.
        """
        async with transaction(self._pool, "forgetting a daemon") as connection:
            row = await connection.fetchrow(_SQL["hold"], spool_id, RUNNING_S)
            if row is None:
                raise PermanentError(
                    f"There is no daemon {spool_id}. `exportd status` lists them.", reason=Reason.NOT_FOUND
                )
            host: str = row["host"]
            if row["running"]:
                raise PermanentError(
                    f"The daemon on {host} runs, or did within the last {RUNNING_S:g} seconds. Stop it first.",
                    reason=Reason.STILL_RUNNING,
                )
            await connection.execute(_SQL["forget"], spool_id)
            await notify(connection, "daemons_changed")
            await write_audit(
                connection,
                "daemon forgotten",
                actor=actor,
                object_id=spool_id,
                details={"host": host},
            )
        return host

    async def all(self) -> list[DaemonRecord]:
        """Every registered daemon, by host."""
        async with statements(self._pool, "reading the daemons") as connection:
            rows = await connection.fetch(_SQL["all"], RUNNING_S)
        texts = ("settings", "entities")
        return [DaemonRecord(**{**row, **{name: json.loads(row[name]) for name in texts}}) for row in rows]

    async def differences(self, spool_id: UUID) -> list[DeclaredDifference]:
        """The destinations and schedules that a daemon and the others declare differently."""
        async with statements(self._pool, "comparing the daemons") as connection:
            rows = await connection.fetch(_DECLARATIONS_SQL["differences"], spool_id)
        return [DeclaredDifference(**row) for row in rows]


async def _forget_gone(connection: "Connection", spool_id: UUID) -> None:
    """Evict stale daemons, in a transaction apart from the daemon's own row.

    Two daemons that both come back after a long silence would otherwise wait for each other's row.
    """
    async with connection.transaction(isolation="read_committed"):
        if await connection.fetch(_SQL["forget_gone"], spool_id, RUNNING_S, COUNTED_S, EPHEMERAL, EPHEMERAL_COUNTED_S):
            await notify(connection, "daemons_changed")
