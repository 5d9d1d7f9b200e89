"""Writers and exporters side by side, some of which go back now and then, and a judge that was in every snapshot."""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from exportd.extraction.snapshot_reader import OpenSnapshot
from exportd.model.entity import Entity, EntityCode, OrganizationId
from exportd.model.errors import AloneError, Reason, TransientError
from exportd.model.schedule import ExportFormat
from exportd.model.start import Position
from tests.fixtures.postgres import Database
from tests.fixtures.snapshot_exports import Export, Exporter, Schedule
from tests.integration.exactness.oracle import Window
from tests.integration.exactness.partitioner import Partitioner
from tests.integration.exactness.tables import (
    ENTITIES,
    GROWING_ENTITIES,
    ORGANIZATIONS,
    SCHEMA,
    Key,
    Row,
    Touch,
    read_touches,
    read_whole,
)
from tests.integration.exactness.write_journal import TouchBook
from tests.integration.exactness.writer import Writer

_WRITERS = 8
_REMEMBERED_RUNS = 5
_CHANCE_OF_A_BACKFILL = 0.1
_CHANCE_OF_A_PARTITION = 0.3
_CHANCE_OF_A_SHARED_SNAPSHOT = 0.3
_CHANCE_OF_NEW_SCHEDULES = 0.15
"""That all organizations begin anew, with first runs in a shared snapshot."""
_PASSING = {Reason.LOCK_NOT_AVAILABLE, Reason.CAPTURE_DAMAGED}


class WrongWindowError(AssertionError):
    """A run that did not export exactly what changed."""


Enough = Callable[[Counter[str]], bool]


@dataclass(frozen=True)
class Standing:
    """Where a schedule stood after a run: its positions, what was in the tables then, and which touches it had seen, of
    those from ``floor`` on.
    """

    positions: dict[EntityCode, Position] = field(default_factory=dict)
    before: dict[str, dict[Key, Row]] = field(default_factory=dict)
    seen: frozenset[int] = frozenset()
    floor: int = 1


@dataclass
class Subscriber:
    """An organization's schedule, where it stands and stood, and what a consumer has made of its files."""

    organization: OrganizationId
    schedule: Schedule
    runs: int = 0
    standing: Standing = field(default_factory=Standing)
    past: deque[Standing] = field(default_factory=lambda: deque(maxlen=_REMEMBERED_RUNS))
    replica: dict[str, dict[Key, Row]] = field(default_factory=dict)

    def arrive(self, standing: Standing) -> None:
        self.past.append(self.standing)
        self.standing = standing

    def go_back(self, standing: Standing) -> None:
        """What a back-fill does: the consumer keeps what it has, and is given everything since once more."""
        self.standing = standing
        self.schedule.positions = dict(standing.positions)

    def begin_anew(self, floor: int) -> None:
        """What a new schedule does: it has had nothing, and nothing is known of touches before ``floor``."""
        self.standing = Standing(floor=floor)
        self.schedule.positions = {}


class _Run:
    """One export of a subscriber, and what was there in its snapshot. ``floor`` is where touches began before it."""

    def __init__(self, entities: Sequence[Entity], subscriber: Subscriber, floor: int) -> None:
        self.subscriber = subscriber
        self.floor = floor
        self.chosen = list(ExportFormat)[subscriber.runs % 2]
        self.before = dict(subscriber.schedule.positions)
        self.now: dict[str, dict[Key, Row]] = {}
        self.touches: dict[str, list[Touch]] = {}
        self._entities = entities

    async def look(self, snapshot: OpenSnapshot) -> None:
        organization = self.subscriber.organization
        for entity in self._entities:
            self.now[entity.code] = await read_whole(snapshot.connection, entity, organization)
        self.touches |= await read_touches(snapshot.connection, organization, self.subscriber.standing.floor)


