"""What operators do with jobs, schedules, destinations and all daemons.

Each deed is a row in Postgres, so any daemon may be asked. A program does with what is its organization's what users of
the machine do with everything; what concerns all daemons is for users of the machine alone.
"""

from typing import Annotated

from fastapi import APIRouter, Query

from exportd.api.dependencies import Acting, Destinations, Host, Jobs, Looking, Operating, Schedules, Viewing
from exportd.api.identity.access import Viewer
from exportd.api.pagination import IdInPath, id_in_path, known_entity
from exportd.api.problems import Refusal, responses
from exportd.api.routers.overview import destination_of_job
from exportd.api.schemas.destination import DestinationCheck, GrantList, destination_check, grant_list
from exportd.api.schemas.operations import (
    BackfillBody,
    Backfilled,
    CancelledJob,
    Done,
    OrganizationList,
    PauseAnswer,
    QueuedJob,
    Refreshed,
    RefreshRequest,
    VerificationAnswer,
    shown_backfill,
    shown_verification,
)
from exportd.api.schemas.schedule import PositionList, shown_position
from exportd.api.transport.request_reader import StrictRoute
from exportd.consumer.verifier import DestinationVerification, VerificationState
from exportd.destinations.record import DestinationRecord
from exportd.model.bounds import MAX_CODE_LENGTH
from exportd.model.job import JobId, JobState
from exportd.model.schedule import Pause, ScheduleId
from exportd.schedules.operations import ScheduleStanding

router = APIRouter(prefix="/v1", tags=["operations"], route_class=StrictRoute)


@router.get("/organizations", responses=responses(401, 403))
async def list_organizations(viewer: Viewing, destinations: Destinations) -> OrganizationList:
    """The organizations that have a destination or a schedule; a program's own."""
    if viewer.organization is not None:
        return OrganizationList(data=[viewer.organization])
    return OrganizationList(data=list(await destinations.operator.organizations()))


@router.get("/pause", responses=responses(401, 403))
async def show_pause(_caller: Looking, jobs: Jobs) -> PauseAnswer:
    """Whether the daemons of this database are paused."""
    return _paused(await jobs.operator.paused())


@router.post("/pause", responses=responses(401, 403))
async def pause(caller: Operating, jobs: Jobs) -> PauseAnswer:
    """No daemon of this database takes a job any more. Jobs that run go on; schedules fire, and their jobs wait."""
    return _paused(await jobs.operator.pause(actor=caller.name))


@router.post("/resume", responses=responses(401, 403))
async def resume(caller: Operating, jobs: Jobs) -> PauseAnswer:
    """Jobs are taken again."""
    await jobs.operator.resume(actor=caller.name)
    return _paused(None)


@router.get("/schedules/{id}/pause", responses=responses(401, 403, 404))
async def show_pause_of_schedule(viewer: Viewing, schedules: Schedules, schedule_id: IdInPath) -> PauseAnswer:
    """Whether it is paused."""
    wanted = ScheduleId(id_in_path(schedule_id, "schedule"))
    await schedules.table.get(viewer.organization, wanted)
    return _paused((await schedules.operator.standing([wanted])).get(wanted, ScheduleStanding()).pause)


@router.post("/schedules/{id}/pause", responses=responses(401, 403, 404))
async def pause_schedule(actor: Acting, schedules: Schedules, schedule_id: IdInPath) -> Done:
    """It does not fire. A job of it that is queued goes on."""
    wanted = ScheduleId(id_in_path(schedule_id, "schedule"))
    await schedules.operator.pause(wanted, actor=actor.name, organization=actor.organization)
    return Done(message="The schedule is paused. What comes due meanwhile becomes one run when it is resumed.")


@router.post("/schedules/{id}/resume", responses=responses(401, 403, 404))
async def resume_schedule(actor: Acting, schedules: Schedules, schedule_id: IdInPath) -> Done:
    """It fires again; however often it was due meanwhile, once at first."""
    wanted = ScheduleId(id_in_path(schedule_id, "schedule"))
    await schedules.operator.resume(wanted, actor=actor.name, organization=actor.organization)
    return Done(message="The schedule fires again, at once if it was due meanwhile.")


@router.get("/schedules/{id}/positions", responses=responses(401, 403, 404))
async def show_positions(viewer: Viewing, schedules: Schedules, schedule_id: IdInPath) -> PositionList:
    """How far a schedule has come with each entity: which run it stands at, and when that read it."""
    wanted = ScheduleId(id_in_path(schedule_id, "schedule"))
    await schedules.table.get(viewer.organization, wanted)
    return PositionList(data=[shown_position(position) for position in await schedules.operator.positions(wanted)])


