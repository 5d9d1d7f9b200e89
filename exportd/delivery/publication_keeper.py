"""Remembers outside the database what was published last, to notice when the database was put back to an earlier state.

A data directory that was restored from a snapshot of its volume, or a copy of it that is started, has the same system
identifier and timeline as before. Its positions are as old as its tables, so each next run would look right and leave
out what was undone at the consumer. But the spool and each destination remember what they were given last. If that is
not part of the database's history, the database was put back, and every entity of the schedule is full.

The order makes a crash harmless. Before anything becomes visible, Postgres records what each place will hold, and what
it held before. Then the spool is written, then each destination, before its first object. So a place holds what
Postgres has recorded for it, or what it held before. Anything else comes from a history that was undone. Other daemons
write into the same table, so their publications are known too.

If a destination does not allow reading, the spool alone decides.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import anyio
import structlog

from exportd.delivery.tables import PublicationTable
from exportd.delivery.transfer import named
from exportd.destinations.open_destinations import Destination
from exportd.manifest.document import MAX_MANIFEST_BYTES, Manifest, Predecessor, parse, sha256_of
from exportd.model.entity import OrganizationId
from exportd.model.errors import ExportdError, FullReason, PermanentError, Reason, TransientError
from exportd.model.extraction import Extraction, Mode
from exportd.model.job import Job, JobId, Lease, Publication
from exportd.model.schedule import ScheduleId
from exportd.spool.publication_store import read_publication, write_publication
from exportd.spool.spool import Spool
from exportd.stores.layout import ManifestName, ObjectKey, PublicationName, build
from exportd.stores.retrying import RetryBudget
from exportd.stores.store import Store, read_within

_MAX_NOTE_BYTES = 65_536
_LOOK_S = 10.0
"""How long a destination may take to answer before the run begins. A destination that does not answer is asked again
before it gets anything.
"""

_AnswerT = TypeVar("_AnswerT")

_logger = structlog.stdlib.get_logger()


PublicationMemory = Mapping[str, Publication | None]
"""What the places remember of a schedule. ``held`` has what was read of each place, None where nothing is remembered. A
place that could not be read is not in it.
"""


def place_of(destination: Destination) -> str:
    """The name of a destination in ``exportd.publication``. A destination with another location is another place."""
    where = f"{destination.store.name}\n{destination.layout.folder}"
    return f"{destination.code} {hashlib.sha256(where.encode()).hexdigest()[:32]}"


class PublicationKeeper:
    """Asks the places before a run, and writes to them before anything of the run is visible. One instance serves all
    jobs. ``on_put_back`` is called when the database is found to be older than what a place remembers.
    """

    def __init__(
        self, publications: PublicationTable, spool: Spool, *, on_put_back: Callable[[], None] = lambda: None
    ) -> None:
        self._publications = publications
        self._spool = spool
        self._on_put_back = on_put_back
        self._without_note: set[str] = set()

    async def read_places(self, job: Job, destinations: Sequence[Destination]) -> PublicationMemory:
        """Read what the spool and the destinations remember, as far as they answer, and compare it with the database.

        Raises PermanentError DATABASE_PUT_BACK when the job itself was created in the history that was undone, because
        some of it may have been published under the same name.
        """
        schedule = job.schedule_id
        if schedule is None:
            return {}
        held: dict[str, Publication | None] = {
            self._spool.publication_place: await read_publication(self._spool.directory, schedule)
        }

        async def read(destination: Destination) -> None:
            with anyio.move_on_after(_LOOK_S):
                try:
                    held[place_of(destination)] = await _read_note(destination, job.organization, schedule)
                except ExportdError as error:
                    self._report_once(destination, error)

        async with anyio.create_task_group() as reading:
            for destination in destinations:
                reading.start_soon(read, destination, name=f"ask {destination.code} what it holds")
        await self._compare(job, schedule, held)
        return held

    async def record(
        self, lease: Lease, extraction: Extraction, memory: PublicationMemory, destinations: Sequence[Destination]
    ) -> None:
        """Record in Postgres and in the spool what is about to be published, before anything becomes visible.

        Raises TransientError LEASE_LOST when the lease is over.
        """
        schedule = lease.job.schedule_id
        if schedule is None:
            return
        publication = _publication(lease.job, extraction)
        places = [self._spool.publication_place, *map(place_of, destinations)]
        held = {place: found.token if (found := memory.get(place)) else None for place in places}
        await self._publications.record(lease, publication.token, held)
        await write_publication(self._spool, schedule, publication)

    async def write_note(
        self,
        job: Job,
        destination: Destination,
        extraction: Extraction,
        memory: PublicationMemory,
        *,
        last: Predecessor | None,
        retry: RetryBudget,
    ) -> Predecessor | None:
        """Write a note of the job to a destination, before its first object. Returns the manifest to name as
        predecessor.

        ``last`` is the predecessor that Postgres knows. Raises PermanentError DATABASE_PUT_BACK when the destination
        could not be asked before and turns out to remember a history that was undone, TransientError when it is out of
        reach.
        """
        schedule = job.schedule_id
        if schedule is None:
            return None
        place = place_of(destination)
        held = memory
        if place not in held:
            try:
                found = await _ask(destination, retry, lambda: _read_note(destination, job.organization, schedule))
            except PermanentError as error:
                self._report_once(destination, error)
            else:
                held = {place: found}
                if await self._compare(job, schedule, held) and _is_incremental(extraction):
                    raise _put_back(job)
        predecessor = last
        if place in held and not _is_incremental(extraction):
            predecessor = await _what_lies_there(destination, job, held[place], last)
        note = _publication(job, extraction, predecessor.job_id if predecessor else None)
        key = _note_key(destination, job.organization, schedule)
        try:
            await _ask(destination, retry, lambda: destination.store.put(key, json.dumps(note.to_json()).encode()))
        except PermanentError as error:
            self._report_once(destination, error)
        return predecessor

    async def _compare(self, job: Job, schedule: ScheduleId, held: PublicationMemory) -> bool:
        """Whether the database is older than what the places remember. If so, it is marked as put back."""
        remembered = {place: publication for place, publication in held.items() if publication is not None}
        unknown = await self._publications.unknown(schedule, remembered)
        if not unknown:
            return False
        newest = max((remembered[place] for place in unknown), key=lambda publication: publication.taken_at)
        _logger.warning(
            "database put back",
            reason=FullReason.DATABASE_PUT_BACK.value,
            published_job=str(newest.job_id),
            published_lsn=newest.wal_position,
            published_at=newest.taken_at.isoformat(),
            places=sorted(place.split()[0] for place in unknown),
        )
        self._on_put_back()
        await self._publications.note_put_back(schedule)
        if await self._publications.is_older(job.id, newest.taken_at):
            raise _put_back(job)
        return True

    def _report_once(self, destination: Destination, error: ExportdError) -> None:
        """Log once that a destination may not be read. That is not an error, because the spool decides then."""
        if isinstance(error, TransientError):
            return
        place = place_of(destination)
        if place not in self._without_note:
            self._without_note.add(place)
            _logger.info("destination keeps no note", destination=destination.code, error=error.sentence)


async def _ask(destination: Destination, retry: RetryBudget, request: Callable[[], Awaitable[_AnswerT]]) -> _AnswerT:
    """A request to a destination; a TransientError of it names the destination."""
    try:
        return await retry.call(request)
    except TransientError as error:
        raise named(destination.code, error) from error


def _publication(job: Job, extraction: Extraction, predecessor: JobId | None = None) -> Publication:
    return Publication(job.id, extraction.snapshot, extraction.wal_position, extraction.taken_at, predecessor)


def _is_incremental(extraction: Extraction) -> bool:
    return any(entity.mode is Mode.INCREMENTAL for entity in extraction.entities)


def _put_back(job: Job) -> PermanentError:
    return PermanentError(
        "The database is older than what was published: its data directory was put back, or it is a copy. Job "
        f"{job.id} began before that was noticed and is not published. The schedule's next run is complete; to have it "
        "now, use `exportd schedule run`.",
        reason=Reason.DATABASE_PUT_BACK,
    )


def _note_key(destination: Destination, organization: OrganizationId, schedule: ScheduleId) -> ObjectKey:
    return build(PublicationName(organization, schedule), destination.layout)


async def _read_note(
    destination: Destination, organization: OrganizationId, schedule: ScheduleId
) -> Publication | None:
    """The note of a schedule at a destination; None if there is none, or if exportd has not written it."""
    key = _note_key(destination, organization, schedule)
    data = await _read(destination.store, key, max_bytes=_MAX_NOTE_BYTES)
    if data is None:
        return None
    try:
        return Publication.from_json(json.loads(data))
    except (KeyError, TypeError, ValueError, RecursionError):
        _logger.warning("note at destination unreadable", destination=destination.code)
        return None


async def _what_lies_there(
    destination: Destination, job: Job, note: Publication | None, last: Predecessor | None
) -> Predecessor | None:
    """The newest manifest of the schedule that the destination has, if any. A complete run may follow any manifest."""
    if last is not None and note is not None and note.job_id == last.job_id:
        return last
    named = [note.job_id, note.predecessor] if note is not None else []
    candidates = [*named, last.job_id if last is not None else None]
    for candidate in dict.fromkeys(candidates):
        if candidate is None or candidate == job.id:
            continue
        try:
            key = build(ManifestName(job.organization, candidate), destination.layout)
            data = await _read(destination.store, key, max_bytes=MAX_MANIFEST_BYTES)
            manifest = parse(data) if data is not None else None
        except PermanentError:
            return last
        if data is not None and manifest is not None and _is_of(manifest, candidate, job):
            return Predecessor(job_id=candidate, sha256=sha256_of(data))
    return None


def _is_of(manifest: Manifest, candidate: JobId, job: Job) -> bool:
    schedule = manifest.schedule
    return manifest.job_id == candidate and schedule is not None and schedule.id == job.schedule_id


async def _read(store: Store, key: ObjectKey, *, max_bytes: int) -> bytes | None:
    """A small object, or None when there is none."""
    try:
        return await read_within(store, key, max_bytes)
    except PermanentError as error:
        if error.reason is Reason.NOT_FOUND:
            return None
        raise
