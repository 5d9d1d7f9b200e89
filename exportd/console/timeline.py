"""What happened to a schedule, in one list: its runs, what was done with it, and with its entities' capture. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from exportd.api.schemas.job import FoundJobDocument, FoundJobPage
from exportd.api.schemas.operations import AuditEntry, AuditPage
from exportd.model.change_log import log_name
from exportd.model.entity import EntityCode

_NOT_SETTINGS = {"version"}
"""In the details of an edit: what changes with every one."""


@dataclass(frozen=True, slots=True)
class Happening:
    """A ``run``, or a ``deed`` with what it was about in words, and the job that it asked for; ``at`` is aware UTC."""

    at: datetime
    run: FoundJobDocument | None = None
    deed: AuditEntry | None = None
    about: str = ""
    job_id: str | None = None


def timeline(
    runs: FoundJobPage, deeds: AuditPage, capture: AuditPage, entities: Iterable[str], *, limit: int
) -> Sequence[Happening]:
    """The newest first, at most ``limit``, and none that is older than what one of the pages leaves out.

    Of ``capture``, which is about every entity, what concerns these ``entities``.
    """
    wanted = set(entities)
    happenings = [
        *(Happening(run.date_created, run=run) for run in runs.data),
        *_deeds(deeds.data),
        *(
            Happening(deed.at, deed=deed, about=", ".join(concerned))
            for deed in capture.data
            if (concerned := _captured(deed, wanted))
        ),
    ]
    oldest = max(_floors(runs, deeds), default=None)
    shown = [found for found in happenings if oldest is None or found.at >= oldest]
    return sorted(shown, key=lambda found: found.at, reverse=True)[:limit]


def _floors(runs: FoundJobPage, deeds: AuditPage) -> Iterator[datetime]:
    """Since when each page is whole that has another behind it."""
    if runs.next_token and runs.data:
        yield runs.data[-1].date_created
    if deeds.next_token and deeds.data:
        yield deeds.data[-1].at


def _deeds(deeds: Sequence[AuditEntry]) -> Iterator[Happening]:
    """``deeds`` are the newest first."""
    edited = [deed for deed in deeds if "version" in deed.details]
    changes = {id(newer): _changed(older, newer) for newer, older in pairwise(edited)}
    for deed in deeds:
        job_id = deed.details.get("job")
        yield Happening(
            deed.at,
            deed=deed,
            about=changes.get(id(deed)) or _about(deed),
            job_id=job_id if isinstance(job_id, str) else None,
        )


def _changed(older: AuditEntry, newer: AuditEntry) -> str:
    """The names of the settings that an edit has changed."""
    names = {*older.details, *newer.details} - _NOT_SETTINGS
    return ", ".join(sorted(name for name in names if older.details.get(name) != newer.details.get(name)))


def _about(deed: AuditEntry) -> str:
    """The entities that a request was about."""
    if "version" in deed.details:
        return ""
    named = deed.details.get("entity") or deed.details.get("entities") or ""
    return named if isinstance(named, str) else ", ".join(map(str, named))


def _captured(deed: AuditEntry, wanted: set[str]) -> list[str]:
    """Of the ``wanted`` entities those whose capture was installed or taken away."""
    named = deed.details.get("entities", ())
    logs = deed.details.get("logs", ())
    return sorted(entity for entity in wanted if entity in named or log_name(EntityCode(entity)) in logs)
