"""Puts another configuration into effect while the daemon runs.

First the new configuration is built and checked as a whole: the file, the catalog against the database, destinations,
groups, keys. A problem is reported to the caller, the log and systemd, and changes nothing. Then everything is swapped
in one step, which is undone if the database refuses it. Running jobs keep the configuration with which they began.
Changes that need a restart are reported, and do not take effect.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import anyio.to_thread
import structlog

from exportd.api.collaborators import Collaborators
from exportd.api.transport.certificate import Certificate, certificate_of
from exportd.catalog import document
from exportd.catalog.checker import examine
from exportd.catalog.document import Catalog
from exportd.console.rendering import Renderer
from exportd.daemon.assembly import Components, type_tokens
from exportd.daemon.control_assembly import ControlApi, collaborators_of
from exportd.daemon.current import Configuration, configure_log
from exportd.daemon.entity_keeper import report
from exportd.daemon.garbage import freezing
from exportd.daemon.systemd_notifier import READY, notify, reloading, status
from exportd.database.connector import Connector
from exportd.database.setup_checker import warn_of_rights
from exportd.destinations.open_destinations import Destination
from exportd.destinations.opener import DestinationOpener
from exportd.model.errors import ExportdError, Problem, Reason, SettingsError, TransientError
from exportd.schedules.calendar import check_rule
from exportd.settings.control_schema import ControlSettings
from exportd.settings.difference import Change, ChangeKind, Difference, compare, effective
from exportd.settings.document import sorted_by_line
from exportd.settings.loader import load_all
from exportd.settings.schema import Settings

_MAX_NAMED = 20
"""How many changes of a kind the log names."""

_logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A checked configuration and its parts. ``opened`` are its new or changed destinations."""

    configuration: Configuration
    collaborators: Collaborators
    opened: tuple[Destination, ...] = ()


async def examined(catalog: Catalog, connector: Connector) -> Catalog:
    """Complete the catalog from the database. Entities that do not fit are out of order.

    Raises TransientError or PermanentError when the database cannot be read.
    """
    async with connector.reading("catalog") as connection:
        return await examine(catalog, connection)


def misfits(now: Catalog, *, written: Catalog, before: Catalog) -> list[Problem]:
    """The problems in what a person has just written: entities that do not fit the database. Pure.

    ``written`` and ``before`` are the catalogs of the new and of the old file. An entity that has not changed in the
    file is no mistake in it: its table has changed, and the other changes need not wait for it.
    """
    return [
        problem
        for code, problems in now.out_of_order.items()
        if written.entities[code] != before.entities.get(code) or written.open_fields(code) != before.open_fields(code)
        for problem in problems
    ]


