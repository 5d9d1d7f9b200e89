"""How the daemon is. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from exportd.api.schemas.entity import EntityStanding
from exportd.api.schemas.fields import Answer, Moment, PauseStatus, pause_status
from exportd.api.schemas.job import ShownStall, shown_stalls
from exportd.api.status_reader import DestinationCondition, SharedStatus
from exportd.fleet.presence import Disagreement, Subject
from exportd.fleet.table import DaemonRecord
from exportd.model.entity import EntityCode
from exportd.model.schedule import Pause


@dataclass(frozen=True, slots=True)
class ServiceState:
    """Whether a part of the daemon runs, and since when (aware UTC)."""

    running: bool
    since: datetime


@dataclass(frozen=True, slots=True)
class LocalStatus:
    """What a daemon knows of itself. Times are aware UTC; ``changes_waiting`` has when the first change came.

    ``daemons`` are all of the database, as it last saw them, ``disagreements`` are with the others, ``pause`` is that
    of all of them. ``trouble`` is why it cannot listen to the database; ``out_of_order`` has what is wrong with each
    entity that cannot be exported, ``stalled`` has those on which jobs stall, and for how many seconds each is left
    alone; ``standings`` are as it last looked at their tables.
    """

    version: str
    database: str
    started_at: datetime
    services: Mapping[str, ServiceState]
    listening: bool
    changes_waiting: Mapping[EntityCode, datetime]
    spool_id: str
    spool_directory: str
    spool_used_bytes: int
    spool_budget_bytes: int
    daemons: Sequence[DaemonRecord] = ()
    disagreements: Sequence[Disagreement] = ()
    pause: Pause | None = None
    trouble: str | None = None
    out_of_order: Mapping[EntityCode, str] = field(default_factory=dict)
    stalled: Mapping[EntityCode, float] = field(default_factory=dict)
    standings: Mapping[EntityCode, EntityStanding] = field(default_factory=dict)


class Service(Answer):
    """A part of the daemon."""

    running: bool
    since: Moment


class ListenerStatus(Answer):
    """``listening``: changes are notified (LISTEN). Otherwise the daemon polls the database, and ``trouble`` is why."""

    listening: bool
    trouble: str | None = None


class WheelStatus(Answer):
    """The schedules. ``nextDue`` is of those that are not paused."""

    schedules: int
    paused: int
    next_due: Moment | None = None


class QueueStatus(Answer):
    """The unfinished jobs of all daemons."""

    pending: int
    running: int
    oldest_waiting: Moment | None = None


class LeaseStatus(Answer):
    """A job that this daemon runs. ``stalls`` is what it waits for in the database."""

    job_id: str
    organization: str
    schedule: str | None = None
    phase: Literal["EXTRACTING", "SEALED", "PUBLISHING"]
    attempt: int
    started_at: Moment
    lease_until: Moment
    stalls: list[ShownStall]


class SpoolStatus(Answer):
    """The folder where files wait."""

    id: str
    directory: str
    used_bytes: int
    budget_bytes: int


class EntityStatus(Answer):
    """``lagSeconds``: how long ago the schedule that is furthest behind read the entity. ``changesSince``: when the
    first change was notified that no run has read yet. ``outOfOrder``: why it cannot be exported at the moment.
    ``stalled``: that it has kept jobs of this daemon waiting, and what becomes of those that read it.
    """

    read_until: Moment | None = None
    lag_seconds: float | None = None
    changes_since: Moment | None = None
    out_of_order: str | None = None
    stalled: str | None = None


class FailureStatus(Answer):
    """The newest job that failed because of one of its destinations; the message says which."""

    at: Moment
    reason: str
    message: str


class DestinationStatus(Answer):
    """A destination. ``condition`` is what this daemon thinks of it at the moment, if anything."""

    id: str
    organization: str
    code: str
    paused: PauseStatus | None = None
    condition: str | None = None
    last_success: Moment | None = None
    last_failure: FailureStatus | None = None


class KnownDaemon(Answer):
    """A daemon of the database; ``id`` is its spool's. One that does not run is expected back for a day."""

    id: str
    host: str
    pid: int
    version: str
    running: bool
    started_at: Moment
    seen_at: Moment


class DisagreementStatus(Answer):
    """A difference between this daemon and another that should not be; the message says what to do."""

    daemon_id: str
    host: str
    about: Subject
    message: str


class QuotaStatus(Answer):
    """A quota of which an organization has used four fifths or more."""

    organization: str
    quota: str
    used: int
    limit: int


