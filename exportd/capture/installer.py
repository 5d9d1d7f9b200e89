"""Installs, repairs and removes capture.

It never queues behind a long writer: it waits for a lock only briefly (lock_timeout), and tries again after a pause. An
operator's request is written into the audit log before it is carried out, and is not carried out if that fails.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import structlog
from asyncpg import Record

from exportd.capture.repair import (
    Installed,
    InstalledFunction,
    InstalledLog,
    InstalledTrigger,
    Repair,
    belongs,
    is_intact,
    removal_of,
    repair_of,
)
from exportd.capture.script import grant_on_log, with_least_rights, without_rows
from exportd.capture.triggers import capture_of
from exportd.catalog.shape import Shape
from exportd.catalog.table_reader import read_fingerprint, read_shapes
from exportd.database import queries
from exportd.database.connector import Connection, Connector
from exportd.database.locks import LockWait, take_locks
from exportd.database.queries import only_row
from exportd.database.quoting import identifier, table
from exportd.database.translator import FOREIGN_ERRORS, translated
from exportd.database.unit_of_work import Auditor
from exportd.model.change_log import SCHEMA, log_name, log_table
from exportd.model.entity import Entity, EntityCode, TableName
from exportd.model.errors import ExportdError, InvariantError, PermanentError, Reason, SettingsError, TransientError
from exportd.model.foreign_text import MAX_SHOWN_LENGTH
from exportd.model.job import JobProgress
from exportd.settings.sentences import did_you_mean

_SQL = queries.load("changes")

_READING_ATTEMPTS = 3

_PASSING = {Reason.LOCK_NOT_AVAILABLE, Reason.TABLE_MISSING}
"""Errors that another attempt may not meet. For example, a partition may have been dropped since the repair was
planned.
"""

_logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class EntityCapture:
    """The state of an entity's capture: ``findings`` is empty when it is complete.

    ``failure`` is the reason why an installation did not complete it.
    """

    entity: EntityCode
    findings: tuple[str, ...]
    statements: tuple[str, ...] = ()
    failure: ExportdError | None = None


class CaptureInstaller:
    """Makes capture match the catalog, entity by entity, each in its own transaction."""

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
        """What ``install`` would do for each entity, without doing it.

        The statements are for a DBA, who has more rights than the daemon's role: see ``capture.script``.
        An entity that cannot be captured, because its table or its key does not exist, has that as its finding.
        """
        async with self._connection("capture status") as connection:
            with translated("reading what is captured"):
                shapes = await read_shapes(connection, entities)
                installed = await read_installed(connection, [log_name(entity.code) for entity in entities])
                role = str(await connection.fetchval(_SQL["role"]))
                strangers = await connection.fetch(_SQL["owned_by_others"])
                unreadable = await self._unreadable(connection, entities)
        found: list[EntityCapture] = []
        for entity in entities:
            try:
                shape = _shape_of(entity, shapes)
                repair = _repair(entity, shape, installed)
            except PermanentError as error:
                found.append(EntityCapture(entity.code, (error.sentence,)))
            else:
                findings = repair.findings
                statements: tuple[str, ...] = ()
                if entity.code in unreadable:
                    findings = (*findings, f"the role {self._connector.reader} may not read the change log")
                if repair.needed:
                    made_anew = [trigger.create() for trigger in capture_of(entity, shape).triggers]
                    statements = (
                        *(_hand_over(row, role) for row in strangers if _is_of(row, log_name(entity.code))),
                        *with_least_rights((repair.lock(), *without_rows(repair.statements, made_anew)), role),
                    )
                if findings and self._connector.reader:
                    grants = grant_on_log(self._connector.reader, log_table(entity.code))
                    statements = (*statements, *with_least_rights(grants, role))
                found.append(EntityCapture(entity.code, findings, statements))
        return found

    async def install(self, entities: Sequence[Entity]) -> list[EntityCapture]:
        """Complete each entity's capture. Returns what was found and repaired.

        Raises PermanentError when a table is missing or the role may not create triggers, TransientError when a writer
        held its lock through all attempts.
        """
        captures, _ = await self._install(entities, go_on=False)
        return captures

    async def complete(self, entities: Sequence[Entity], progress: JobProgress) -> str:
        """As ``install``, but returns the fingerprint of the catalog from before it began.

        As long as the fingerprint stays the same, there is nothing to complete. While this waits for a lock,
        ``progress`` names the sessions that hold it.
        """
        _, fingerprint = await self._install(entities, go_on=False, progress=progress)
        return fingerprint

    async def install_what_can_be(self, entities: Sequence[Entity]) -> list[EntityCapture]:
        """As ``install``, but when the capture of one entity cannot be completed, the others are completed all the
        same.

        The entity's ``failure`` says why. Raises errors that concern all entities, such as an unreachable database.
        """
        captures, _ = await self._install(entities, go_on=True)
        return captures

    async def _install(
        self, entities: Sequence[Entity], *, go_on: bool, progress: JobProgress | None = None
    ) -> tuple[list[EntityCapture], str]:
        captures: list[EntityCapture] = []
        async with self._connection("capture install") as connection:
            with translated("reading what is captured"):
                # Read the fingerprint first: a change while the rest is read then gives another fingerprint.
                fingerprint = await read_fingerprint(connection, entities)
                await self._drop_log_rows_of_another_cluster(connection)
            shapes, installed = await self._read(connection, entities, progress)
            for entity in entities:
                try:
                    repair = _repair(entity, _shape_of(entity, shapes), installed)
                    if repair.needed:
                        repair = await self._repair(connection, entity, repair, progress)
                except ExportdError as error:
                    if not go_on or (isinstance(error, TransientError) and error.reason not in _PASSING):
                        raise
                    captures.append(EntityCapture(entity.code, (error.sentence,), failure=error))
                else:
                    captures.append(EntityCapture(entity.code, repair.findings, repair.statements))
            await self._grant_reading(connection, entities)
        return captures, fingerprint

    async def _read(
        self, connection: "Connection", entities: Sequence[Entity], progress: JobProgress | None
    ) -> tuple[Mapping[EntityCode, Shape], Installed]:
        """Read what is installed. It waits for a table that is locked even against reading its catalog, as by a long
        ALTER.
        """
        tables = {entity.code: entity.table for entity in entities}
        with LockWait("reading what is captured", progress) as wait:
            for attempt in range(1, _READING_ATTEMPTS + 1):
                try:
                    shapes = await read_shapes(connection, entities)
                    return shapes, await read_installed(connection, [log_name(code) for code in tables])
                except FOREIGN_ERRORS as error:
                    failure = await wait.failure(
                        connection, error, tables.values(), mode="ACCESS SHARE", entities=tables
                    )
                    if failure.reason is not Reason.LOCK_NOT_AVAILABLE or attempt == _READING_ATTEMPTS:
                        raise failure from error
        raise InvariantError("the last attempt returns or raises")

    async def removals(self, logs: Sequence[str] | None = None) -> dict[str, tuple[str, ...]]:
        """The statements that ``uninstall`` would run for each existing log of the given ones (None: all)."""
        async with self._connector.connection("capture status") as connection:
            with translated("reading what is captured"):
                installed = await read_installed(connection)
        plans = {log: removal_of(log, installed) for log in installed.logs if logs is None or log in logs}
        return {log: (*([plan.lock()] if plan.locked else []), *plan.statements) for log, plan in plans.items()}

    async def uninstall(self, logs: Sequence[str] | None = None) -> list[str]:
        """Remove the given logs (bare names; None: all there are) with their triggers and functions."""
        async with self._connector.connection("capture uninstall") as connection:
            with translated("reading what is captured"):
                installed = await read_installed(connection)
            removed = [log for log in installed.logs if logs is None or log in logs]
            for log in removed:

                async def removal(log: str = log) -> Repair:
                    return removal_of(log, await read_installed(connection, [log]))

                with LockWait(f"removing the capture of {log}") as wait:
                    await self._apply(connection, removal_of(log, installed), removal, wait, {})
        return removed

    def _connection(self, purpose: str) -> AbstractAsyncContextManager["Connection"]:
        """A connection that does not wait long for a locked table, such as one under a long ALTER."""
        return self._connector.connection(purpose, lock_timeout_s=self._lock_timeout_s)

    async def _unreadable(self, connection: "Connection", entities: Sequence[Entity]) -> set[EntityCode]:
        """The entities whose change logs exist, but cannot be read by the login that reads."""
        if self._connector.reader is None:
            return set()
        codes = {log_name(entity.code): entity.code for entity in entities}
        rows = await connection.fetch(_SQL["unreadable_logs"], self._connector.reader, list(codes))
        return {codes[row["relname"]] for row in rows}

    async def _grant_reading(self, connection: "Connection", entities: Sequence[Entity]) -> None:
        """Let the login that reads see new logs. The daemon owns the logs, and grants nothing else."""
        with translated("granting the change logs"):
            for code in await self._unreadable(connection, entities):
                for statement in grant_on_log(self._connector.reader or "", log_table(code)):
                    await connection.execute(statement)

    async def _repair(
        self, connection: "Connection", entity: Entity, planned: Repair, progress: JobProgress | None
    ) -> Repair:
        async def again() -> Repair:
            shapes = await read_shapes(connection, [entity])
            return _repair(entity, _shape_of(entity, shapes), await read_installed(connection, [log_name(entity.code)]))

        with LockWait(f"installing capture on {entity.table}", progress) as wait:
            done = await self._apply(connection, planned, again, wait, {entity.code: entity.table})
        if done.needed:
            _logger.info("capture repaired", entity=entity.code, findings=done.findings)
        return done

    async def _apply(
        self,
        connection: "Connection",
        planned: Repair,
        again: Callable[[], Awaitable[Repair]],
        wait: LockWait,
        entities: Mapping[EntityCode, TableName],
    ) -> Repair:
        """Run a repair under its locks.

        The repair is planned ``again`` under the locks, because another daemon may have done it meanwhile, or the
        application may have changed its tables.
        """
        for attempt in range(1, self._attempts + 1):
            try:
                async with connection.transaction():
                    if planned.locked:
                        await take_locks(connection, planned.lock(), wait_s=self._lock_timeout_s)
                    locked, planned = planned, await again()
                    if locked.lock_covers(planned):
                        for statement in planned.statements:
                            await connection.execute(statement)
                        return planned
            except FOREIGN_ERRORS as error:
                failure = await wait.failure(
                    connection, error, planned.locked, mode=planned.lock_mode, entities=entities
                )
                if failure.reason not in _PASSING or attempt == self._attempts:
                    raise failure from error
                await self._pause(0.1 * attempt)
                if failure.reason is Reason.TABLE_MISSING:
                    with translated(wait.doing):
                        planned = await again()
        raise TransientError(
            f"The tables kept changing while {wait.doing}. It is tried again.", reason=Reason.LOCK_NOT_AVAILABLE
        )

    async def _drop_log_rows_of_another_cluster(self, connection: "Connection") -> None:
        """Delete the log rows of another cluster: after a restore, they would look like changes of the future."""
        row = only_row(await connection.fetchrow(_SQL["cluster"]))
        here = (row["system_identifier"], row["database_oid"])
        if (row["recorded_identifier"], row["recorded_oid"]) == here:
            return
        async with connection.transaction():
            if row["recorded_identifier"] is not None:
                for log in (await read_installed(connection)).logs:
                    await connection.execute(f"DELETE FROM {table(TableName(SCHEMA, log))}")
                _logger.warning("change logs of another cluster dropped", recorded=row["recorded_identifier"])
            await connection.execute(_SQL["record_cluster"], *here)


async def install_on_request(
    installer: CaptureInstaller, auditor: Auditor, entities: Sequence[Entity], *, actor: str
) -> list[EntityCapture]:
    """Complete the capture of entities. Returns what was wrong, and the SQL that was run.

    If there are several, those that cannot be completed are reported, and the others are completed all the same. For a
    single one, raises PermanentError when its table is missing or the role may not install capture, TransientError when
    the table stays locked.
    """
    await auditor.write("capture installed", actor=actor, entities=[entity.code for entity in entities])
    install = installer.install if len(entities) == 1 else installer.install_what_can_be
    return await install(entities)


async def uninstall_on_request(
    installer: CaptureInstaller,
    auditor: Auditor,
    names: Collection[EntityCode],
    *,
    known: Collection[EntityCode],
    dry_run: bool = False,
    actor: str,
) -> dict[str, tuple[str, ...]]:
    """Remove the change logs of the named entities (none: all that there are) with their triggers and functions.

    An entity that has left the catalog may be named as long as its log exists. Returns the statements that were run for
    each log. Raises SettingsError for other names.
    """
    removals = await installer.removals([log_name(name) for name in names] if names else None)
    for name in names:
        if name not in known and log_name(name) not in removals:
            hint = did_you_mean(name, known, what="entities of the catalog")
            raise SettingsError.of(f"there is no entity {name[:MAX_SHOWN_LENGTH]!r}; {hint}", where="entities")
    if removals and not dry_run:
        await auditor.write("capture uninstalled", actor=actor, logs=list(removals))
        await installer.uninstall(list(removals))
    return removals


async def read_installed(connection: Connection, logs: Sequence[str] | None = None) -> Installed:
    """Read what belongs to the given logs (bare names; None: to any), in three queries.

    The result may contain functions of another log whose name begins with the same characters.
    """
    escaped = ["log\\_"] if logs is None else [log.replace("_", "\\_") for log in logs]
    names = [f"{prefix}%" for prefix in escaped]
    return Installed(
        logs={
            row["name"]: InstalledLog(
                row["captures"] or "",
                logged=row["logged"],
                indexed=row["indexed"],
                numbered=row["numbered"],
                stamped=row["stamped"],
            )
            for row in await connection.fetch(_SQL["installed_logs"], names)
        },
        functions=[
            InstalledFunction(
                row["name"],
                row["arguments"],
                row["digest"],
                logs=row["logs"],
                definer=row["definer"],
                settings=_function_settings(row["settings"]),
            )
            for row in await connection.fetch(_SQL["installed_functions"], names)
        ],
        triggers=[
            InstalledTrigger(row["name"], TableName(row["schema_name"], row["table_name"]), row["function"])
            for row in await connection.fetch(_SQL["installed_triggers"], names)
        ],
    )


def capture_is_intact(entity: Entity, shape: Shape) -> bool:
    """Whether all of the entity's capture triggers are installed and enabled, in the catalogs' current snapshot."""
    return is_intact(capture_of(entity, shape), shape)


def _is_of(row: Record, log: str) -> bool:
    return row["name"] == log if row["arguments"] is None else belongs(row["name"], log)


def _hand_over(row: Record, role: str) -> str:
    """The statement that makes ``role`` the owner of a table or a function. A function runs with the rights of its
    owner.
    """
    name = table(TableName(SCHEMA, row["name"]))
    kind = f"TABLE {name}" if row["arguments"] is None else f"FUNCTION {name}({row['arguments']})"
    return f"ALTER {kind} OWNER TO {identifier(role)}"


def _shape_of(entity: Entity, shapes: Mapping[EntityCode, Shape]) -> Shape:
    shape = shapes.get(entity.code)
    if shape is None:
        raise PermanentError(
            f"Entity {entity.code}: {entity.table} does not exist, or is not an ordinary or partitioned table. "
            "Correct the catalog.",
            reason=Reason.TABLE_MISSING,
        )
    return shape


def _repair(entity: Entity, shape: Shape, installed: Installed) -> Repair:
    return repair_of(entity, capture_of(entity, shape), shape, installed)


def _function_settings(assignments: Iterable[str]) -> frozenset[tuple[str, str]]:
    pairs = (assignment.split("=", 1) for assignment in assignments)
    return frozenset((name.lower(), value) for name, value in pairs)
