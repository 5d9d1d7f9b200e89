"""One job, from window to manifest. A newcomer reads this first.

    extract   one snapshot of the source, COPY, parts in the spool; uploads begin while files still grow
    seal      every part is durable and counted: Postgres remembers them, the source is not read again
    publish   the objects become visible at each destination, then its manifest, the last of all
    succeed   the schedule's positions move; until then the next run holds the same changes again

Whatever dies in between: before the seal nothing is visible, uploads are aborted, and the job is extracted anew; after
it, the next attempt goes on from the spool, and from what the stores have of it already. A destination that has its
manifest is not touched again.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import anyio
import structlog

from exportd.delivery.cleaner import Cleaner
from exportd.delivery.deliverer import Deliverer, DestinationDelivery, History, spool_manifest
from exportd.delivery.spooled_part import verify
from exportd.delivery.upload_table import UploadTable
from exportd.destinations.open_destinations import Destination
from exportd.extraction.copier import ImagesUnreadableError
from exportd.extraction.extractor import Extractor
from exportd.jobs.job_table import JobTable
from exportd.manifest.document import Predecessor
from exportd.model.entity import EntityCode
from exportd.model.errors import ExportdError, PermanentError, TransientError
from exportd.model.extraction import Extraction
from exportd.model.job import JobPhase, JobProgress, Lease
from exportd.model.part import Part
from exportd.model.reason import FullReason
from exportd.model.schedule import DestinationCode
from exportd.model.start import Start
from exportd.spool.part_file import PartFile
from exportd.spool.spool import Spool
from exportd.stores.retrying import RetryBudget

_logger = structlog.get_logger()


class Pipeline:
    """Runs jobs, each under its lease. One serves all jobs."""

    def __init__(
        self,
        *,
        extractor: Extractor,
        deliverer: Deliverer,
        cleaner: Cleaner,
        jobs: JobTable,
        uploads: UploadTable,
        spool: Spool,
    ) -> None:
        self._extractor = extractor
        self._deliverer = deliverer
        self._cleaner = cleaner
        self._jobs = jobs
        self._uploads = uploads
        self._spool = spool

    async def run(self, lease: Lease, progress: JobProgress) -> None:
        """Bring a job from where its last holder left it to its end.

        Raises TransientError when trying again may help, PermanentError when a person has to change something.
        """
        forced: dict[EntityCode, FullReason] = {}
        while True:
            try:
                await self._run(lease, progress, forced)
            except ImagesUnreadableError as unreadable:
                _logger.warning("images unreadable, entity exported completely", entity=unreadable.entity)
                forced[unreadable.entity] = unreadable.reason
            else:
                return

    async def _run(self, lease: Lease, progress: JobProgress, forced: Mapping[EntityCode, FullReason]) -> None:
        sealed = None if lease.phase is JobPhase.EXTRACTING else await self._sealed(lease)
        async with self._deliveries(lease, progress, sealed) as deliveries:
            if sealed is None:
                extraction, parts = await self._extract_and_seal(lease, progress, forced, deliveries)
            else:
                extraction, parts = sealed, await self._resume(lease, deliveries)
            for delivery in deliveries:
                delivery.uploads.keep()
            await self._jobs.publishing(lease)
            await self._publish(lease, extraction, parts, deliveries)
        await self._spool.write_manifest(lease.job.id, spool_manifest(lease.job, extraction, parts))
        await self._jobs.succeed(lease, positions=extraction.positions(lease.job))

    async def _extract_and_seal(
        self,
        lease: Lease,
        progress: JobProgress,
        forced: Mapping[EntityCode, FullReason],
        deliveries: Sequence[DestinationDelivery],
    ) -> tuple[Extraction, tuple[Part, ...]]:
        job = lease.job
        start = Start() if job.schedule_id is None else await self._jobs.start(job.schedule_id)

        def upload_everywhere(file: PartFile) -> None:
            for delivery in deliveries:
                delivery.uploads.add(file)

        extraction, parts = await self._extractor.extract(
            job,
            start.positions,
            forced={**start.forced, **forced},
            progress=progress,
            on_part_started=upload_everywhere,
        )
        await self._jobs.seal(lease, parts=parts, extraction=extraction.to_json(), spool_id=self._spool.id)
        return extraction, parts

    async def _sealed(self, lease: Lease) -> Extraction:
        """What was read before the seal."""
        document = await self._jobs.extraction(lease.job.id)
        if document is None:
            raise AssertionError("a sealed job has its extraction")
        return Extraction.from_json(document)

    async def _resume(self, lease: Lease, deliveries: Sequence[DestinationDelivery]) -> tuple[Part, ...]:
        """Go on from the seal, with what the spool and Postgres remember."""
        job = lease.job
        parts = await self._jobs.parts(job.id)
        spooled = await verify(self._spool.job_folder(job.id), parts)
        for delivery in deliveries:
            begun = await self._uploads.of_job(job.id, delivery.destination.code)
            await self._cleaner.abort_uploads(job, delivery.destination.code, kept=begun)
            delivery.uploads.resume(spooled, begun)
        return parts

    @asynccontextmanager
    async def _deliveries(
        self, lease: Lease, progress: JobProgress, sealed: Extraction | None
    ) -> AsyncIterator[list[DestinationDelivery]]:
        """A delivery to each destination that does not have everything yet; aborted unless published."""
        job = lease.job
        delivered = {delivery.destination for delivery in await self._jobs.deliveries(job.id)}
        lacking = [code for code in job.destinations if code not in delivered]
        if _had_attempts(lease) and sealed is None:
            for code in lacking:
                await self._cleaner.abort_uploads(job, code)
        async with AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(self._deliverer.delivery(job, code, progress, sealed))
                for code in lacking
            ]

    async def _publish(
        self, lease: Lease, extraction: Extraction, parts: Sequence[Part], deliveries: Sequence[DestinationDelivery]
    ) -> None:
        """Publish everywhere at once; a destination that fails does not keep the others from getting theirs."""
        failures: list[ExportdError] = []

        async def publish(delivery: DestinationDelivery) -> None:
            try:
                await delivery.prepare(partial(self._clear_the_way, lease, delivery.destination))
                history = await self._history(lease, delivery.destination.code, extraction)
                digest = await delivery.publish(extraction, parts, history)
                await self._jobs.record_delivery(lease, delivery.destination.code, digest)
            except ExportdError as error:
                failures.append(error)
            else:
                _logger.info("delivered", destination=delivery.destination.code, files=len(parts))

        async with anyio.create_task_group() as publishing:
            for each in deliveries:
                publishing.start_soon(publish, each, name=f"publish to {each.destination.code}")
        if failures:
            raise _joined(failures)

    async def _clear_the_way(self, lease: Lease, destination: Destination, retry: RetryBudget) -> None:
        """Nothing half-done may lie beside what is published now."""
        if lease.job.schedule_id is not None:
            await self._cleaner.clear_schedule(lease.job.schedule_id, destination, retry)
        if _had_attempts(lease) and lease.phase is JobPhase.EXTRACTING:
            await self._cleaner.make_way(lease.job, destination, retry)

    async def _history(self, lease: Lease, destination: DestinationCode, extraction: Extraction) -> History:
        schedule, job = lease.job.schedule_id, lease.job.id
        if schedule is None:
            return History()
        last = await self._jobs.last_delivery(schedule, destination, other_than=job)
        if last is None:
            return History()
        return History(
            Predecessor(job_id=last[0], sha256=last[1]),
            await self._jobs.redelivered(schedule, destination, extraction.windows(), other_than=job),
        )


def _had_attempts(lease: Lease) -> bool:
    """Whether somebody held the job before: there may be something left of that."""
    return lease.fence > 1


def _joined(failures: Sequence[ExportdError]) -> ExportdError:
    """One error for all destinations: worth another attempt when one of them may come back."""
    sentence = " ".join(failure.sentence for failure in failures)
    transient = [failure for failure in failures if isinstance(failure, TransientError)]
    if transient:
        waits = [each.retry_after_s for each in transient if each.retry_after_s is not None]
        return TransientError(sentence, reason=transient[0].reason, retry_after_s=max(waits, default=None))
    return PermanentError(sentence, reason=failures[0].reason)