class DaemonStatus(Answer):
    """How the daemon is."""

    version: str
    database: str
    started_at: Moment
    uptime_seconds: float
    paused: PauseStatus | None = None
    services: dict[str, Service]
    listener: ListenerStatus
    wheel: WheelStatus
    queue: QueueStatus
    leases: list[LeaseStatus]
    spool: SpoolStatus
    daemons: list[KnownDaemon]
    disagreements: list[DisagreementStatus]
    entities: dict[str, EntityStatus]
    destinations: list[DestinationStatus]
    quotas: list[QuotaStatus]


def shown_status(
    local: LocalStatus, shared: SharedStatus, condition: DestinationCondition, *, now: datetime
) -> DaemonStatus:
    return DaemonStatus(
        version=local.version,
        database=local.database,
        started_at=local.started_at,
        uptime_seconds=_seconds(local.started_at, now),
        paused=pause_status(shared.pause),
        services={name: Service.of(service) for name, service in local.services.items()},
        listener=ListenerStatus(listening=local.listening, trouble=local.trouble),
        wheel=WheelStatus.of(shared.wheel),
        queue=QueueStatus.of(shared.queue),
        leases=[
            LeaseStatus(
                job_id=str(lease.id),
                organization=lease.organization,
                schedule=lease.schedule_code,
                phase=lease.phase.value,
                attempt=lease.attempt,
                started_at=lease.started_at,
                lease_until=lease.lease_until,
                stalls=shown_stalls(lease.stalls),
            )
            for lease in shared.leases
        ],
        spool=SpoolStatus(
            id=local.spool_id,
            directory=local.spool_directory,
            used_bytes=local.spool_used_bytes,
            budget_bytes=local.spool_budget_bytes,
        ),
        daemons=[_known_daemon(daemon) for daemon in local.daemons],
        disagreements=[_disagreement(disagreement) for disagreement in local.disagreements],
        entities=_entities(local, shared, now),
        destinations=_destinations(shared, condition),
        quotas=[QuotaStatus.of(use) for use in shared.quotas],
    )


def _known_daemon(daemon: DaemonRecord) -> KnownDaemon:
    return KnownDaemon(
        id=str(daemon.spool_id),
        host=daemon.host,
        pid=daemon.pid,
        version=daemon.version,
        running=daemon.running,
        started_at=daemon.started_at,
        seen_at=daemon.seen_at,
    )


def _disagreement(disagreement: Disagreement) -> DisagreementStatus:
    return DisagreementStatus(
        daemon_id=str(disagreement.spool_id),
        host=disagreement.host,
        about=disagreement.subject,
        message=disagreement.sentence,
    )


def changes_since(notified_at: datetime | None, read_until: datetime | None) -> datetime | None:
    """The time of the first notified change that no run has read yet; None when all were read."""
    if notified_at is None or (read_until is not None and read_until > notified_at):
        return None
    return notified_at


def _entities(local: LocalStatus, shared: SharedStatus, now: datetime) -> dict[str, EntityStatus]:
    found: dict[str, EntityStatus] = {}
    for entity in sorted({*shared.read_until, *local.changes_waiting, *local.out_of_order, *local.stalled}):
        read_until = shared.read_until.get(entity)
        found[entity] = EntityStatus(
            read_until=read_until,
            lag_seconds=None if read_until is None else _seconds(read_until, now),
            changes_since=changes_since(local.changes_waiting.get(entity), read_until),
            out_of_order=local.out_of_order.get(entity),
            stalled=_stalled(local.stalled.get(entity)),
        )
    return found


def _stalled(left_alone_s: float | None) -> str | None:
    if left_alone_s is None:
        return None
    if left_alone_s:
        return f"its silence ended an attempt; jobs that read it are left alone for {left_alone_s:.0f} s more"
    return "jobs that read it wait for the database; they run beside the others, a few at a time"


def _destinations(shared: SharedStatus, condition: DestinationCondition) -> list[DestinationStatus]:
    return [
        DestinationStatus(
            id=str(destination.id),
            organization=destination.organization,
            code=destination.code,
            paused=None
            if destination.paused_at is None
            else PauseStatus(since=destination.paused_at, by=destination.paused_by or ""),
            condition=condition(destination.organization, destination.code),
            last_success=destination.last_success_at,
            last_failure=None
            if destination.last_failure_at is None
            else FailureStatus(
                at=destination.last_failure_at,
                reason=destination.last_failure_reason or "",
                message=destination.last_failure_message or "",
            ),
        )
        for destination in shared.destinations
    ]


def _seconds(since: datetime, now: datetime) -> float:
    """The seconds since a time, never below zero, because the clocks of two machines may differ."""
    return max(0.0, round((now - since).total_seconds(), 3))
