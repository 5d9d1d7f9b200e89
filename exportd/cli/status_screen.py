"""How the daemon is, as a person reads it on one screen. From the document of ``GET /v1/status``."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from exportd.cli.output import duration, instant, pause_words, size

Status = Mapping[str, Any]

_MAX_ENTITIES = 30
"""How many fit on a screen: those that are furthest behind."""


@dataclass(frozen=True, slots=True)
class StatusTable:
    """A table below the head; ``rows`` may be empty."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


def head(status: Status) -> dict[str, object]:
    """The lines above the tables, by name."""
    stopped = [name for name, service in status["services"].items() if not service["running"]]
    wheel, queue, spool, pause = status["wheel"], status["queue"], status["spool"], status.get("paused")
    waiting = f", waiting since {instant(queue['oldestWaiting'])}" if queue.get("oldestWaiting") else ""
    next_due = f", next due {instant(wheel['nextDue'])}" if wheel.get("nextDue") else ""
    return {
        "daemon": f"exportd {status['version']}, up {duration(status['uptimeSeconds'])}, {status['database']}",
        "paused": pause_words(pause).removeprefix("paused ") or "no",
        "services": f"stopped: {', '.join(stopped)}" if stopped else f"all {len(status['services'])} run",
        "changes": "LISTEN" if status["listener"]["listening"] else "polling",
        "schedules": f"{wheel['schedules']}, {wheel['paused']} paused{next_due}",
        "jobs": f"{queue['running']} running, {queue['pending']} waiting{waiting}",
        "spool": f"{size(spool['usedBytes'])} of {size(spool['budgetBytes'])} in {spool['directory']}",
    }


def tables(status: Status) -> Iterator[StatusTable]:
    """The tables that have rows: daemons, if there are several, what runs, destinations, entities."""
    for table in (_daemons(status), _leases(status), _destinations(status), _entities(status)):
        if table.rows:
            yield table


def warnings(status: Status) -> list[str]:
    """What a person should see first, a sentence each: no database, entities out of order, jobs and entities that
    stall, daemons that disagree.
    """
    trouble = status["listener"].get("trouble")
    stalls = [
        f"Job {lease['jobId']} waits since {instant(stall['since'])}: {stall['message']}"
        for lease in status["leases"]
        for stall in lease["stalls"]
    ]
    stalled = {name: entity["stalled"] for name, entity in status["entities"].items() if entity.get("stalled")}
    broken = {name: entity["outOfOrder"] for name, entity in status["entities"].items() if entity.get("outOfOrder")}
    return [
        *([f"The database: {trouble}"] if trouble else []),
        *(f"{name} is out of order, its jobs fail: {sentence}" for name, sentence in broken.items()),
        *stalls,
        *(f"{name} stalls: {sentence}." for name, sentence in stalled.items()),
        *(disagreement["message"] for disagreement in status.get("disagreements", ())),
    ]


def _daemons(status: Status) -> StatusTable:
    found = status.get("daemons", ())
    rows = tuple(
        (
            daemon["id"],
            f"{daemon['host']}, process {daemon['pid']}",
            daemon["version"],
            f"since {instant(daemon['startedAt'])}"
            if daemon["running"]
            else f"not seen since {instant(daemon['seenAt'])}",
            "this one" if daemon["id"] == status["spool"]["id"] else "",
        )
        for daemon in found
    )
    return StatusTable(("DAEMON", "HOST", "VERSION", "RUNS", ""), rows if len(rows) > 1 else ())


def _leases(status: Status) -> StatusTable:
    rows = tuple(
        (lease["jobId"], f"{lease.get('schedule') or '(ad hoc)'} of {lease['organization']}", _doing(lease))
        for lease in status["leases"]
    )
    return StatusTable(("RUNNING JOB", "SCHEDULE", "DOING"), rows)


def _doing(lease: Mapping[str, Any]) -> str:
    attempt = f", attempt {lease['attempt']}" if lease["attempt"] > 1 else ""
    progress = f": {lease['progress']}" if "progress" in lease else ""
    return f"{lease['phase'].lower()} since {instant(lease['startedAt'])}{attempt}{progress}"


def _destinations(status: Status) -> StatusTable:
    rows = tuple(
        (
            destination["code"],
            destination["organization"],
            _health(destination),
            instant(destination.get("lastSuccess")),
            _failure(destination),
        )
        for destination in status["destinations"]
    )
    return StatusTable(("DESTINATION", "ORGANIZATION", "HEALTH", "LAST SUCCESS", "LAST FAILURE"), rows)


def _entities(status: Status) -> StatusTable:
    found = sorted(status["entities"].items(), key=lambda named: -(named[1].get("lagSeconds") or 0.0))
    rows = tuple(
        (
            name,
            duration(entity["lagSeconds"]) if entity.get("lagSeconds") is not None else "",
            instant(entity.get("readUntil")),
            instant(entity.get("changesSince")) or "none",
        )
        for name, entity in found[:_MAX_ENTITIES]
    )
    if len(found) > _MAX_ENTITIES:
        rows = (*rows, (f"… and {len(found) - _MAX_ENTITIES} more", "", "", ""))
    return StatusTable(("ENTITY", "BEHIND", "READ UNTIL", "CHANGES WAITING SINCE"), rows)


def _health(destination: Mapping[str, Any]) -> str:
    return pause_words(destination.get("paused")) or destination.get("condition") or "healthy"


def _failure(destination: Mapping[str, Any]) -> str:
    failure = destination.get("lastFailure")
    return f"{instant(failure['at'])} {failure['reason']}" if failure else ""
