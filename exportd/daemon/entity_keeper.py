"""Checks from time to time whether the entities of the catalog fit the database, and reads figures of their tables.

An application may drop or rename a table, a column or a key at any time. The entity is then out of order: its jobs fail
and say why, while all others run. When the table is restored, the entity is in order again without any action.

Figures that people see, such as numbers of rows, are those of the last look. A request never asks the database for
them.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import anyio
import anyio.to_thread
import structlog

from exportd.api.schemas.entity import CaptureState, EntityStanding
from exportd.capture.installer import capture_is_intact
from exportd.catalog.checker import reexamine
from exportd.catalog.document import Catalog
from exportd.catalog.shape import Shape
from exportd.catalog.table_reader import read_fingerprint, read_row_estimates, read_shapes, reading
from exportd.daemon.current import Configuration, Current
from exportd.database.connector import Connection, Connector
from exportd.model.clock import Clock
from exportd.model.entity import Entity, EntityCode
from exportd.model.errors import ExportdError, PermanentError, Reason, TransientError
from exportd.model.job import Job

_MAX_LOOKS = 5
"""How often a look is repeated when a reload comes in between."""

_logger = structlog.get_logger()

Adopt = Callable[[Configuration, Catalog], Awaitable[bool]]
"""Replaces the catalog of a configuration. Returns False when that configuration is not in effect any more."""


class EntityKeeper:
    """A service: ``run`` until cancelled. ``adopt`` has to be set before it looks."""

    adopt: Adopt

    def __init__(self, connector: Connector, current: Current, clock: Clock) -> None:
        self._connector = connector
        self._current = current
        self._clock = clock
        self._woken = anyio.Event()
        self._woken.set()  # at the start: until then nothing is known of the tables
        self._one_at_a_time = anyio.Lock()
        self._fingerprint = ""
        self._captures: Mapping[EntityCode, CaptureState] = {}
        self.standings: Mapping[EntityCode, EntityStanding] = {}
        """The entities' tables as the last look saw them."""

    def wake(self) -> None:
        """Look soon, because a job has failed, perhaps because of its table."""
        self._woken.set()

    async def run(self) -> None:
        """Look when woken and at each poll, until cancelled. An error is logged, and the next look tries again."""
        while True:
            poll_interval_s = self._current.settings().capture.poll_interval_s
            await self._clock.wait_for(self._woken, self._clock.monotonic() + poll_interval_s)
            self._woken = anyio.Event()
            try:
                await self.look()
            except ExportdError as error:
                _logger.warning("entities not checked", reason=error.reason, error=error.sentence)

    async def look_for(self, job: Job) -> None:
        """Look now, if an entity of the job is out of order. Raises TransientError when the database is away."""
        if any(code in self._current.catalog().out_of_order for code in job.entities):
            await self.look()

    async def look(self) -> None:
        """Compare the catalog with the database, and put into effect what has changed.

        Raises TransientError or PermanentError when the database cannot be read.
        """
        async with self._one_at_a_time:
            for _ in range(_MAX_LOOKS):
                before = self._current.configuration
                async with self._connector.reading("entities") as connection:
                    catalog = await reexamine(before.catalog, before.written, connection)
                    self.standings = await self._look_at_tables(connection, list(catalog.entities.values()))
                if catalog == before.catalog:
                    return
                if await self.adopt(before, catalog):
                    report(before.catalog, catalog)
                    return
        raise TransientError(
            "The configuration kept changing while the entities were checked.", reason=Reason.INTERRUPTED
        )

    async def _look_at_tables(
        self, connection: Connection, entities: Sequence[Entity]
    ) -> Mapping[EntityCode, EntityStanding]:
        async with reading(connection, doing="looking at the entities' tables"):
            rows = await read_row_estimates(connection, entities)
            fingerprint = await read_fingerprint(connection, entities)
            if fingerprint != self._fingerprint:
                shapes = await read_shapes(connection, entities)
                there = [entity for entity in entities if entity.code in shapes]
                self._captures = await anyio.to_thread.run_sync(
                    lambda: {entity.code: _capture_state(entity, shapes[entity.code]) for entity in there}
                )
                self._fingerprint = fingerprint
        now = self._clock.now()
        return {
            entity.code: EntityStanding(rows.get(entity.code), self._captures.get(entity.code), now)
            for entity in entities
        }


def _capture_state(entity: Entity, shape: Shape) -> CaptureState:
    if shape.log_oid is None:
        return "NONE"
    try:
        return "WHOLE" if capture_is_intact(entity, shape) else "DAMAGED"
    except PermanentError:  # its key is not what the catalog says: it is out of order too
        return "DAMAGED"


def report(before: Catalog | None, now: Catalog) -> None:
    """Log the entities that have become out of order, and those that are in order again."""
    known = {} if before is None else before.out_of_order
    for code in now.out_of_order:
        if known.get(code) != now.out_of_order[code]:
            _logger.error("entity out of order", entity=code, error=now.trouble(code))
    for code in known:
        if code in now.entities and code not in now.out_of_order:
            _logger.info("entity in order again", entity=code)
