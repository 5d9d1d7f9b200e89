"""Keeps this daemon registered with the others of its database, and compares what all of them declare.

What the configuration declares is written to the database here: at the start, by a reload, and again when another
daemon registers, declares something else or is gone for good, because what may stay depends on all of them. Where two
daemons differ, one sentence says so for each other daemon and subject. Each daemon logs such a disagreement once, and
again when it changes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import anyio
import anyio.to_thread
import structlog

from exportd.catalog.document import Catalog
from exportd.destinations.opener import declared
from exportd.destinations.table import DestinationTable
from exportd.extraction.guards import fingerprint
from exportd.fleet.table import EPHEMERAL, HEARTBEAT_S, DaemonIdentity, DaemonRecord, DaemonTable, DeclaredDifference
from exportd.model.clock import Clock
from exportd.model.errors import ExportdError
from exportd.model.schedule import Pause, Schedule
from exportd.schedules.firing_table import ReconcileResult, ScheduleTable
from exportd.settings.difference import agreed
from exportd.settings.loader import declarations
from exportd.settings.schema import Settings

_DEREGISTER_TIMEOUT_S = 2.0
"""How long a daemon that ends tries to deregister. If it fails, the others notice later, by missed heartbeats."""

_MAX_DELETED_NAMED = 20
"""How many deleted schedules the log names."""

_MAX_NAMED = 5
"""How many differing things a sentence names."""

_UNKNOWN = ""
"""Stands for an entity whose fields a daemon does not know, because its table is out of order."""

_ADVICE = "Give all daemons the same configuration and catalog, and reload them."

_logger = structlog.get_logger()


class Subject(StrEnum):
    """What two daemons disagree about."""

    SETTINGS = "SETTINGS"
    CATALOG = "CATALOG"
    DESTINATIONS = "DESTINATIONS"
    SCHEDULES = "SCHEDULES"


_SUBJECTS = {"destination": Subject.DESTINATIONS, "schedule": Subject.SCHEDULES}
"""The subject of each kind of declared thing."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """With the daemon of ``spool_id``. ``differing`` is everything that differs; the sentence names the first few."""

    spool_id: UUID
    host: str
    subject: Subject
    differing: tuple[str, ...]
    sentence: str


class PresenceKeeper:
    """A service: ``run`` until cancelled.

    ``daemons`` are all registered ones, this one too, and ``pause`` is that of all of them, as last read.
    """

    def __init__(
        self,
        table: DaemonTable,
        identity: DaemonIdentity,
        destinations: DestinationTable,
        schedules: ScheduleTable,
        clock: Clock,
    ) -> None:
        self._table = table
        self._identity = identity
        self._destinations = destinations
        self._schedules = schedules
        self._clock = clock
        self._configuration: tuple[Settings, Catalog] | None = None
        self._seen: frozenset[tuple[UUID, datetime | None, bool]] | None = None
        self._woken = anyio.Event()
        self._one_at_a_time = anyio.Lock()
        self.daemons: Sequence[DaemonRecord] = ()
        self.disagreements: Sequence[Disagreement] = ()
        self.pause: Pause | None = None

    def wake(self) -> None:
        """Look now: another daemon has changed, or a person has paused all of them."""
        self._woken.set()

    async def declare(self, settings: Settings, catalog: Catalog) -> None:
        """Make the rows of destinations and schedules those that a configuration declares, and notify the others.

        When this fails, the configuration declared before stays in force: the next look writes it again.
        """
        async with self._one_at_a_time:
            self._seen = None
            await self._declare(settings, catalog)
            self._configuration = settings, catalog

    async def run(self) -> None:
        """Look when woken, and often enough to count as running, for ever."""
        while True:
            try:
                await self.look()
            except ExportdError as error:
                _logger.warning("other daemons not read", reason=error.reason, error=error.sentence)
            await self._clock.wait_for(self._woken, self._clock.monotonic() + HEARTBEAT_S)
            self._woken = anyio.Event()

    async def look(self) -> None:
        """Send a heartbeat, read the others, and reconcile when they have changed. Nothing before ``declare``."""
        async with self._one_at_a_time:
            if self._configuration is None:
                return
            self.pause = await self._table.paused()
            if not await self._table.beat(self._identity.spool_id):
                await self._declare(*self._configuration)
                return
            self.daemons = await self._table.all()
            if self._others() != self._seen:
                seen = self._others()
                _report_deleted((await self._reconcile(*self._configuration)).deleted)
                await self._compare()
                self._seen = seen

    async def deregister(self) -> None:
        """Record that this daemon does not run any more.

        What it declares stays in effect for when it comes back, unless its spool goes with it.
        """
        ephemeral = self._configuration is not None and self._configuration[0].spool.ephemeral
        with anyio.move_on_after(_DEREGISTER_TIMEOUT_S, shield=True):
            try:
                await self._table.leave(self._identity.spool_id, for_good=ephemeral)
            except ExportdError as error:
                _logger.info("terminated without deregistering", error=error.sentence)

    async def _declare(self, settings: Settings, catalog: Catalog) -> None:
        if self._configuration is None or not await self._table.beat(self._identity.spool_id):
            await self._table.register(self._identity)
        # Read first: a daemon that declares something meanwhile counts as changed at the next look.
        self.daemons = await self._table.all()
        seen = self._others()
        await self._reconcile(settings, catalog)
        await self._table.announce(
            self._identity.spool_id,
            settings={**agreed(settings), **({EPHEMERAL: "true"} if settings.spool.ephemeral else {})},
            entities={
                code: _UNKNOWN
                if code in catalog.out_of_order and catalog.is_open(code)
                else fingerprint(asdict(entity))
                for code, entity in catalog.entities.items()
            },
        )
        await self._compare()
        self._seen = seen

    async def _reconcile(self, settings: Settings, catalog: Catalog) -> ReconcileResult:
        now, spool_id = self._clock.now(), self._identity.spool_id
        # In threads, because there may be thousands.
        destinations = await anyio.to_thread.run_sync(declared, settings.destination)
        schedules = await anyio.to_thread.run_sync(declarations, settings, catalog)
        await self._destinations.reconcile(destinations, now=now, daemon=spool_id)
        return await self._schedules.reconcile(schedules, now=now, daemon=spool_id)

    async def _compare(self) -> None:
        self.daemons = await self._table.all()
        differences = await self._table.differences(self._identity.spool_id)
        found = disagreements(self._identity.spool_id, self.daemons, differences)
        _report(self.disagreements, found)
        self.disagreements = found

    def _others(self) -> frozenset[tuple[UUID, datetime | None, bool]]:
        """What of the other daemons decides whether they have changed."""
        return frozenset(
            (daemon.spool_id, daemon.declared_at, daemon.running)
            for daemon in self.daemons
            if daemon.spool_id != self._identity.spool_id
        )


def disagreements(
    spool_id: UUID, daemons: Sequence[DaemonRecord], differences: Iterable[DeclaredDifference]
) -> tuple[Disagreement, ...]:
    """How the daemon ``spool_id`` differs from every other running one, and what stopped ones keep in effect.

    ``differences`` are those between this daemon and the others.
    """
    own = next((daemon for daemon in daemons if daemon.spool_id == spool_id), None)
    if own is None:
        return ()
    by_daemon: dict[UUID, list[DeclaredDifference]] = {}
    for difference in differences:
        by_daemon.setdefault(difference.spool_id, []).append(difference)
    return tuple(
        found
        for other in daemons
        if other.spool_id != spool_id and other.declared_at is not None
        for found in _with(own, other, _name(other, daemons), by_daemon.get(other.spool_id, []))
    )


def _with(
    own: DaemonRecord, other: DaemonRecord, name: str, differences: Sequence[DeclaredDifference]
) -> Iterator[Disagreement]:
    if not other.running:
        yield from _kept(other, name, differences)
        return
    settings = [
        f"{key} is {other.settings[key]} there and {value} here"
        for key, value in own.settings.items()
        if other.settings.get(key, value) != value
    ]
    if settings:
        sentence = f"{name} has other settings than this daemon: {', '.join(settings)}. {_ADVICE}"
        yield Disagreement(other.spool_id, other.host, Subject.SETTINGS, tuple(settings), sentence)
    only_there, only_here, otherwise = _entities(own.entities, other.entities)
    if only_there or only_here or otherwise:
        differing, words = _listed(only_there, only_here, otherwise)
        sentence = f"{name} has another catalog than this daemon: {words}. {_ADVICE}"
        yield Disagreement(other.spool_id, other.host, Subject.CATALOG, differing, sentence)
    for kind, subject in _SUBJECTS.items():
        found = [difference for difference in differences if difference.kind == kind]
        if found:
            differing, words = _listed(
                [_named(difference) for difference in found if difference.is_there and not difference.is_here],
                [_named(difference) for difference in found if difference.is_here and not difference.is_there],
                [_named(difference) for difference in found if difference.is_here and difference.is_there],
            )
            sentence = f"{name} declares other {kind}s than this daemon: {words}. {_ADVICE}"
            yield Disagreement(other.spool_id, other.host, subject, differing, sentence)


def _kept(other: DaemonRecord, name: str, differences: Sequence[DeclaredDifference]) -> Iterator[Disagreement]:
    """What is declared only by a daemon that does not run."""
    for kind, subject in _SUBJECTS.items():
        found = tuple(
            _named(difference) for difference in differences if difference.kind == kind and not difference.is_here
        )
        if found:
            sentence = (
                f"{name} does not run. The {kind}s that only it declares stay in effect for a day: {_some(found)}."
                f" If it is not to come back, remove them at once: exportd daemon forget {other.spool_id}"
            )
            yield Disagreement(other.spool_id, other.host, subject, found, sentence)


def _entities(here: Mapping[str, str], there: Mapping[str, str]) -> tuple[list[str], list[str], list[str]]:
    """Only there, only here, in both and not the same. An entity that is unknown to one of them is no difference."""
    return (
        [code for code in there if code not in here],
        [code for code in here if code not in there],
        [
            code
            for code, declared in here.items()
            if _UNKNOWN not in {declared, there.get(code)} and there.get(code, declared) != declared
        ],
    )


def _listed(
    only_there: Sequence[str], only_here: Sequence[str], otherwise: Sequence[str]
) -> tuple[tuple[str, ...], str]:
    """All names, each with how it differs; and the words for a sentence, which name a few of every group."""
    groups = {"only there": only_there, "only here": only_here, "not the same": otherwise}
    differing = tuple(f"{what}: {name}" for what, names in groups.items() for name in names)
    return differing, "; ".join(f"{what}: {_some(names)}" for what, names in groups.items() if names)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


def _named(difference: DeclaredDifference) -> str:
    return f"{difference.code} of {difference.organization}"


def _name(other: DaemonRecord, daemons: Iterable[DaemonRecord]) -> str:
    """Its host; its process too where several daemons run on that host."""
    alone = sum(daemon.host == other.host for daemon in daemons) == 1
    return f"The daemon on {other.host}" if alone else f"The daemon on {other.host} (process {other.pid})"


def _report_deleted(schedules: Sequence[Schedule]) -> None:
    """Log the names: this happens without any request, so the log is the only place that tells."""
    for schedule in schedules[:_MAX_DELETED_NAMED]:
        _logger.info(
            "schedule deleted, no daemon declares it any more",
            organization=schedule.declaration.organization,
            schedule=schedule.declaration.code,
        )
    if len(schedules) > _MAX_DELETED_NAMED:
        _logger.info("schedules deleted, no daemon declares them any more", more=len(schedules) - _MAX_DELETED_NAMED)


def _report(before: Sequence[Disagreement], now: Sequence[Disagreement]) -> None:
    for found in now:
        if found not in before:
            _logger.warning("daemons disagree", host=found.host, about=found.subject.value, sentence=found.sentence)
    lasting = {(found.spool_id, found.subject) for found in now}
    for ended in before:
        if (ended.spool_id, ended.subject) not in lasting:
            _logger.info("disagreement ended", host=ended.host, about=ended.subject.value)
