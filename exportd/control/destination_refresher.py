"""Keeps the opened destinations those that the API has made, whichever daemon made them."""

from collections.abc import Callable, Mapping
from typing import Any

import anyio
import structlog

from exportd.control.destination_record import DestinationDeclaration
from exportd.control.destination_table import DestinationTable
from exportd.destinations import Destination, Destinations
from exportd.model.clock import Clock, wait_until
from exportd.model.entity import OrganizationId
from exportd.model.errors import ExportdError
from exportd.model.schedule import DestinationCode, Origin

_logger = structlog.get_logger()

POLL_INTERVAL_S = 30.0

_Key = tuple[OrganizationId, DestinationCode]


class DestinationRefresher:
    """``opener`` makes a destination from what a person declares; it raises SettingsError when that cannot be."""

    def __init__(
        self,
        table: DestinationTable,
        live: Destinations,
        opener: Callable[[DestinationDeclaration], Destination],
        clock: Clock,
    ) -> None:
        self._table = table
        self._live = live
        self._opener = opener
        self._clock = clock
        self._known: dict[_Key, Mapping[str, Any]] = {}
        self._woken = anyio.Event()
        self._one_at_a_time = anyio.Lock()

    def wake(self) -> None:
        """Look again soon: a destination was edited."""
        self._woken.set()

    def check(self, declaration: DestinationDeclaration) -> None:
        """Raises SettingsError when the destination could not be opened."""
        self._opener(declaration)

    async def run(self) -> None:
        """Refresh when woken and from time to time, for ever."""
        while True:
            try:
                await self.refresh()
            except ExportdError as error:
                _logger.warning("destinations could not be read", reason=error.reason, error=error.sentence)
            await wait_until(self._woken, self._clock.monotonic() + POLL_INTERVAL_S, clock=self._clock)
            self._woken = anyio.Event()

    async def refresh(self) -> None:
        """Open what is new, replace what was edited, take out what is gone."""
        async with self._one_at_a_time:
            wanted = {
                (each.declaration.organization, each.declaration.code): each.declaration
                for each in await self._table.all()
                if each.origin is Origin.API
            }
            for key in self._known.keys() - wanted.keys():
                self._live.remove(*key)
                del self._known[key]
            for key, declaration in wanted.items():
                if self._known.get(key) != declaration.settings:
                    self._open(key, declaration)

    def _open(self, key: _Key, declaration: DestinationDeclaration) -> None:
        try:
            destination = self._opener(declaration)
        except ExportdError as error:
            organization, code = key
            _logger.warning(
                "destination cannot be opened", organization=organization, destination=code, error=error.sentence
            )
            return
        self._live.put(destination)
        self._known[key] = declaration.settings
