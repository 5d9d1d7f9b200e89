"""A job: one run of a schedule, or an ad hoc export; how far it is, the files that it makes, and what it published."""

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NewType
from uuid import UUID

from exportd.model.clock import boot_time
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.schedule import DestinationCode, ExportFormat, ScheduleId

JobId = NewType("JobId", UUID)


class JobState(StrEnum):
    """The state of a job, as its users see it."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class JobPhase(StrEnum):
    """Where a running job is. From SEALED on, the source database is not read again."""

    EXTRACTING = "EXTRACTING"
    SEALED = "SEALED"
    PUBLISHING = "PUBLISHING"


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be exported, frozen when the schedule fired.

    ``due_at`` gives the ``date=`` and ``hour=`` of object keys. ``schedule_id`` is None for an ad hoc export, which
    moves no position. With a ``start_date`` (aware UTC) it holds only what was modified at or after that instant.
    """

    id: JobId
    organization: OrganizationId
    schedule_id: ScheduleId | None
    schedule_code: str | None
    due_at: datetime
    entities: tuple[EntityCode, ...]
    file_format: ExportFormat
    destinations: tuple[DestinationCode, ...]
    start_date: datetime | None = None


TRUSTED_SHARE = 0.75
"""The share of a lease after which a holder that could not extend it stops."""


@dataclass(slots=True)
class LeaseTerm:
    """The time until which a holder may rely on its lease without asking the database. ``ends_at`` is in seconds of
    ``boot_time``.

    A frozen process or a suspended machine continues as if no time had passed. Only this check tells it, before it
    writes, that another daemon may have the job by now.
    """

    ends_at: float = math.inf

    def extend(self, *, asked_at: float, lease_s: float) -> None:
        """Record that the lease was extended by a statement that was sent at ``asked_at``. Its real end is a little
        later.
        """
        self.ends_at = asked_at + TRUSTED_SHARE * lease_s

    @property
    def is_over(self) -> bool:
        return boot_time() >= self.ends_at


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a job. ``fence`` grows with every claim; a write with an older one is refused.

    ``attempt`` counts from 1. ``phase`` is where the last holder left the job. ``shares_snapshot``: it was claimed
    together with other jobs, and is read in one snapshot with them.
    """

    job: Job
    fence: int
    attempt: int
    phase: JobPhase
    shares_snapshot: bool = False
    term: LeaseTerm = field(default_factory=LeaseTerm, compare=False)


class LeaseState(StrEnum):
    """What a holder gets when it extends its lease."""

    HELD = "held"
    LOST = "lost"
    CANCELLED = "cancelled"
    """The lease is held, but the job is to be cancelled."""


@dataclass(slots=True)
class EntityProgress:
    """The figures of one entity so far.

    ``size_bytes`` is what is in the spool (compressed). ``oversized_parts`` of the ``files`` are larger than the size
    cap, each because of one row that is larger than the cap by itself.
    """

    rows: int = 0
    deleted_rows: int = 0
    content_bytes: int = 0
    size_bytes: int = 0
    files: int = 0
    oversized_parts: int = 0
    done: bool = False


@dataclass(frozen=True, slots=True)
class Stall:
    """What a running job waits for in the database, and since when (aware UTC).

    ``reason`` LOCK_NOT_AVAILABLE: others have locked tables of the ``entities``, and the sentence names their sessions.
    COPY_SILENT: the database sends nothing of the ``entities``, or next to nothing. Where it is not known whose table
    it is, ``entities`` is empty.
    """

    entities: tuple[EntityCode, ...]
    reason: str
    sentence: str
    since: datetime


@dataclass(slots=True)
class JobProgress:
    """A running job's live figures, one entry per entity; written to the job's row with its heartbeat.

    ``stalls`` is what it waits for at the moment; ``on_stall`` is called when that changes, ``on_seal`` when all has
    been read.
    """

    entities: dict[EntityCode, EntityProgress] = field(default_factory=dict)
    published_files: int = 0
    stalls: list[Stall] = field(default_factory=list)
    on_stall: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)
    on_seal: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)

    def of(self, entity: EntityCode) -> EntityProgress:
        return self.entities.setdefault(entity, EntityProgress())

    def replace_stall(self, before: Stall | None, now: Stall | None) -> None:
        """Replace the stall ``before`` by ``now``. None stands for no stall."""
        if before == now:
            return
        self.stalls = [*(stall for stall in self.stalls if stall is not before), *([now] if now else [])]
        self.on_stall()


RunJob = Callable[[Lease, JobProgress], Awaitable[JobState | None]]
"""Runs a job from the phase of its lease to its success, and keeps the progress up to date.

Returns the job's state if that is already recorded, with the progress. Then the caller records nothing.
"""


@dataclass(frozen=True, slots=True)
class Part:
    """One output file of at most the size cap, durable in the spool.

    ``number`` counts from 1 within its entity; ``file_name`` is relative to the job's folder. ``size_bytes`` and
    ``sha256`` (hex) describe the compressed file as delivered, ``content_bytes`` what is inside it, header included.
    """

    entity: EntityCode
    number: int
    file_name: str
    rows: int
    content_bytes: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Publication:
    """A sealed job whose objects may be visible. ``taken_at`` is aware UTC, ``wal_position`` the server's LSN then.

    ``predecessor`` is the job whose manifest came before at the place that remembers this, if one is known.
    """

    job_id: JobId
    snapshot: str
    wal_position: str
    taken_at: datetime
    predecessor: JobId | None = None

    @property
    def token(self) -> str:
        """Identifies this seal. A job that is read again after a restore has another time."""
        return f"{self.job_id} {self.taken_at.isoformat()}"

    def to_json(self) -> dict[str, str | None]:
        """The JSON from which ``from_json`` makes the same publication."""
        return {
            "job_id": str(self.job_id),
            "snapshot": self.snapshot,
            "lsn": self.wal_position,
            "taken_at": self.taken_at.isoformat(),
            "predecessor": str(self.predecessor) if self.predecessor else None,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Publication":
        """Read what ``to_json`` has made. Raises KeyError, TypeError or ValueError for anything else."""
        taken_at = datetime.fromisoformat(document["taken_at"])
        if taken_at.tzinfo is None:
            raise ValueError("the time has no offset")
        predecessor = document["predecessor"]
        return cls(
            job_id=JobId(UUID(document["job_id"])),
            snapshot=str(document["snapshot"]),
            wal_position=str(document["lsn"]),
            taken_at=taken_at,
            predecessor=JobId(UUID(predecessor)) if predecessor else None,
        )
