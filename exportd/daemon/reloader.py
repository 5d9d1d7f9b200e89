"""Puts another configuration into effect while the daemon runs.

The whole new state is built and checked first: the file, the catalog against the database, destinations, groups, keys.
Whatever is wrong with it is reported to the caller, the log and systemd, and changes nothing. Then it is swapped in
one step. Jobs that run end on the state that they began with. What needs a restart is said, and stays as it was.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import anyio.to_thread
import structlog

from exportd.api.dependencies import Collaborators
from exportd.api.transport.certificate import Certificate, certificate_of
from exportd.catalog import document
from exportd.catalog.checker import check
from exportd.catalog.document import Catalog
from exportd.catalog.resolver import resolve
from exportd.daemon.assembly import Components
from exportd.daemon.control_assembly import ControlApi, collaborators_of
from exportd.daemon.current import State
from exportd.daemon.garbage import building_what_stays
from exportd.daemon.systemd_notifier import READY, notify, reloading, status
from exportd.database.connector import Connector
from exportd.destinations.open_destinations import Destination
from exportd.destinations.opener import DestinationOpener
from exportd.model.errors import ExportdError, SettingsError, TransientError
from exportd.model.reason import Reason
from exportd.schedules.limits import check_rule
from exportd.settings.difference import Change, ChangeKind, Difference, compare, effective
from exportd.settings.loader import load_all
from exportd.settings.schema import ControlSettings, Settings
from exportd.settings.secrets import passwords_in
from exportd.telemetry import logging

_MAX_NAMED = 20
"""So many changes of a kind stand in the log one by one."""

_logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A state, checked, and what goes with it. ``opened`` are the destinations that are new or other than before."""

    state: State
    collaborators: Collaborators
    opened: tuple[Destination, ...] = ()


async def check_catalog(catalog: Catalog, connector: Connector) -> Catalog:
    """The catalog with what only the database knows. Raises SettingsError with everything that does not fit."""
    async with connector.connection("catalog") as connection:
        problems = await check(catalog, connection)
        if problems:
            raise SettingsError(problems)
        return await resolve(catalog, connection)