@router.post("/schedules/{id}/run", responses=responses(401, 403, 404, 409))
async def run_schedule(actor: Acting, schedules: Schedules, schedule_id: IdInPath) -> QueuedJob:
    """One more run, now, as ``exportd schedule run`` does; also of a paused one. 409 while it has an unfinished job."""
    found = ScheduleId(id_in_path(schedule_id, "schedule"))
    return QueuedJob(job_id=str(await schedules.operator.run(found, actor=actor.name, organization=actor.organization)))


@router.post("/schedules/{id}/refresh", responses=responses(400, 401, 403, 404, 409))
async def refresh_entity(actor: Acting, schedules: Schedules, schedule_id: IdInPath, body: RefreshRequest) -> Refreshed:
    """Have one entity exported completely (``REQUESTED``) by the next run that begins after this."""
    found = ScheduleId(id_in_path(schedule_id, "schedule"))
    entity = known_entity(body.entity, schedules.entities, field="entity")
    job_id = await schedules.operator.refresh(
        found, entity, at_once=body.now, actor=actor.name, organization=actor.organization
    )
    return Refreshed(entity=entity, job_id=None if job_id is None else str(job_id))


@router.post("/schedules/{id}/backfill", responses=responses(400, 401, 403, 404, 409))
async def backfill_schedule(
    actor: Acting, schedules: Schedules, schedule_id: IdInPath, body: BackfillBody
) -> Backfilled:
    """Have everything that has changed since a past job, its own changes included, exported once more, now. An entity
    for which there is no way back is exported completely, and the answer says why.
    """
    found = ScheduleId(id_in_path(schedule_id, "schedule"))
    job_id = JobId(id_in_path(body.job, "job"))
    if body.dry_run:
        plan = await schedules.operator.plan_backfill(found, job_id, organization=actor.organization)
        return shown_backfill(plan)
    return shown_backfill(
        await schedules.operator.backfill(found, job_id, actor=actor.name, organization=actor.organization)
    )


@router.get("/destinations/{id}/pause", responses=responses(401, 403, 404))
async def show_pause_of_destination(
    viewer: Viewing, destinations: Destinations, destination_id: IdInPath
) -> PauseAnswer:
    """Whether jobs that deliver there wait."""
    wanted = id_in_path(destination_id, "destination")
    return _paused(await destinations.operator.pause_of(wanted, organization=viewer.organization))


@router.post("/destinations/{id}/pause", responses=responses(401, 403, 404))
async def pause_destination(actor: Acting, destinations: Destinations, destination_id: IdInPath) -> Done:
    """Jobs that deliver there wait, also for their other destinations. One that runs goes on."""
    wanted = id_in_path(destination_id, "destination")
    await destinations.operator.pause(wanted, actor=actor.name, organization=actor.organization)
    return Done(message="The destination is paused. Jobs that deliver there wait; the others go on.")


@router.post("/destinations/{id}/resume", responses=responses(401, 403, 404))
async def resume_destination(actor: Acting, destinations: Destinations, destination_id: IdInPath) -> Done:
    """The jobs that waited go on."""
    wanted = id_in_path(destination_id, "destination")
    await destinations.operator.resume(wanted, actor=actor.name, organization=actor.organization)
    return Done(message="Jobs deliver to the destination again.")


@router.get("/destinations/{id}/grants", responses=responses(400, 401, 403, 404))
async def show_grants(viewer: Viewing, destinations: Destinations, destination_id: IdInPath) -> GrantList:
    """What its owner has to grant: policies or commands for exactly this destination, ready to paste."""
    record = await destinations.table.get(viewer.organization, id_in_path(destination_id, "destination"))
    _require_no_directory(viewer, record)
    return grant_list(await destinations.checker.grants(record))


@router.post("/destinations/{id}/check", responses=responses(400, 401, 403, 404))
async def check_destination(actor: Acting, destinations: Destinations, destination_id: IdInPath) -> DestinationCheck:
    """Write, look at, read and remove a probe, as this daemon: what is there, what is missing, what to grant."""
    wanted = id_in_path(destination_id, "destination")
    _require_no_directory(actor, await destinations.table.get(actor.organization, wanted))
    record = await destinations.table.note_check(actor.organization, wanted, actor=actor.name)
    result, grants = await destinations.checker.check(record)
    return destination_check(record.declaration, result, grants)


