"""Looks from time to time whether the entities of the catalog fit the database.

An application may drop or rename a table, a column or a key at any time. The entity is then out of order: its jobs fail
and say why, all others run. When the table is back, it is in order again by itself.
"""

from collections.abc import Awaitable, Callable

import anyio
import structlog

from exportd.catalog.document import Catalog
from exportd.catalog.resolver import reexamine
from exportd.daemon.current import Configuration, Current
from exportd.database.connector import Connector
from exportd.model.clock import Clock, wait_until
from exportd.model.errors import ExportdError, TransientError
from exportd.model.job import Job
from exportd.model.reason import Reason

_MAX_LOOKS = 5
"""A reload that comes between is looked after again, so often."""

_logger = structlog.get_logger()

Adopt = Callable[[Configuration, Catalog], Awaitable[bool]]
"""Puts a catalog into effect instead of that of a configuration; False when that is not in effect any more."""


class EntityKeeper:
    """A service: ``run`` until cancelled. ``adopt`` has to be set before it looks."""

    adopt: Adopt

    def __init__(self, connector: Connector, current: Current, clock: Clock) -> None:
        self._connector = connector
        self._current = current
        self._clock = clock
        self._woken = anyio.Event()
        self._one_at_a_time = anyio.Lock()

    def wake(self) -> None:
        """Look soon: a job has failed, perhaps because of its table."""
        self._woken.set()

    async def run(self) -> None:
        """Look when woken, and with each poll. An error is logged; the next look tries again."""
        while True:
            poll_interval_s = self._current.settings().capture.poll_interval_s
            await wait_until(self._woken, self._clock.monotonic() + poll_interval_s, clock=self._clock)
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
                if catalog == before.catalog:
                    return
                if await self.adopt(before, catalog):
                    report(before.catalog, catalog)
                    return
        raise TransientError(
            "The configuration kept changing while the entities were checked.", reason=Reason.INTERRUPTED
        )


def report(before: Catalog | None, now: Catalog) -> None:
    """Log which entities are out of order and were not before, and which are in order again."""
    known = {} if before is None else before.out_of_order
    for code in now.out_of_order:
        if known.get(code) != now.out_of_order[code]:
            _logger.error("entity out of order", entity=code, error=now.trouble(code))
    for code in known:
        if code in now.entities and code not in now.out_of_order:
            _logger.info("entity in order again", entity=code)