class ExactnessRun:
    """Runs writers and, between their transactions, exports, until ``enough`` was seen or something is wrong.

    ``growing``: the application is the one whose table another session gives partitions, and takes them from.
    Up to ``max_pause_s`` pass between two exports: the longer, the more happens to a record within one window.
    """

    def __init__(self, database: Database, *, seed: int, max_pause_s: float = 0.05, growing: bool = False) -> None:
        self._database = database
        self._seed = seed
        self._pauses_s = (0.0, 0.0, max_pause_s / 5, max_pause_s)
        self._random = random.Random(f"{seed}/exporter")
        self._growing = growing
        self._entities = GROWING_ENTITIES if growing else ENTITIES
        self._exporter = Exporter(database.dsn, self._entities)
        self._book = TouchBook()
        self._subscribers = [Subscriber(organization, Schedule(organization)) for organization in ORGANIZATIONS]
        self.counts: Counter[str] = Counter()

    async def run(self, enough: Enough) -> Counter[str]:
        """Raises WrongWindowError with the seed and every fault of the first run that has one."""
        connection = await self._database.connect()
        await connection.execute(SCHEMA)
        await self._exporter.install()
        partitioner = Partitioner(await self._database.connect(), self._seed)
        hours = partitioner.hours if self._growing else None
        writers = [
            Writer(number, await self._database.connect(), self._seed, self._book, hours) for number in range(_WRITERS)
        ]
        stop = asyncio.Event()
        faults: list[str] = []
        async with asyncio.TaskGroup() as tasks:
            if self._growing:
                tasks.create_task(partitioner.run(stop))
            for writer in writers:
                tasks.create_task(writer.run(stop))
            try:
                while not faults and not enough(self._so_far([partitioner, *writers])):
                    if self._random.random() < _CHANCE_OF_A_PARTITION:
                        partitioner.hurry()
                    if self._random.random() < _CHANCE_OF_A_SHARED_SNAPSHOT:
                        faults = await self._export_together()
                    else:
                        faults = await self._export(self._random.choice(self._subscribers))
                    await asyncio.sleep(self._random.choice(self._pauses_s))
            finally:
                stop.set()
                partitioner.hurry()
        for subscriber in self._subscribers:
            # The writers have ended: this window must bring every consumer up to date.
            faults = faults or await self._export(subscriber)
        if faults:
            raise WrongWindowError("\n".join(faults))
        return self._so_far([partitioner, *writers])

    def _so_far(self, writers: Sequence[Writer | Partitioner]) -> Counter[str]:
        return sum((writer.counts for writer in writers), self.counts.copy())

    async def _export(self, subscriber: Subscriber) -> list[str]:
        run = self._begin(subscriber)
        export: Export | None = None
        try:
            export = await self._exporter.run(subscriber.schedule, run.chosen, look=run.look)
        except* TransientError as group:
            # A TRUNCATE was waiting for our lock, or a partition has just come. The job's next attempt finds it gone.
            if any(leaf.reason not in _PASSING for leaf in _leaves(group)):
                raise
        return self._end(run, export)

    async def _export_together(self) -> list[str]:
        """All subscribers in one snapshot; those that cannot be read in it, each by itself."""
        are_new = self._random.random() < _CHANCE_OF_NEW_SCHEDULES
        for subscriber in self._subscribers if are_new else ():
            subscriber.begin_anew(self._book.floor)
        runs = [self._begin(subscriber) for subscriber in self._subscribers]
        exports = await self._exporter.run_together(
            [run.subscriber.schedule for run in runs], [run.chosen for run in runs], [run.look for run in runs]
        )
        faults: list[str] = []
        for run, found in zip(runs, exports, strict=True):
            if isinstance(found, Export):
                self.counts["runs in a shared snapshot"] += 1
                self.counts["first runs in a shared snapshot"] += not run.before
                faults += self._end(run, found)
            elif isinstance(found, AloneError):
                self.counts["runs left alone"] += 1
                faults += await self._export(run.subscriber)
            elif found.reason in _PASSING:
                faults += self._end(run, None)
            else:
                raise found
        return faults

    def _begin(self, subscriber: Subscriber) -> "_Run":
        if subscriber.schedule.positions and subscriber.past and self._random.random() < _CHANCE_OF_A_BACKFILL:
            subscriber.go_back(self._random.choice(subscriber.past))
            self.counts["back-fills"] += 1
        return _Run(self._entities, subscriber, self._book.floor)

    def _end(self, run: "_Run", export: Export | None) -> list[str]:
        """What is wrong with the export; None for one that was put back."""
        subscriber = run.subscriber
        if export is None:
            self.counts["runs put back"] += 1
            return []
        self._count(export)
        for code, position in run.before.items():
            after = subscriber.schedule.positions[code].guards["members"]
            incremental = export[code].window.full_reason is None
            self.counts["windows with a new partition"] += incremental and after != position.guards["members"]
        faults = self._judge(subscriber, export, run.now, run.touches)
        if faults:
            where = f"run {subscriber.runs} of {subscriber.organization} as {run.chosen}, snapshot {export.snapshot}"
            faults.insert(0, f"EXACTNESS_SEED={self._seed}, {where}, after {dict(self.counts)}:")
        subscriber.runs += 1
        found = [touch for touches in run.touches.values() for touch in touches]
        seen = frozenset(touch.number for touch in found if touch.number >= run.floor)
        subscriber.arrive(Standing(dict(subscriber.schedule.positions), run.now, seen, run.floor))
        return faults

    def _count(self, export: Export) -> None:
        self.counts["runs"] += 1
        if not export.snapshot.endswith(":"):
            self.counts["runs with transactions in flight"] += 1

    def _judge(
        self,
        subscriber: Subscriber,
        export: Export,
        now: dict[str, dict[Key, Row]],
        touches: dict[str, list[Touch]],
    ) -> list[str]:
        faults: list[str] = []
        for entity in self._entities:
            exported = export[entity.code]
            reason = exported.window.full_reason
            live: list[Row] = []
            deleted: list[Row] = []
            for record in exported.records(entity):
                *values, marker = record.values()
                row = tuple(None if value is None else str(value) for value in values)
                {"true": deleted, "false": live}[str(marker).lower()].append(row)
            window = Window(
                entity,
                full=reason is not None,
                before=subscriber.standing.before.get(entity.code, {}),
                now=now[entity.code],
                touches=[touch for touch in touches[entity.code] if touch.number not in subscriber.standing.seen],
                live=live,
                deleted=deleted,
                counts=self.counts,
            )
            self.counts[f"windows {reason or 'incremental'}"] += 1
            self.counts["rows there"] += len(now[entity.code])
            found = window.faults()
            if len(deleted) != exported.deletions:
                found.append(f"{len(deleted)} deletions, COPY said {exported.deletions}")
            replica = window.replayed(subscriber.replica.get(entity.code, {}))
            if replica != now[entity.code]:
                found.append("the replayed exports differ from the table")
            subscriber.replica[entity.code] = replica
            faults += [f"{entity.code} ({reason or 'incremental'}): {fault}" for fault in found]
        return faults


def _leaves(group: BaseExceptionGroup[TransientError]) -> list[TransientError]:
    found: list[TransientError] = []
    for exception in group.exceptions:
        found += _leaves(exception) if isinstance(exception, BaseExceptionGroup) else [exception]
    return found
