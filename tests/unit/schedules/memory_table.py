"""Schedules and their jobs in memory, with the rules that ``ScheduleTable`` and the database keep."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID, uuid4

from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import ExportdError
from exportd.model.job import JobId
from exportd.model.schedule import ExportFormat, Rule, Schedule, ScheduleDeclaration, ScheduleId
from exportd.schedules.firing_table import Firing


def declaration(code: str, rule: Rule, *, entities: tuple[str, ...] = ("ACCOUNTS",)) -> ScheduleDeclaration:
    return ScheduleDeclaration(
        OrganizationId("acme"),
        code,
        code.title(),
        tuple(EntityCode(entity) for entity in entities),
        ExportFormat.CSV,
        (),
        rule,
    )


def schedule(code: str, rule: Rule, *, next_due_at: datetime, last_due_at: datetime | None = None) -> Schedule:
    return Schedule(ScheduleId(uuid4()), declaration(code, rule), next_due_at, last_due_at, next_due_at)


@dataclass
class MemoryTable:
    """``fired`` are the codes and due times of the jobs, ``firings`` how many schedules each call was to fire.

    A schedule in ``busy`` has an unfinished job.

    The next ``failures`` are raised, one by each call; ``refused`` is raised whenever that schedule fires.
    """

    schedules: dict[UUID, Schedule] = field(default_factory=dict)
    fired: list[tuple[str, datetime]] = field(default_factory=list)
    firings: list[int] = field(default_factory=list)
    busy: set[str] = field(default_factory=set)
    failures: list[ExportdError] = field(default_factory=list)
    refused: dict[str, ExportdError] = field(default_factory=dict)
    readings: int = 0
    looks: int = 0

    def put(self, *schedules: Schedule) -> None:
        for schedule in schedules:
            self.schedules[schedule.id] = schedule

    async def all(self) -> list[Schedule]:
        self.readings += 1
        self._fail()
        return list(self.schedules.values())

    async def some(self, schedule_ids: Collection[ScheduleId]) -> list[Schedule]:
        self.looks += 1
        self._fail()
        return [self.schedules[schedule_id] for schedule_id in schedule_ids if schedule_id in self.schedules]

    async def fire(self, firings: Sequence[Firing], *, now: datetime) -> dict[ScheduleId, JobId]:
        self._fail()
        self.firings.append(len(firings))
        for firing in firings:
            if firing.schedule.declaration.code in self.refused:
                raise self.refused[firing.schedule.declaration.code]
        return {firing.schedule.id: JobId(uuid4()) for firing in firings if self._moves_on(firing, now)}

    def _moves_on(self, firing: Firing, now: datetime) -> bool:
        assert firing.due_at <= now < firing.next_due_at
        code = firing.schedule.declaration.code
        stored = self.schedules.get(firing.schedule.id)
        if stored is None or stored.next_due_at != firing.schedule.next_due_at or code in self.busy:
            return False
        self.put(replace(stored, last_due_at=firing.due_at, next_due_at=firing.next_due_at))
        self.fired.append((code, firing.due_at))
        return True

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)
