"""Installs, repairs and removes capture. Never queues behind a long writer: a short lock_timeout, and again."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from asyncpg import Connection, Record

from exportd.catalog.shape import Shape
from exportd.catalog.shape_reader import read_shapes
from exportd.changes.capture_table import Installed, read_installed
from exportd.changes.repair import Repair, is_intact, removal_of, repair_of
from exportd.changes.trigger_functions import capture_of
from exportd.database.connector import Connector, translate
from exportd.database.queries import load
from exportd.database.quoting import table
from exportd.model.change_log import SCHEMA
from exportd.model.entity import Entity, EntityCode, TableName
from exportd.model.errors import PermanentError
from exportd.model.reason import Reason

_QUERIES = load("changes")
_CLUSTER = _QUERIES["cluster"]
_RECORD_CLUSTER = _QUERIES["record_cluster"]

_logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class EntityCapture:
    """How an entity's capture stands: ``findings`` is empty when it is whole."""

    entity: EntityCode
    findings: tuple[str, ...]
    statements: tuple[str, ...] = ()


class CaptureInstaller:
    """Brings capture to what the catalog says, entity by entity, each in a transaction of its own."""

    def __init__(
        self,
        connector: Connector,
        *,
        pause: Callable[[float], Awaitable[None]],
        lock_timeout_s: float = 2.0,
        attempts: int = 10,
    ) -> None:
        self._connector = connector
        self._pause = pause
        self._lock_timeout_s = lock_timeout_s
        self._attempts = attempts

    async def status(self, entities: Sequence[Entity]) -> list[EntityCapture]:
        """What ``install`` would do for each entity, without doing it."""
        async with self._connector.connection("capture status") as connection:
            repairs = await _repairs(connection, entities)
        return [
            EntityCapture(code, repair.findings, (repair.lock(), *repair.statements) if repair.needed else ())
            for code, repair in repairs.items()
        ]

    async def install(self, entities: Sequence[Entity]) -> list[EntityCapture]:
        """Make each entity's capture whole; says what was found and put right.

        Raises PermanentError when a table is missing or the role may not create triggers, TransientError when a
        writer held its lock through all attempts.
        """
        async with self._connector.connection("capture install") as connection:
            await self._drop_log_rows_of_another_cluster(connection)
            repairs = await _repairs(connection, entities)
            for entity in entities:
                repair = repairs[entity.code]
                if repair.needed:
                    await self._apply(connection, entity.table, repair)
                    _logger.info("capture repaired", entity=entity.code, findings=repair.findings)
        return [EntityCapture(code, each.findings, each.statements) for code, each in repairs.items()]

    async def uninstall(self, logs: Sequence[str] | None = None) -> list[str]:
        """Remove the given logs (bare names; None: all there are) with their triggers and functions."""
        async with self._connector.connection("capture uninstall") as connection:
            installed = await read_installed(connection)
            removed = [each for each in installed.logs if logs is None or each in logs]
            for log in removed:
                await self._apply(connection, TableName(SCHEMA, log), removal_of(log, installed))
        return removed

    async def _apply(self, connection: "Connection[Record]", about: TableName, repair: Repair) -> None:
        for attempt in range(1, self._attempts + 1):
            try:
                async with connection.transaction():
                    await connection.execute(
                        f"SET LOCAL lock_timeout = '{int(self._lock_timeout_s * 1000)}ms'"
                    )
                    if repair.locked:
                        await connection.execute(repair.lock())
                    for statement in repair.statements:
                        await connection.execute(statement)
            except Exception as error:
                failure = translate(error, doing=f"install capture on {about}")
                if failure.reason is not Reason.LOCK_NOT_AVAILABLE or attempt == self._attempts:
                    raise failure from error
                await self._pause(0.1 * attempt)
            else:
                return

    async def _drop_log_rows_of_another_cluster(self, connection: "Connection[Record]") -> None:
        """After a restore, old log rows would look like changes of the future."""
        row = await connection.fetchrow(_CLUSTER)
        assert row is not None  # noqa: S101 - a query without FROM has one row
        here = (row["system_identifier"], row["database_oid"])
        if (row["recorded_identifier"], row["recorded_oid"]) == here:
            return
        async with connection.transaction():
            if row["recorded_identifier"] is not None:
                for log in (await read_installed(connection)).logs:
                    await connection.execute(f"DELETE FROM {table(TableName(SCHEMA, log))}")
                _logger.warning("change logs of another cluster dropped", recorded=row["recorded_identifier"])
            await connection.execute(_RECORD_CLUSTER, *here)


def capture_is_intact(entity: Entity, shape: Shape) -> bool:
    """Whether the entity's capture triggers all stand, as far as one snapshot of the catalogs can tell."""
    return is_intact(capture_of(entity, shape), shape)


async def _repairs(connection: "Connection[Record]", entities: Sequence[Entity]) -> dict[EntityCode, Repair]:
    shapes = await read_shapes(connection, entities)
    installed = await read_installed(connection)
    return {each.code: _repair(each, shapes.get(each.code), installed) for each in entities}


def _repair(entity: Entity, shape: Shape | None, installed: Installed) -> Repair:
    if shape is None:
        raise PermanentError(
            f"Entity {entity.code}: {entity.table} does not exist, or is not an ordinary or partitioned table. "
            "Correct the catalog.",
            reason=Reason.TABLE_MISSING,
        )
    return repair_of(entity, capture_of(entity, shape), shape, installed)
