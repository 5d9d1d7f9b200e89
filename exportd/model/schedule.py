"""A schedule: which entities of which organization are exported when, in which format, to which destinations."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType
from uuid import UUID

from exportd.model.entity import EntityCode, OrganizationId

ScheduleId = NewType("ScheduleId", UUID)
DestinationCode = NewType("DestinationCode", str)


class Origin(StrEnum):
    """Who may edit a schedule or a destination: each has one owner."""

    CONFIGURATION = "CONFIGURATION"
    API = "API"


CONFIGURATION = "configuration"
"""Who made what the configuration declares, where else a user or a program is named."""


class ExportFormat(StrEnum):
    """The format of exported files."""

    CSV = "CSV"
    JSONL = "JSONL"

    @property
    def extension(self) -> str:
        """The file name's ending; delivered files are gzip compressed."""
        return f"{self.value.lower()}.gz"


class Unit(StrEnum):
    """The unit of an interval's period."""

    MINUTE = "MINUTE"
    HOUR = "HOUR"
    DAY = "DAY"


@dataclass(frozen=True, slots=True)
class Interval:
    """Every ``period`` units; ``offset`` minutes into the hour (HOUR) or hours into the day (DAY), in UTC."""

    unit: Unit
    period: int
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Cron:
    """A five-field cron expression, in UTC."""

    expression: str


Rule = Interval | Cron
"""When a schedule fires."""


@dataclass(frozen=True, slots=True)
class ScheduleDeclaration:
    """A schedule as a person declares it; identified by organization and ``code``."""

    organization: OrganizationId
    code: str
    name: str
    entities: tuple[EntityCode, ...]
    file_format: ExportFormat
    destinations: tuple[DestinationCode, ...]
    rule: Rule


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as the database keeps it.

    ``last_due_at`` is the due time of the last firing, ``next_due_at`` of the next one; both aware UTC.
    ``version`` counts the edits, from 1.
    """

    id: ScheduleId
    declaration: ScheduleDeclaration
    created_at: datetime
    last_due_at: datetime | None
    next_due_at: datetime
    version: int = 1
    origin: Origin = Origin.CONFIGURATION


# MERGED: A pause that a person asked for: of all daemons, or of a schedule.


@dataclass(frozen=True, slots=True)
class Pause:
    """Since when nothing happens (aware UTC), and by whose wish."""

    paused_at: datetime
    paused_by: str