@router.post("/destinations/{id}/verification", responses=responses(400, 401, 403, 404))
async def verify_destination(actor: Acting, destinations: Destinations, destination_id: IdInPath) -> VerificationAnswer:
    """Read everything that was delivered there, and compare it with the manifests, beside the exports. The answer comes
    at once; ``GET`` says how it goes. One that runs already is the answer. 503 while this daemon verifies another.
    """
    wanted = id_in_path(destination_id, "destination")
    _require_no_directory(actor, await destinations.table.get(actor.organization, wanted))
    if (already := destinations.verifier.running(wanted)) is not None:
        return shown_verification(already)
    record = await destinations.table.note_check(
        actor.organization, wanted, actor=actor.name, action="destination verified"
    )
    return shown_verification(
        destinations.verifier.start(
            wanted, record.declaration.organization, lambda: destinations.checker.open(record), actor=actor.name
        )
    )


@router.post("/jobs/{id}/verification", responses=responses(400, 401, 403, 404))
async def verify_job(
    actor: Acting,
    jobs: Jobs,
    destinations: Destinations,
    job_id: IdInPath,
    destination: Annotated[
        str,
        Query(min_length=1, max_length=MAX_CODE_LENGTH, description="Of the job, by its code: what it is read from."),
    ],
) -> VerificationAnswer:
    """Verify the destination that has the job's files: a job is good when it is, and all before it are. Each finding
    names its job.
    """
    _, place = await destination_of_job(actor, jobs, destinations, job_id, destination)
    return await verify_destination(actor, destinations, str(place.id))


@router.get("/destinations/{id}/verification", responses=responses(401, 403, 404))
async def show_verification(
    viewer: Viewing, destinations: Destinations, destination_id: IdInPath
) -> VerificationAnswer:
    """The newest verification of the destination by this daemon, as far as it is. 404 when it knows of none."""
    wanted = id_in_path(destination_id, "destination")
    _require_no_directory(viewer, await destinations.table.get(viewer.organization, wanted))
    return _verification(destinations.verifier.newest(wanted))


@router.delete("/destinations/{id}/verification", responses=responses(401, 403, 404))
async def cancel_verification(
    actor: Acting, destinations: Destinations, destination_id: IdInPath
) -> VerificationAnswer:
    """End it, if it runs."""
    wanted = id_in_path(destination_id, "destination")
    _require_no_directory(actor, await destinations.table.get(actor.organization, wanted))
    newest = destinations.verifier.newest(wanted)
    if newest is not None and newest.state is VerificationState.RUNNING:
        await destinations.table.note_check(
            actor.organization, wanted, actor=actor.name, action="verification cancelled"
        )
    return _verification(destinations.verifier.cancel(wanted))


@router.post("/jobs/{id}/cancel", responses=responses(401, 403, 404, 409))
async def cancel_job(actor: Acting, jobs: Jobs, job_id: IdInPath) -> CancelledJob:
    """End a job, whichever daemon runs it. 409 for one that has ended."""
    wanted = JobId(id_in_path(job_id, "job"))
    state = await jobs.operator.cancel(wanted, actor=actor.name, organization=actor.organization)
    return CancelledJob(job_id=job_id, status="FAILED" if state is JobState.FAILED else "RUNNING")


@router.post("/jobs/{id}/retry", responses=responses(401, 403, 404, 409))
async def retry_job(actor: Acting, schedules: Schedules, jobs: Jobs, job_id: IdInPath) -> QueuedJob:
    """Do again what a failed job did not: its schedule runs once more, holding everything since its last success; an
    export without a schedule is asked for anew.
    """
    failed = await jobs.operator.failed(JobId(id_in_path(job_id, "job")), organization=actor.organization)
    if failed.schedule_id is None:
        again = await jobs.operator.queue_again(failed.id, actor=actor.name, organization=actor.organization)
    else:
        again = await schedules.operator.run(
            failed.schedule_id, actor=actor.name, organization=actor.organization, action="job retried"
        )
    return QueuedJob(job_id=str(again))


@router.delete("/daemons/{id}", responses=responses(401, 403, 404, 409))
async def forget_daemon(caller: Operating, host: Host, daemon_id: IdInPath) -> Done:
    """Do not wait for a daemon to come back: what only it declares is taken out. 409 for one that runs."""
    name = await host.daemons.forget(id_in_path(daemon_id, "daemon"), actor=caller.name)
    return Done(message=f"The daemon on {name} is forgotten. What only it declared is taken out.")


def _verification(found: DestinationVerification | None) -> VerificationAnswer:
    if found is None:
        raise Refusal(
            404, "This daemon has not verified the destination since it began, or has forgotten what it found."
        )
    return shown_verification(found)


def _require_no_directory(viewer: Viewer, record: DestinationRecord) -> None:
    if not viewer.sees_machine and record.declaration.settings["type"] == "DIRECTORY":
        raise Refusal(403, "This destination is a directory of the machine: its operators look after it.")


def _paused(pause: Pause | None) -> PauseAnswer:
    if pause is None:
        return PauseAnswer(paused=False)
    return PauseAnswer(paused=True, since=pause.paused_at, by=pause.paused_by)
