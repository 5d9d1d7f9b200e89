"""Removes from destinations what jobs left half-done, so that consumers never find half an export.

A job that failed for good may have made some objects visible at a destination without the manifest that would describe
them: the cleaner removes them. Where the manifest is there, the destination has everything, and only the record of the
delivery was lost: the cleaner records it. Both happen soon after the failure, and at the latest before the schedule's
next manifest is published there.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import TypeVar

import anyio
import structlog

from exportd.delivery.leftovers import remove_objects, sweep_job_uploads, sweep_uploads
from exportd.delivery.upload_table import UploadTable
from exportd.destinations.open_destinations import Destination, Destinations
from exportd.jobs.job_record import JobRecord
from exportd.jobs.job_table import JobTable
from exportd.manifest.document import MAX_MANIFEST_BYTES, sha256_of
from exportd.model.clock import Clock
from exportd.model.entity import EntityCode
from exportd.model.errors import ExportdError, PermanentError, Reason
from exportd.model.job import Job, JobId
from exportd.model.schedule import DestinationCode, ScheduleId
from exportd.stores.layout import ManifestName, ObjectKey, ScriptName, build
from exportd.stores.retrying import RetryBudget
from exportd.stores.store import Upload, read_within

T = TypeVar("T")

_MIN_PAUSE_S = 10.0
_MAX_UPLOAD_AGE = timedelta(days=7)
"""Google drops uploads after a week; other stores list theirs, so that they need not be remembered."""

_logger = structlog.stdlib.get_logger()


class Cleaner:
    """A service, ``run`` until cancelled; and what a job's delivery asks for.

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
        """Find objects that are named by these too; those named by earlier catalogs are still found."""
        for code, token in type_tokens.items():
            self._type_tokens[code].add(token)

    def wake(self) -> None:
        """Look now: a job has ended and may have left something."""
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
                    await sweep_uploads(destination.store, destination.layout, unfinished_jobs=self._jobs.active_ids)
            except ExportdError as error:
                self._report_once("uploads not swept", None, known.code, error)
            else:
                self._reported = {report for report in self._reported if report[1:3] != (None, known.code)}

    async def abort_uploads(self, job: Job, code: DestinationCode, *, kept: Sequence[Upload] = ()) -> None:
        """Abort what earlier attempts of a job left at a destination, but for ``kept``.

        A destination that is out of reach is left alone.
        """
        kept_ids = {upload.id for upload in kept}
        known = [upload for upload in await self._uploads.of_job(job.id, code) if upload.id not in kept_ids]
        try:
            async with self._destinations.using(job.organization, code) as destination:
                await sweep_job_uploads(
                    destination.store,
                    destination.layout,
                    job.id,
                    schedule=job.schedule_id,
                    known=known,
                    kept=kept,
                )
        except ExportdError as error:
            self._report_once("uploads not swept", None, code, error)
        else:
            await self._uploads.forget(job.id, code, known)

    async def clear_schedule(self, schedule: ScheduleId, destination: Destination, retry: RetryBudget) -> None:
        """Clear what failed jobs of a schedule left at a destination, before it gets the schedule's next manifest.

        A destination that allows writing only keeps it: no manifest describes it. Raises TransientError.
        """
        for record in await self._jobs.failed_halfway(schedule):
            if destination.code not in _lacking(record):
                continue
            try:
                await self._clear(record, destination, retry)
            except PermanentError as error:
                self._report_once("objects of a failed job not removed", record.job.id, destination.code, error)

    async def make_way(self, job: Job, destination: Destination, retry: RetryBudget) -> None:
        """Remove what an earlier attempt of a job published, because it was extracted anew since; the manifest first.

        Raises TransientError or PermanentError.
        """

        async def remove() -> int:
            await destination.store.delete(_manifest_key(job, destination))
            return await _remove_objects(job, destination, self._tokens(job))

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
                await self._clear(record, destination)
        except ExportdError as error:
            self._report_once("objects of a failed job not removed yet", record.job.id, code, error)
            return False
        return True

    def _report_once(self, event: str, job: JobId | None, code: DestinationCode, error: ExportdError) -> None:
        """Log a failure that recurs once, by its reason: sentences differ in a request's id."""
        report = (event, job, code, error.reason)
        if report not in self._reported:
            self._reported.add(report)
            about = {} if job is None else {"job_id": str(job)}
            _logger.warning(event, **about, destination=code, reason=error.reason, error=error.sentence)

    async def _clear(self, record: JobRecord, destination: Destination, retry: RetryBudget | None = None) -> None:
        """Each call to the store is repeated within the budget, if there is one."""

        async def repeated(work: Callable[[], Awaitable[T]]) -> T:
            return await (work() if retry is None else retry.call(work))

        job = record.job
        digest = await repeated(lambda: _manifest_digest(job, destination))
        if digest is not None:
            await self._jobs.record_found_delivery(job.id, destination.code, digest)
            _logger.info("delivery of a failed job found", job_id=str(job.id), destination=destination.code)
            return
        used = [entity["type_token"] for entity in (record.extraction or {}).get("entities", ())]
        tokens = [*used, *self._tokens(job)]
        removed = await repeated(lambda: _remove_objects(job, destination, tokens))
        if removed:
            _logger.info(
                "objects of a failed job removed", job_id=str(job.id), destination=destination.code, objects=removed
            )

    def _tokens(self, job: Job) -> list[str]:
        return sorted({token for entity in job.entities for token in self._type_tokens.get(entity, ())})


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


async def _remove_objects(job: Job, destination: Destination, type_tokens: Collection[str]) -> int:
    """Remove a job's objects at a destination, and the scripts that load them; how many objects."""
    for dialect in destination.loader_kit:
        await destination.store.delete(build(ScriptName(job.organization, job.id, dialect), destination.layout))
    return await remove_objects(destination.store, destination.layout, job, type_tokens=type_tokens)
