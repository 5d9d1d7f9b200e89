"""``exportd job``: what ran, what runs, and how it went; follow, cancel and retry jobs."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

from cyclopts import App, Parameter, validators

from exportd.cli import completion
from exportd.cli.daemon_client import DaemonAddress, pages
from exportd.cli.output import (
    MIN_ID_LENGTH,
    AsJson,
    instant,
    print_answer,
    print_fields,
    print_json,
    print_line,
    print_list,
    print_table,
    size,
)
from exportd.cli.progress import follow
from exportd.cli.socket_client import Document, SocketClient
from exportd.model.errors import SettingsError
from exportd.model.foreign_text import url_segment
from exportd.model.job import JobId

app = App(name="job")

_HERE = DaemonAddress()
_FIGURES = ["ROWS", "DELETED", "FILES", "SIZE"]
_COLUMNS: Mapping[str, Callable[[Mapping[str, Any]], object]] = {
    "JOB": itemgetter("id"),
    "SCHEDULE": lambda job: job.get("schedule") or "(ad hoc)",
    "ORGANIZATION": itemgetter("organization"),
    "DUE": lambda job: instant(job["dueAt"]),
    "STATE": itemgetter("status"),
    "ROWS": lambda job: job["totals"]["rows"],
    "DELETED": lambda job: job["totals"]["deletedRows"],
    "FILES": lambda job: job["totals"]["files"],
    "SIZE": lambda job: size(job["totals"]["sizeBytes"]),
    "REASON": lambda job: job.get("reason"),
}
"""Of the list of jobs, and what each says of one."""

_MAX_LISTED = 1000
_BEGINNING = re.compile(rf"(?=.{{{MIN_ID_LENGTH},35}}$)[0-9a-fA-F]{{8}}(-[0-9a-fA-F-]*)?")
"""Matches a text that may be the beginning of an id, but is not a whole id."""

JobStatus = Literal["PENDING", "RUNNING", "SUCCEEDED", "FAILED"]
JobArgument = Annotated[
    str,
    Parameter(
        name="JOB",
        help="The job's id, or as much of its beginning as tables show.",
        completer=completion.JOBS,
    ),
]


@app.command(name="list")
def list_jobs(
    *,
    schedule: Annotated[
        str | None, Parameter(help="Only jobs of schedules of this code.", completer=completion.SCHEDULES)
    ] = None,
    organization: Annotated[
        str | None, Parameter(help="Only jobs of this organization.", completer=completion.ORGANIZATIONS)
    ] = None,
    entity: Annotated[
        str | None, Parameter(help="Only jobs that export this entity.", completer=completion.ENTITIES)
    ] = None,
    destination: Annotated[
        str | None,
        Parameter(help="Only jobs that deliver to destinations of this code.", completer=completion.DESTINATIONS),
    ] = None,
    status: Annotated[JobStatus | None, Parameter(help="Only jobs in this state.")] = None,
    reason: Annotated[str | None, Parameter(help="Only jobs that failed, or were put back, for this reason.")] = None,
    limit: Annotated[
        int, Parameter(validator=validators.Number(gte=1, lte=_MAX_LISTED), help="At most this many, the newest first.")
    ] = 20,
    json: AsJson = False,
    at: DaemonAddress = _HERE,
) -> None:
    """List jobs, the newest first."""

    def ask(client: SocketClient) -> list[Document]:
        query = {
            "organization": organization,
            "schedule": schedule,
            "entity": entity,
            "destination": destination,
            "status": status,
            "reason": reason,
        }
        asked = {name: value for name, value in query.items() if value}
        return list(islice(pages(client, "/v1/jobs", pageSize=str(min(limit, 100)), **asked), limit))

    async def read(config: Path) -> list[Document]:
        from exportd.cli.without_daemon import read_jobs
        from exportd.jobs.requests import JobSearch
        from exportd.model.job import JobState

        wanted = JobSearch(
            state=JobState(status) if status else None,
            reason=reason or None,
            schedule_code=schedule or None,
            entity=entity or None,
            destination=destination or None,
        )
        return await read_jobs(config, organization=organization or None, wanted=wanted, limit=limit)

    print_list(at.ask_or_read(ask, read), _COLUMNS, numbers=_FIGURES, as_json=json)


@app.command
def show(
    job_id: Annotated[str, Parameter(completer=completion.JOBS)], *, json: AsJson = False, at: DaemonAddress = _HERE
) -> None:
    """Show one job: state, what it read, its files, where they went."""

    async def read(config: Path) -> Document:
        from exportd.cli.without_daemon import read_job

        return await read_job(config, job_id)

    job = at.ask_or_read(lambda client: job_document(client, job_id), read)
    if json:
        print_json(job)
    else:
        _print(job)


@app.command
def watch(job: JobArgument, /, *, json: AsJson = False, at: DaemonAddress = _HERE) -> None:
    """Follow a job until its end; exit code 1 when it fails. ``--json`` prints an event a line."""
    client = at.client()
    sys.exit(follow(client, parse_job_id(whole_id(client, job)), as_json=json))


@app.command
def cancel(job: JobArgument, /, *, json: AsJson = False, at: DaemonAddress = _HERE) -> None:
    """Stop a job: a waiting one at once, a running one within seconds."""
    client = at.client()
    answer = client.request("POST", f"/v1/jobs/{parse_job_id(whole_id(client, job))}/cancel")
    sentence = "cancelled" if answer["status"] == "FAILED" else "it is being stopped, within seconds"
    print_answer(answer, sentence, as_json=json)


@app.command
def retry(job: JobArgument, /, *, json: AsJson = False, at: DaemonAddress = _HERE) -> None:
    """Run what failed once more. Prints the new job's id."""
    client = at.client()
    answer = client.request("POST", f"/v1/jobs/{parse_job_id(whole_id(client, job))}/retry")
    print_answer(answer, answer["jobId"], as_json=json)


