"""Keeps the last publication of each schedule in the spool, outside the database.

    <directory>/published/<schedule id>.json

Blocking work is done in worker threads. OSErrors leave as TransientError or PermanentError.
"""

import json
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import anyio.to_thread

from exportd.model.errors import PermanentError, Reason
from exportd.model.job import Publication
from exportd.model.schedule import ScheduleId
from exportd.spool.folders import translated
from exportd.spool.spool import Spool

_MAX_BYTES = 65_536


async def read_publication(directory: Path, schedule: ScheduleId) -> Publication | None:
    """Read the last publication of the schedule; None when this spool has none.

    Raises PermanentError SPOOL_DAMAGED for a file that exportd has not written.
    """
    path = _path(directory, schedule)
    with translated(directory=directory, doing=f"reading what was published of schedule {schedule}"):
        data = await anyio.to_thread.run_sync(_read, path)
    if data is None:
        return None
    try:
        return Publication.from_json(json.loads(data))
    except (KeyError, TypeError, ValueError) as error:
        raise PermanentError(
            f"{path} does not say what was published last. Ask for a complete run of the schedule's entities with "
            "`exportd schedule refresh`, and remove the file.",
            reason=Reason.SPOOL_DAMAGED,
        ) from error


async def write_publication(spool: Spool, schedule: ScheduleId, publication: Publication) -> None:
    """Remember a publication. It is durable when this returns."""
    data, path = json.dumps(publication.to_json()).encode(), _path(spool.directory, schedule)
    with translated(directory=spool.directory, doing=f"remembering what is published of schedule {schedule}"):
        await spool.write_small(path, data)


async def published_schedules(directory: Path) -> tuple[ScheduleId, ...]:
    """The schedules that have a publication in the spool ``directory``."""
    with translated(directory=directory, doing="listing what was published"):
        return await anyio.to_thread.run_sync(_schedules, directory / "published")


async def remove_publication(directory: Path, schedule: ScheduleId) -> None:
    """Remove the publication of a schedule that was deleted."""
    with translated(directory=directory, doing=f"forgetting what was published of schedule {schedule}"):
        await anyio.to_thread.run_sync(lambda: _path(directory, schedule).unlink(missing_ok=True))


def _path(directory: Path, schedule: ScheduleId) -> Path:
    return directory / "published" / f"{schedule}.json"


def _schedules(folder: Path) -> tuple[ScheduleId, ...]:
    found = []
    for path in folder.glob("*.json"):
        with suppress(ValueError):  # not one of ours
            found.append(ScheduleId(UUID(path.stem)))
    return tuple(found)


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES)
    except FileNotFoundError:
        return None