class Reloader:
    """Reloads the configuration file ``config``, one reload at a time."""

    control: ControlApi
    """The API, which can request a reload, and gets other collaborators from it."""

    def __init__(self, config: Path, components: Components) -> None:
        self._config = config
        self._components = components
        self._one_at_a_time = anyio.Lock()

    @classmethod
    async def open(cls, config: Path, components: Components) -> "Reloader":
        """With the API of the components. Raises SettingsError as ``collaborators_of``, or for a bad certificate."""
        reloader, configuration = cls(config, components), components.current.configuration
        control = configuration.settings.control
        using = await collaborators_of(configuration, components, reload=reloader.reload)
        certificate = await anyio.to_thread.run_sync(_checked_certificate, control)
        pages = await anyio.to_thread.run_sync(Renderer.load)
        reloader.control = ControlApi(using, control, certificate, pages)
        components.entities.adopt = reloader.adopt_catalog
        return reloader

    async def reload(self, *, dry_run: bool = False) -> Difference:
        """Put the file into effect, unless ``dry_run``; returns what it changes.

        Raises SettingsError with every problem of the file; PermanentError or TransientError when it cannot be checked
        or put into effect, or when the daemon is stopping. The daemon then goes on as before.
        """
        async with self._one_at_a_time:
            if not dry_run:
                notify(reloading())
            try:
                with freezing():
                    difference = await self._reload(dry_run=dry_run)
            except ExportdError as error:
                _report_refusal(error, dry_run=dry_run)
                raise
            finally:
                if not dry_run:
                    notify(READY)
            _report(difference, dry_run=dry_run)
            return difference

    async def adopt_catalog(self, before: Configuration, catalog: Catalog) -> bool:
        """Put a newly examined catalog into effect, with the current settings.

        Returns False when ``before`` is not in effect any more. Raises TransientError or PermanentError when the
        database refuses it. Then everything is as before.
        """
        async with self._one_at_a_time:
            if self._components.current.configuration is not before:
                return False
            configuration = Configuration(before.settings, catalog, before.written)
            if catalog.entities == before.catalog.entities:
                self._components.current.configuration = configuration
                return True
            # Tables are back, so their fields are known now. Pass them to the API and to the other daemons.
            using = await collaborators_of(configuration, self._components, reload=self.reload)
            await self._components.presence.declare(configuration.settings, catalog)
            self._components.current.configuration = configuration
            self.control.adopt(using)
            return True

    async def _reload(self, *, dry_run: bool) -> Difference:
        if self._components.dispatcher.stopping:
            raise TransientError(
                "The daemon is stopping, and reloads nothing. Its next start reads the configuration.",
                reason=Reason.INTERRUPTED,
            )
        before = self._components.current.configuration
        settings, catalog = await anyio.to_thread.run_sync(self._load)
        prepared = await self._prepare(effective(before.settings, settings), catalog)
        difference = await anyio.to_thread.run_sync(
            lambda: compare(
                before.settings,
                settings,
                old_entities=before.catalog.entities,
                new_entities=prepared.configuration.catalog.entities,
            )
        )
        if dry_run:
            for destination in prepared.opened:
                await destination.store.aclose()
        else:
            await self._adopt(prepared)
        return difference

    def _load(self) -> tuple[Settings, Catalog]:
        settings, catalog = load_all(self._config, check_rule=check_rule, load_catalog=document.load)
        return settings.without_document(), catalog

    async def _prepare(self, settings: Settings, catalog: Catalog) -> _Prepared:
        """Build and check everything, and change nothing."""
        connector = Connector.of(settings.database)
        fitting = await examined(catalog, connector)
        if problems := misfits(fitting, written=catalog, before=self._components.current.configuration.written):
            raise SettingsError(sorted_by_line(problems))
        configuration = Configuration(settings, fitting, catalog)
        await anyio.to_thread.run_sync(_checked_certificate, settings.control)
        return _Prepared(
            configuration,
            await collaborators_of(configuration, self._components, reload=self.reload),
            self._open(settings),
        )

    def _open(self, settings: Settings) -> tuple[Destination, ...]:
        """Open the destinations that are new or have to be opened differently."""
        opener, before = DestinationOpener(settings), self._components.current.settings()
        all_differ = self._components.opener.differs(settings)
        known = {(declared.organization, declared.code): declared for declared in before.destination}
        return tuple(
            opener.open(declared)
            for declared in settings.destination
            if all_differ or declared != known.get((declared.organization, declared.code))
        )

    async def _adopt(self, prepared: _Prepared) -> None:
        """Swap first, then write to the database, so that new schedules find a daemon that knows their destinations and
        entities.
        """
        components, configuration = self._components, prepared.configuration
        before = _Prepared(components.current.configuration, self.control.collaborators)
        replaced = self._swap(prepared)
        try:
            report(before.configuration.catalog, configuration.catalog)
            await components.connector.use(configuration.settings.database)
            await components.presence.declare(configuration.settings, configuration.catalog)
        except BaseException:
            self._swap(replace(before, opened=replaced))
            with anyio.CancelScope(shield=True):
                await components.connector.use(before.configuration.settings.database)
            raise
        if (certificate := self.control.certificate) is not None:
            with suppress(SettingsError):  # it was good a moment ago
                await anyio.to_thread.run_sync(certificate.load)
        if _logins(configuration.settings) != _logins(before.configuration.settings):
            await warn_of_rights(components.connector)
        with suppress(ExportdError):  # the service refreshes again soon
            await components.refresher.refresh()

    def _swap(self, to: _Prepared) -> tuple[Destination, ...]:
        """Put another configuration into effect. Returns the destinations that were replaced or removed.

        There is no await in it, so no service ever sees only a part of it.
        """
        components, settings = self._components, to.configuration.settings
        configure_log(settings, before=components.current.settings())
        components.current.configuration = to.configuration
        self.control.adopt(to.collaborators)
        components.cleaner.remember(type_tokens(to.configuration.catalog))
        components.dispatcher.wake()
        components.history.wake()
        reopening = components.opener.adopt(settings)
        declared = {(destination.organization, destination.code) for destination in settings.destination}
        return components.refresher.declare(to.opened, reopening=reopening, keeping=declared)


def _logins(settings: Settings) -> tuple[str, str | None]:
    return settings.database.dsn, settings.database.reading_dsn


def _checked_certificate(control: ControlSettings) -> Certificate | None:
    certificate = certificate_of(control)
    if certificate is not None and (doubt := certificate.doubt()) is not None:
        # Only a warning, because exports do not need the certificate.
        _logger.warning("clients will refuse the certificate", error=doubt)
    return certificate


def _report(difference: Difference, *, dry_run: bool) -> None:
    if dry_run:
        return
    _logger.info("reloaded", **{kind.name.lower(): _named(difference.of(kind)) for kind in ChangeKind})
    waiting = difference.of(ChangeKind.NEEDS_RESTART)
    words = f", {len(waiting)} of them after a restart: {', '.join(change.subject for change in waiting)}"
    notify(status(f"reloaded; changes: {len(difference.changes)}{words if waiting else ''}"))


def _report_refusal(error: ExportdError, *, dry_run: bool) -> None:
    problems = [str(problem) for problem in error.problems] if isinstance(error, SettingsError) else [error.sentence]
    _logger.error("reload refused", reason=error.reason, problems=problems, dry_run=dry_run)
    if not dry_run:
        more = f" (and {len(problems) - 1} more in the log)" if len(problems) > 1 else ""
        notify(status(f"reload refused, running on as before: {problems[0]}{more}"))


def _named(changes: Sequence[Change]) -> list[str]:
    names = [
        f"{change.subject} ({change.details})" if change.details else change.subject for change in changes[:_MAX_NAMED]
    ]
    return [*names, f"and {len(changes) - len(names)} more"] if len(changes) > len(names) else names
