"""Handles a database that refuses the daemon: waits with back-off, reports it, and uses another password if the
configuration has one.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
import asyncpg
import structlog

from exportd.daemon.current import Configuration, Current, configure_log
from exportd.daemon.systemd_notifier import notify, status, still_starting
from exportd.database.connector import Connector
from exportd.database.setup_checker import warn_of_rights
from exportd.model.errors import ExportdError, Reason, SettingsError
from exportd.schedules.calendar import check_rule
from exportd.settings.difference import effective
from exportd.settings.loader import load
from exportd.telemetry import logging

_FIRST_PAUSE_S = 0.5
_MAX_PAUSE_S = 15.0

_logger = structlog.get_logger()

T = TypeVar("T")


async def _nothing() -> None:
    """Do nothing between two attempts."""


class StartRetry:
    """Repeats steps of the start until the database accepts them. The back-off continues from one step to the next."""

    def __init__(self, *, before_retry: Callable[[], Awaitable[object]] = _nothing) -> None:
        self._before_retry = before_retry
        self._pause_s = _FIRST_PAUSE_S

    async def attempt(self, step: Callable[[], Awaitable[T]]) -> T | None:
        """Try the step once and return its result; None, after a pause, when the database is out of reach or refuses.
        Raises SettingsError.
        """
        try:
            return await step()
        except ExportdError as error:
            await self._pause(error)
            return None

    async def until_done(self, step: Callable[[], Awaitable[T]]) -> T:
        """Repeat the step until it succeeds, and return its result. Raises SettingsError."""
        while True:
            try:
                return await step()
            except ExportdError as error:
                await self._pause(error)

    async def _pause(self, error: ExportdError) -> None:
        if isinstance(error, SettingsError):
            raise error
        if isinstance(error.__cause__, asyncpg.DataError):
            # For example, the file has a character that the database's encoding lacks.
            raise SettingsError.of(error.sentence, where="configuration") from error
        _logger.warning("waiting for the database", reason=error.reason, error=error.sentence, retry_in_s=self._pause_s)
        # Otherwise systemd would take the waiting for a hung start.
        notify(f"{still_starting(self._pause_s)}\n{status(f'waiting for the database: {error.sentence}')}")
        await anyio.sleep(self._pause_s)
        self._pause_s = min(self._pause_s * 2, _MAX_PAUSE_S)
        await self._before_retry()


class LoginRenewer:
    """Lets the connections use the user and the password that the configuration file ``config`` has now.

    A password may be rotated in the database before, or after, it is in the file. The other settings wait for a reload.
    """

    def __init__(self, config: Path, current: Current, connector: Connector) -> None:
        self._config = config
        self._current = current
        self._connector = connector

    async def renew(self) -> bool:
        """Use the login in the file. Returns whether it is another one for the same database. An invalid file changes
        nothing.
        """
        try:
            found = await anyio.to_thread.run_sync(lambda: load(self._config, check_rule=check_rule))
        except SettingsError:
            return False  # a reload says what is wrong with it
        before = self._current.configuration
        # Only for the same database: another one needs a restart.
        dsn = effective(before.settings, found).database.dsn
        if dsn == before.settings.database.dsn:
            return False
        settings = before.settings.model_copy(
            update={"database": before.settings.database.model_copy(update={"dsn": dsn})}
        )
        configure_log(settings, before=before.settings, level=logging.level())
        self._current.configuration = Configuration(settings, before.catalog, before.written)
        await self._connector.use(settings.database)
        _logger.info("login renewed from the configuration", database=str(self._connector.address))
        await warn_of_rights(self._connector)
        return True


class OutageReporter:
    """Reports the listener's trouble to the service manager, and tries another login if the file has one."""

    def __init__(self, renewer: LoginRenewer, connector: Connector) -> None:
        self._renewer = renewer
        self._connector = connector

    async def report(self, error: ExportdError | None) -> None:
        """Handle an error of the listener; None means that it listens again."""
        if error is None:
            # A connection keeps the state of the time when it was opened: a dropped role, a database that accepts no
            # changes.
            await self._connector.expire()
            notify(status("the database is there again"))
            return
        notify(status(f"waiting for the database: {error.sentence}"))
        if error.reason is Reason.DATABASE_REFUSED:
            await self._renewer.renew()
