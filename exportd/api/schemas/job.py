"""Jobs, and the links to their files. Pure."""

from typing import Literal

from exportd.api.schemas.fields import Answer, Moment
from exportd.jobs.requests import JobSummary

Status = Literal["PENDING", "RUNNING", "SUCCEEDED", "FAILED"]


class Job(Answer):
    """One run, of a schedule or without one."""

    id: str
    version: int = 1
    schedule_id: str | None = None
    started_at: Moment | None = None
    date_created: Moment
    source_type: Literal["OPERATIONAL"] = "OPERATIONAL"
    status: Status


class JobPage(Answer):
    """Some jobs, the newest first."""

    data: list[Job]
    next_token: str | None = None


class DownloadLink(Answer):
    """Where a job's files are for a quarter of an hour, without further credentials."""

    url: str
    expiration_time: Moment


def shown_job(summary: JobSummary) -> Job:
    return Job.model_validate(
        {
            "id": str(summary.id),
            "schedule_id": None if summary.schedule_id is None else str(summary.schedule_id),
            "started_at": summary.started_at,
            "date_created": summary.created_at,
            "status": summary.state.value,
        }
    )
