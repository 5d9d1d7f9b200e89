"""The daemon's current configuration, the log that it configures, and the services that run."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from exportd.api.schemas.status import ServiceState
from exportd.catalog.document import Catalog
from exportd.model.clock import Clock
from exportd.model.foreign_text import passwords_in
from exportd.settings.schema import Settings
from exportd.telemetry import logging


@dataclass(frozen=True, slots=True, eq=False)
class Configuration:
    """The settings that are in effect (without changes that wait for a restart), and their catalog.

    ``catalog`` is as it was examined in the database, ``written`` as the file has it. Two configurations are never
    equal: each reload makes another one.
    """

    settings: Settings
    catalog: Catalog
    written: Catalog


class Current:
    """The configuration in effect. A reload swaps it by one assignment.

    A service asks for ``settings`` or ``catalog`` whenever it needs a value. A job keeps the configuration with which
    it began.
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration

    def settings(self) -> Settings:
        """The settings in effect."""
        return self.configuration.settings

    def catalog(self) -> Catalog:
        """The catalog in effect."""
        return self.configuration.catalog


def configure_log(settings: Settings, *, before: Settings | None = None, level: logging.Level | None = None) -> None:
    """Configure the log by the settings, or with another ``level``. The passwords of all logins are masked, those
    ``before`` too.
    """
    databases = [known.database for known in (settings, before) if known is not None]
    secrets = passwords_in(*(dsn for database in databases for dsn in (database.dsn, database.reader_dsn)))
    logging.configure(level=level or settings.log.level, line_format=settings.log.format, secrets=secrets)


class ServiceRegister:
    """Records which services of the daemon run, and since when. All services run through the daemon's one register."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._states: dict[str, ServiceState] = {}
        self.started_at = clock.now()

    @property
    def states(self) -> Mapping[str, ServiceState]:
        """The states of the services by name, in the order in which they were started."""
        return self._states

    async def run(self, name: str, service: Callable[[], Awaitable[None]]) -> None:
        """Run a service to its end. Raises what the service raises."""
        self._states[name] = ServiceState(running=True, since=self._clock.now())
        try:
            await service()
        finally:
            self._states[name] = ServiceState(running=False, since=self._clock.now())
