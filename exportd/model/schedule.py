"""A schedule: which entities of which organization are exported when, in which format, to which destinations."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, NewType
from uuid import UUID

from exportd.model.entity import EntityCode, OrganizationId

ScheduleId = NewType("ScheduleId", UUID)
DestinationCode = NewType("DestinationCode", str)


class Origin(StrEnum):
    """The owner of a schedule or a destination, who alone may edit it."""

    CONFIGURATION = "CONFIGURATION"
    API = "API"


CONFIGURATION = "configuration"
"""Used as the creator, instead of a user's or a program's name."""


class ExportFormat(StrEnum):
    """The format of exported files."""

    CSV = "CSV"
    JSONL = "JSONL"

    @property
    def extension(self) -> str:
        """The file name's ending; delivered files are gzip compressed."""
        return f"{self.value.lower()}.gz"


class DialectName(StrEnum):
    """The databases that loading scripts are written for; a run may be delivered with them."""

    DUCKDB = "duckdb"
    POSTGRESQL = "postgresql"
    SNOWFLAKE = "snowflake"
    BIGQUERY = "bigquery"
    REDSHIFT = "redshift"
    CLICKHOUSE = "clickhouse"


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


class RuleKeys(NamedTuple):
    """The names of a rule's parts in one kind of document. ``example`` says what to write when the rule is missing."""

    unit: str = "unit"
    period: str = "period"
    offset: str = "offset"
    cron: str = "cron"
    example: str = 'write unit = "HOUR" and period = 6, say, or cron = "0 2 * * *"'


CONFIGURATION_RULE = RuleKeys()
"""In the configuration file, and in the database."""

API_RULE = RuleKeys(
    "scheduleType", "period", "offset", "cronExpression", "give scheduleType and period, or cronExpression"
)


def rule_from(document: Mapping[str, Any], keys: RuleKeys = CONFIGURATION_RULE) -> Rule:
    """Read the rule of a document. A part that is null counts as left out. The limits of the rule are not checked.

    Raises ValueError with a sentence unless there is exactly one way to tell when it fires, TypeError when a part has
    the wrong type or the unit is unknown.
    """
    unit, period, offset, cron = (document.get(key) for key in keys[:4])
    if cron is not None:
        given = " and ".join(key for key in keys[:3] if document.get(key) is not None)
        if given:
            raise ValueError(f"give either {keys.cron} or {keys.unit} and {keys.period}; remove {keys.cron} or {given}")
        if not isinstance(cron, str):
            raise TypeError(f"{keys.cron} is not a text")
        return Cron(cron)
    missing = " and ".join(key for key in keys[:2] if document.get(key) is None)
    if missing:
        raise ValueError(f"no rule says when it fires ({missing} missing): {keys.example}")
    # Not isinstance: true and false are integers to Python.
    if type(period) is not int or type(offset) not in {int, type(None)} or unit not in set(Unit):
        raise TypeError(f"{keys.unit}, {keys.period} or {keys.offset} has the wrong type")
    return Interval(Unit(unit), period, offset)


def rule_document(rule: Rule, keys: RuleKeys = CONFIGURATION_RULE) -> dict[str, Any]:
    """The document from which ``rule_from`` makes the same rule."""
    if isinstance(rule, Cron):
        return {keys.cron: rule.expression}
    offset = {} if rule.offset is None else {keys.offset: rule.offset}
    return {keys.unit: rule.unit.value, keys.period: rule.period, **offset}


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

    def to_json(self) -> dict[str, Any]:
        """The declaration without its organization and code, by the names of the database's columns."""
        return {
            "name": self.name,
            "entities": list(self.entities),
            "format": self.file_format.value,
            "destinations": list(self.destinations),
            "rule": rule_document(self.rule),
        }


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


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause that a person asked for, of all daemons, a schedule or a destination. ``paused_at`` is aware UTC."""

    paused_at: datetime
    paused_by: str