def job_document(client: SocketClient, job_id: str) -> Document:
    """The job as operators see it. Raises PermanentError NOT_FOUND, also for what is no id."""
    return client.request("GET", f"/v1/jobs/{url_segment(whole_id(client, job_id))}")


def whole_id(client: SocketClient, text: str) -> str:
    """The id of the newest job whose id begins with ``text``. Other texts are returned as they are.

    Raises SettingsError when several jobs begin so.
    """
    if not _BEGINNING.fullmatch(text):
        return text
    listed = islice(pages(client, "/v1/jobs"), _MAX_LISTED)
    found: list[str] = [job["id"] for job in listed if job["id"].startswith(text.lower())]
    if len(found) > 1:
        raise SettingsError.of(f"{len(found)} jobs begin with {text}: give more of the id")
    return found[0] if found else text


def parse_job_id(text: str) -> JobId:
    """Raises SettingsError for what is none."""
    try:
        return JobId(UUID(text))
    except ValueError:
        raise SettingsError.of(f"{text!r} is no job: it has to be the id of one, as manifests are named.") from None


def _print(job: Mapping[str, Any]) -> None:
    print_fields(
        {
            "job": job["id"],
            "schedule": f"{job.get('schedule') or '(ad hoc)'} of {job['organization']}",
            "state": f"{job['status']} ({job['phase'].lower()}, attempt {job['attempt']})",
            "waits for": " ".join(
                f"{stall['message']} (since {instant(stall['since'])})" for stall in job.get("stalls", ())
            )
            or None,
            "reason": f"{job['reason']}: {job.get('message')}" if job.get("reason") else None,
            "from": job.get("startDate"),
            "due": instant(job["dueAt"]),
            "started": instant(job.get("startedAt")),
            "finished": instant(job.get("finishedAt")),
            "tried again": instant(job.get("notBefore")),
            "held by": job.get("holder"),
            "files kept until": instant(job.get("filesKeptUntil")),
            "files removed": instant(job.get("filesRemovedAt")),
            "delivered to": ", ".join(job["deliveredTo"]) or "(nowhere yet)",
        }
    )
    print_line()
    print_table(
        ["ENTITY", "MODE", *_FIGURES],
        [
            (
                code,
                " ".join(entity[name] for name in ("mode", "reason") if entity.get(name)),
                entity["rows"],
                entity["deletedRows"],
                entity["files"],
                size(entity["sizeBytes"]),
            )
            for code, entity in job["entities"].items()
        ],
        numbers=_FIGURES,
    )
    _print_deliveries(job["deliveries"])
    _print_attempts(job["attempts"])


def _print_deliveries(deliveries: Sequence[Mapping[str, Any]]) -> None:
    if not deliveries:
        return
    print_line()
    print_table(
        ["DESTINATION", "DELIVERED", "SHA-256 OF THE MANIFEST"],
        [
            (delivery["destination"], instant(delivery["publishedAt"]), delivery["manifestSha256"])
            for delivery in deliveries
        ],
    )


def _print_attempts(attempts: Sequence[Mapping[str, Any]]) -> None:
    """Print the attempts of a job that needed more than one."""
    if len(attempts) < 2:
        return
    print_line()
    print_table(
        ["ATTEMPT", "STARTED", "ENDED", "BY", "REASON"],
        [
            (
                attempt["number"],
                instant(attempt["startedAt"]),
                instant(attempt.get("endedAt")),
                attempt["holder"],
                ": ".join(attempt[name] for name in ("reason", "message") if attempt.get(name)),
            )
            for attempt in attempts
        ],
        numbers=["ATTEMPT"],
    )
