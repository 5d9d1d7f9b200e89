"""A job as listeners follow it, and the events between two looks at it. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic.alias_generators import to_camel

from exportd.jobs.job_record import message_for_organization, progress_for_organization, progress_from_row
from exportd.jobs.states import FINISHED
from exportd.model.job import JobId, JobPhase, JobProgress, JobState

if TYPE_CHECKING:
    import asyncpg


@dataclass(frozen=True, slots=True)
class LiveJob:
    """A job at one moment. ``progress`` is at most a second old."""

    id: JobId
    organization: str
    schedule_code: str | None
    state: JobState
    phase: JobPhase
    attempt: int
    holder: str | None
    progress: JobProgress
    reason: str | None
    message: str | None

    @property
    def finished(self) -> bool:
        return self.state in FINISHED

    def for_organization(self) -> "LiveJob":
        """A copy with only what the job's organization may see."""
        return replace(
            self,
            holder=None,
            progress=progress_for_organization(self.progress),
            message=message_for_organization(self.reason, self.message),
        )


@dataclass(frozen=True, slots=True)
class JobEvent:
    """What a listener gets: ``phase`` (the state, phase, attempt or holder is another), ``progress`` or ``end``."""

    name: str
    data: Mapping[str, Any]


def live_job_from_row(row: "asyncpg.Record") -> LiveJob:
    enums = {"state": JobState(row["state"]), "phase": JobPhase(row["phase"])}
    return LiveJob(**{**row, **enums, "progress": progress_from_row(row)})


def events_between(before: LiveJob | None, now: LiveJob) -> Iterator[JobEvent]:
    """The events for a listener that knows ``before`` (None: nothing yet). States in between are left out."""
    about = {"jobId": str(now.id), "organization": now.organization, "schedule": now.schedule_code}
    if not now.finished and (before is None or _stage(before) != _stage(now)):
        stage = {"state": now.state, "phase": now.phase, "attempt": now.attempt, "holder": now.holder}
        yield JobEvent("phase", {**about, **stage})
    if (before is None and now.progress != JobProgress()) or (before is not None and before.progress != now.progress):
        yield JobEvent("progress", {**about, **_figures(now.progress)})
    if now.finished and (before is None or not before.finished):
        yield JobEvent("end", {**about, "state": now.state, "reason": now.reason, "message": now.message})


def _stage(job: LiveJob) -> tuple[object, ...]:
    return job.state, job.phase, job.attempt, job.holder


def _figures(progress: JobProgress) -> dict[str, Any]:
    return {
        "entities": {
            entity: {to_camel(name): figure for name, figure in asdict(figures).items()}
            for entity, figures in progress.entities.items()
        },
        "publishedFiles": progress.published_files,
        "stalls": [
            {
                "entities": list(stall.entities),
                "reason": stall.reason,
                "message": stall.sentence,
                "since": stall.since.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            }
            for stall in progress.stalls
        ],
    }