class Reloader:
    """Reloads the configuration file ``config``; one reload after the other."""

    control: ControlApi
    """The API, through which a reload can be asked for, and which changes with it."""

    def __init__(self, config: Path, components: Components) -> None:
        self._config = config
        self._components = components
        self._one_at_a_time = anyio.Lock()

    @classmethod
    async def open(cls, config: Path, components: Components) -> "Reloader":
        """With the API of the components. Raises SettingsError for what ``collaborators_of`` cannot use, and for a
        certificate.
        """
        reloader, state = cls(config, components), components.current.state
        using = await collaborators_of(state.settings, state.catalog, components, reload=reloader.reload)
        certificate = await anyio.to_thread.run_sync(_checked_certificate, state.settings.control)
        reloader.control = ControlApi(using, state.settings.control, certificate)
        return reloader

    async def reload(self, *, dry_run: bool = False) -> Difference:
        """Put the file into effect, unless ``dry_run``; returns what it changes.

        Raises SettingsError with every problem of the file, PermanentError or TransientError when it cannot be checked
        or put into effect (now), or when the daemon is leaving. The daemon then goes on as before.
        """
        async with self._one_at_a_time:
            if not dry_run:
                notify(reloading())
            try:
                with building_what_stays():
                    difference = await self._reload(dry_run=dry_run)
            except ExportdError as error:
                _report_refusal(error, dry_run=dry_run)
                raise
            finally:
                if not dry_run:
                    notify(READY)
            _report(difference, dry_run=dry_run)
            return difference

    async def _reload(self, *, dry_run: bool) -> Difference:
        if self._components.dispatcher.stopping:
            raise TransientError(
                "The daemon is leaving, and reloads nothing. Its next start reads the configuration.",
                reason=Reason.INTERRUPTED,
            )
        before = self._components.current.state
        settings, catalog = await anyio.to_thread.run_sync(self._load)
        prepared = await self._prepare(effective(before.settings, settings), catalog)
        difference = await anyio.to_thread.run_sync(
            lambda: compare(
                before.settings,
                settings,
                old_entities=before.catalog.entities,
                new_entities=prepared.state.catalog.entities,
            )
        )
        if dry_run:
            for each in prepared.opened:
                await each.store.aclose()
        else:
            await self._adopt(prepared)
        return difference

    def _load(self) -> tuple[Settings, Catalog]:
        settings, catalog = load_all(self._config, check_rule=check_rule, load_catalog=document.load)
        return settings.without_document(), catalog

    async def _prepare(self, settings: Settings, catalog: Catalog) -> _Prepared:
        """Build and check everything, and change nothing."""
        before = self._components.current.state.settings
        connector = Connector(settings.database.dsn, lock_timeout_s=settings.database.lock_timeout_s)
        catalog = await check_catalog(catalog, connector)
        await anyio.to_thread.run_sync(_checked_certificate, settings.control)
        state = State(settings, catalog, self._components.build_pipeline(settings, catalog))
        return _Prepared(
            state,
            await collaborators_of(settings, catalog, self._components, reload=self.reload),
            self._open(before, settings),
        )

    def _open(self, before: Settings, settings: Settings) -> tuple[Destination, ...]:
        """The destinations that are new, or other ones than before."""
        opener = DestinationOpener(settings)
        all_are_other = self._components.opener.differs(settings)
        known = {(each.organization, each.code): each for each in before.destination}
        return tuple(
            opener.open(each)
            for each in settings.destination
            if all_are_other or each != known.get((each.organization, each.code))
        )

    async def _adopt(self, prepared: _Prepared) -> None:
        """Swap, then tell the database. New schedules meet a daemon that knows their destinations and entities."""
        components, settings = self._components, prepared.state.settings
        before = _Prepared(components.current.state, self.control.collaborators)
        closed = self._swap(prepared)
        try:
            await components.connector.adjust(settings.database.dsn, lock_timeout_s=settings.database.lock_timeout_s)
            await components.presence.declare(settings, prepared.state.catalog)
        except BaseException:
            self._swap(replace(before, opened=closed))
            database = before.state.settings.database
            with anyio.CancelScope(shield=True):
                await components.connector.adjust(database.dsn, lock_timeout_s=database.lock_timeout_s)
            raise
        if (certificate := self.control.certificate) is not None:
            with suppress(SettingsError):  # it was good a moment ago
                await anyio.to_thread.run_sync(certificate.load)
        with suppress(ExportdError):  # the next one is not far away
            await components.refresher.refresh()

    def _swap(self, to: _Prepared) -> tuple[Destination, ...]:
        """Nothing can happen in the middle of this. Returns the destinations that were replaced or taken out."""
        components, state = self._components, to.state
        settings, catalog = state.settings, state.catalog
        passwords = passwords_in(components.current.state.settings.database.dsn) | passwords_in(settings.database.dsn)
        logging.configure(level=settings.log.level, line_format=settings.log.format, secrets=passwords)
        components.current.state = state
        self.control.adopt(to.collaborators)
        components.dispatcher.adjust(
            concurrency=settings.limits.jobs,
            attempts=settings.limits.job_attempts,
            poll_interval_s=settings.capture.poll_interval_s,
        )
        components.spool.adjust(
            budget_bytes=settings.spool.budget, free_space_floor_bytes=settings.spool.free_space_floor
        )
        components.adjust_services(settings, catalog)
        reopening = components.opener.adopt(settings)
        return components.refresher.declare(
            to.opened, reopening=reopening, keeping={(each.organization, each.code) for each in settings.destination}
        )


def _checked_certificate(control: ControlSettings) -> Certificate | None:
    certificate = certificate_of(control)
    if certificate is not None and (doubt := certificate.doubt()) is not None:
        # Exports do not need it, so they go on.
        _logger.warning("clients will refuse the certificate", error=doubt)
    return certificate


def _report(difference: Difference, *, dry_run: bool) -> None:
    if dry_run:
        return
    _logger.info("reloaded", **{kind.name.lower(): _named(difference.of(kind)) for kind in ChangeKind})
    waiting = difference.of(ChangeKind.NEEDS_RESTART)
    words = f", {len(waiting)} of them after a restart: {', '.join(each.subject for each in waiting)}"
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
