"""What a person has to look at now, the most urgent first. Pure."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from exportd.api.schemas.schedule import ScheduleDetails
from exportd.api.schemas.status import DaemonStatus

SPOOL_SHARE = 0.8
"""How full the spool may be before it is said."""

_MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class Task:
    """``sentence`` says what is wrong; ``link`` is the page that helps, if there is one."""

    what: str
    sentence: str
    link: str | None = None


def needs_attention(
    daemon: DaemonStatus | None, schedules: Iterable[ScheduleDetails], damaged: Collection[str] = ()
) -> Sequence[Task]:
    """Failing schedules, destinations that are away, entities out of order, waiting jobs, and ailing daemons.

    ``damaged`` are the entities whose capture is not whole.

    For those who do not see the ``daemon`` (None): their failing schedules.
    """
    failing = [
        Task(
            f"Schedule {schedule.code} of {schedule.organization} failed",
            schedule.last_job.message or schedule.last_job.reason or "",
            f"/console/jobs/{schedule.last_job.id}",
        )
        for schedule in schedules
        if schedule.last_job is not None and schedule.last_job.status == "FAILED"
    ]
    return failing if daemon is None else [*failing, *_of_daemon(daemon, damaged)]


def _of_daemon(daemon: DaemonStatus, damaged: Collection[str]) -> Sequence[Task]:
    return [
        *(
            Task(
                f"Destination {destination.code} of {destination.organization}: {destination.condition}",
                destination.last_failure.message if destination.last_failure else "",
                f"/console/destinations/{destination.id}",
            )
            for destination in daemon.destinations
            if destination.condition is not None
        ),
        *_of_capture(damaged),
        *(
            Task(f"Entity {name} cannot be exported", entity.out_of_order, f"/console/entities/{name}")
            for name, entity in daemon.entities.items()
            if entity.out_of_order is not None
        ),
        *(
            Task(
                f"A job of {lease.organization} waits for the database", stall.message, f"/console/jobs/{lease.job_id}"
            )
            for lease in daemon.leases
            for stall in lease.stalls
        ),
        *(Task(f"The daemon on {found.host} disagrees", found.message) for found in daemon.disagreements),
        *(
            Task(f"{name.capitalize()} does not run", "It is started again by itself; the log says why it ended.")
            for name, service in daemon.services.items()
            if not service.running
        ),
        *_of_listener(daemon),
        *_of_spool(daemon),
    ]


def _of_capture(damaged: Collection[str]) -> Iterable[Task]:
    if damaged:
        codes = sorted(damaged)
        named = ", ".join(codes[:_MAX_NAMED]) + (" and more" if len(codes) > _MAX_NAMED else "")
        count = f"{len(codes)} entities" if len(codes) > 1 else "an entity"
        sentence = f"{named}: some changes may not be recorded, so the next run is complete. The page has the repair."
        yield Task(f"The capture of {count} is not whole", sentence, "/console/system/capture")


def _of_listener(daemon: DaemonStatus) -> Iterable[Task]:
    if not daemon.listener.listening:
        yield Task("The database does not notify this daemon", daemon.listener.trouble or "It polls instead.")


def _of_spool(daemon: DaemonStatus) -> Iterable[Task]:
    share = daemon.spool.used_bytes / daemon.spool.budget_bytes if daemon.spool.budget_bytes else 0.0
    if share > SPOOL_SHARE:
        yield Task(
            f"The spool is {share:.0%} full", "Jobs wait when it is full. Raise spool.budget, or keep files shorter."
        )
