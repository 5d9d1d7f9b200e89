"""Removes from destinations what jobs left half-done, so that consumers never find half an export.

A job that failed for good may have made some objects visible at a destination without the manifest that would describe
them: the cleaner removes them. Where the manifest is there, the destination has everything, and only the record of the
delivery was lost: the cleaner records it. Both happen soon after the failure, and at the latest before the schedule's
next manifest is published there.

It also aborts the uploads of finished jobs. If a store cannot list uploads, only those that Postgres remembers can be
found.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import timedelta

import anyio
import structlog

from exportd.delivery.tables import UploadTable
from exportd.destinations.open_destinations import Destination, Destinations
from exportd.jobs.job_record import JobRecord
from exportd.jobs.job_table import JobTable
from exportd.manifest.document import MAX_MANIFEST_BYTES, sha256_of
from exportd.model.clock import Clock
from exportd.model.entity import EntityCode
from exportd.model.errors import ExportdError, PermanentError, Reason
from exportd.model.job import Job, JobId
from exportd.model.schedule import DestinationCode, ScheduleId
from exportd.stores.layout import (
    AnyName,
    ManifestName,
    ObjectKey,
    ObjectName,
    PublicationName,
    ScriptName,
    build,
    job_prefixes,
    parse,
)
from exportd.stores.retrying import RetryBudget
from exportd.stores.store import Upload, read_within

_MIN_PAUSE_S = 10.0
_ONCE = RetryBudget(timeout_s=0.0)
_MAX_UPLOAD_AGE = timedelta(days=7)
"""Remembered uploads are forgotten after this time. Google drops uploads after a week; other stores can list theirs."""

_logger = structlog.stdlib.get_logger()


class Cleaner:
    """A service (call ``run``, which ends when it is cancelled), and the cleaning that a job's delivery asks for.

    ``type_tokens`` are the catalog's. Every ``interval_s`` seconds it looks for uploads of ended jobs; when woken, for
    failed jobs.
    """

    def __init__(
        self,
        destinations: Destinations,
        jobs: JobTable,
        uploads: UploadTable,
        *,
        type_tokens: Mapping[EntityCode, str],
        clock: Clock,
        interval_s: float = 300.0,
    ) -> None:
        self._destinations = destinations
        self._jobs = jobs
        self._uploads = uploads
        self._type_tokens: defaultdict[EntityCode, set[str]] = defaultdict(set)
        self._clock = clock
        self._interval_s = interval_s
        self._woken = anyio.Event()
        self._reported: set[tuple[str, JobId | None, DestinationCode, Reason]] = set()
        self.remember(type_tokens)

    def remember(self, type_tokens: Mapping[EntityCode, str]) -> None:
        """Add type tokens by which objects may be named. Tokens of earlier catalogs are kept."""
        for code, token in type_tokens.items():
            self._type_tokens[code].add(token)

    def wake(self) -> None:
        """Look for leftovers now, because a job has ended."""
        self._woken.set()

    async def run(self) -> None:
        """Clean at once, then regularly. What fails is logged and tried again."""
        sweep_at = self._clock.monotonic()
        while True:
            self._woken = anyio.Event()  # before looking, so that no wake-up is missed
            try:
                await self.clear_failed_jobs()
                await self.abort_uploads_of_finished_jobs()
                if self._clock.monotonic() >= sweep_at:
                    sweep_at = self._clock.monotonic() + self._interval_s
                    await self.abort_dead_uploads()
            except ExportdError as error:
                _logger.warning("destinations not cleaned", reason=error.reason, error=error.sentence)
            # A pause, because the database may be away.
            again_at = max(sweep_at, self._clock.monotonic() + _MIN_PAUSE_S)
            await self._clock.wait_for(self._woken, again_at)

    async def clear_failed_jobs(self) -> None:
        """Clear what failed jobs left at the destinations that can be reached.

        Raises TransientError or PermanentError when the database cannot be asked.
        """
        for record in await self._jobs.failed_halfway():
            cleared = [await self._is_cleared(record, code) for code in _lacking(record)]
            if all(cleared):
                await self._jobs.mark_cleared(record.job.id)

    async def abort_uploads_of_finished_jobs(self) -> None:
        """Abort the remembered uploads that finished jobs did not complete.

        Raises TransientError or PermanentError when the database cannot be asked.
        """
        for left in await self._uploads.of_finished_jobs():
            try:
                async with self._destinations.using(left.organization, left.destination) as destination:
                    await destination.store.abort(left.upload)
            except ExportdError as error:
                self._report_once("upload not aborted yet", left.job, left.destination, error)
                if not self._is_old(left.upload):
                    continue
            await self._uploads.forget(left.job, left.destination, [left.upload])

    def _is_old(self, upload: Upload) -> bool:
        return upload.started_at is not None and self._clock.now() - upload.started_at > _MAX_UPLOAD_AGE

    async def abort_dead_uploads(self) -> None:
        """Abort the uploads that a destination lists and whose job is finished or unknown."""
        for known in tuple(self._destinations):
            try:
                async with self._destinations.using(known.organization, known.code) as destination:
                    await sweep_uploads(destination, self._jobs.active_ids)
            except ExportdError as error:
                self._report_once("uploads not swept", None, known.code, error)
            else:
                self._reported = {report for report in self._reported if report[1:3] != (None, known.code)}

    async def abort_uploads(self, job: Job, code: DestinationCode, *, kept: Sequence[Upload] = ()) -> None:
        """Abort the uploads that earlier attempts of a job left at a destination, except ``kept``.

        A destination that is out of reach is left alone.
        """
        kept_ids = {upload.id for upload in kept}
        known = [upload for upload in await self._uploads.of_job(job.id, code) if upload.id not in kept_ids]
        try:
            async with self._destinations.using(job.organization, code) as destination:
                await sweep_job_uploads(destination, job, known=known, kept=kept_ids)
        except ExportdError as error:
            self._report_once("uploads not swept", None, code, error)
        else:
            await self._uploads.forget(job.id, code, known)

    async def clear_schedule(self, schedule: ScheduleId, destination: Destination, retry: RetryBudget) -> None:
        """Clear what failed jobs of a schedule left at a destination, before it gets the schedule's next manifest.

        A destination that allows only writing keeps them; no manifest describes them. Raises TransientError.
        """
        for record in await self._jobs.failed_halfway(schedule):
            if destination.code not in _lacking(record):
                continue
            try:
                await self._clear(record, destination, retry)
            except PermanentError as error:
                self._report_once("objects of a failed job not removed", record.job.id, destination.code, error)

    async def make_way(self, job: Job, destination: Destination, retry: RetryBudget) -> None:
        """Remove what an earlier attempt of a job published, because the job was extracted again since; the manifest
        first.

        Raises TransientError.
        """

        async def remove() -> int:
            await destination.store.delete(_manifest_key(job, destination))
            return await remove_objects(job, destination, self._tokens(job))

        try:
            removed = await retry.call(remove)
        except PermanentError as error:
            # A destination need only allow writing. What is published now replaces objects of the same names; a further
            # part of the earlier attempt may stay, and no manifest describes it.
            _logger.warning(
                "objects of an earlier attempt not removed", destination=destination.code, error=error.sentence
            )
            return
        if removed:
            _logger.info("objects of an earlier attempt removed", destination=destination.code, objects=removed)

    async def _is_cleared(self, record: JobRecord, code: DestinationCode) -> bool:
        try:
            async with self._destinations.using(record.job.organization, code) as destination:
                await self._clear(record, destination, _ONCE)
        except ExportdError as error:
            self._report_once("objects of a failed job not removed yet", record.job.id, code, error)
            return False
        return True

    def _report_once(self, event: str, job: JobId | None, code: DestinationCode, error: ExportdError) -> None:
        """Log a recurring failure once for each reason. Sentences cannot be compared, because they contain request
        ids.
        """
        report = (event, job, code, error.reason)
        if report not in self._reported:
            self._reported.add(report)
            about = {} if job is None else {"job_id": str(job)}
            _logger.warning(event, **about, destination=code, reason=error.reason, error=error.sentence)

    async def _clear(self, record: JobRecord, destination: Destination, retry: RetryBudget) -> None:
        job = record.job
        digest = await retry.call(lambda: _manifest_digest(job, destination))
        if digest is not None:
            await self._jobs.record_found_delivery(job.id, destination.code, digest)
            _logger.info("delivery of a failed job found", job_id=str(job.id), destination=destination.code)
            return
        used = [entity["type_token"] for entity in (record.extraction or {}).get("entities", ())]
        tokens = [*used, *self._tokens(job)]
        removed = await retry.call(lambda: remove_objects(job, destination, tokens))
        if removed:
            _logger.info(
                "objects of a failed job removed", job_id=str(job.id), destination=destination.code, objects=removed
            )

    def _tokens(self, job: Job) -> list[str]:
        return sorted({token for entity in job.entities for token in self._type_tokens.get(entity, ())})


async def sweep_uploads(destination: Destination, unfinished_jobs: Callable[[], Awaitable[Collection[JobId]]]) -> None:
    """Abort the uploads that a destination lists and whose job is finished or unknown.

    Raises TransientError or PermanentError.
    """
    found = await _listed(destination)
    if not found:
        return
    # Ask for the live jobs after the listing: an upload of a job that began later cannot be in the list.
    unfinished = await unfinished_jobs()

    def is_leftover(name: AnyName) -> bool:
        # The key of a note does not name the job that began the upload.
        return not unfinished if isinstance(name, PublicationName) else name.job not in unfinished

    await _abort(destination, found, is_leftover)


async def sweep_job_uploads(
    destination: Destination, job: Job, *, known: Sequence[Upload] = (), kept: Collection[str] = ()
) -> None:
    """Abort the uploads that earlier attempts of a job left, except those with the ids ``kept``.

    ``known`` are those that Postgres remembers. Only the holder of the job's lease may do this: a schedule has one
    running job, and its note is that job's too. Raises TransientError or PermanentError.
    """
    found = {upload.id: upload for upload in (*known, *await _listed(destination)) if upload.id not in kept}

    def is_leftover(name: AnyName) -> bool:
        return name.schedule == job.schedule_id if isinstance(name, PublicationName) else name.job == job.id

    await _abort(destination, found.values(), is_leftover)


async def remove_objects(job: Job, destination: Destination, type_tokens: Collection[str]) -> int:
    """Remove the visible parts of a job at a destination, and the scripts that load them. Returns the number of parts.

    ``type_tokens`` are all tokens that its keys may contain. Its manifest is not looked for. Raises TransientError or
    PermanentError.
    """
    store, layout = destination.store, destination.layout
    for dialect in destination.loader_kit:
        await store.delete(build(ScriptName(job.organization, job.id, dialect), layout))
    found = [
        info.key
        for prefix in job_prefixes(job.organization, job.due_at, type_tokens, layout)
        async for info in store.list(prefix)
        if isinstance(name := parse(info.key, layout), ObjectName) and name.job == job.id
    ]
    for key in found:
        await store.delete(key)
    return len(found)


def _lacking(record: JobRecord) -> list[DestinationCode]:
    delivered = {delivery.destination for delivery in record.deliveries}
    return [destination for destination in record.job.destinations if destination not in delivered]


async def _manifest_digest(job: Job, destination: Destination) -> str | None:
    """The SHA-256 of a job's manifest at a destination, None if it is not there."""
    manifest = _manifest_key(job, destination)
    if await destination.store.head(manifest) is None:
        return None
    return sha256_of(await read_within(destination.store, manifest, MAX_MANIFEST_BYTES))


def _manifest_key(job: Job, destination: Destination) -> ObjectKey:
    return build(ManifestName(job.organization, job.id), destination.layout)


async def _listed(destination: Destination) -> list[Upload]:
    return [upload async for upload in destination.store.list_uploads(destination.layout.folder)]


async def _abort(destination: Destination, found: Collection[Upload], is_leftover: Callable[[AnyName], bool]) -> None:
    for upload in found:
        name = parse(upload.key, destination.layout)
        if name is not None and is_leftover(name):
            await destination.store.abort(upload)
            _logger.info("upload of a dead job aborted", store=destination.store.name, key=upload.key)
