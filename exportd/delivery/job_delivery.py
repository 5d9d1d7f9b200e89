"""Delivers a job to its destinations: uploads its files while they grow, continues after a crash, publishes everywhere.

Destinations are independent: when one fails, the others still get everything. A destination that has the manifest
already is not written to again.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import anyio
import structlog

from exportd.delivery.cleaner import Cleaner
from exportd.delivery.deliverer import Deliverer, DestinationDelivery
from exportd.delivery.publication_keeper import PublicationKeeper, PublicationMemory
from exportd.delivery.tables import UploadTable
from exportd.destinations.open_destinations import Destination
from exportd.jobs.job_record import file_names
from exportd.jobs.job_table import JobTable
from exportd.manifest.build import History, ManifestRenderer
from exportd.manifest.document import Predecessor
from exportd.model.errors import ExportdError, PermanentError, TransientError
from exportd.model.extraction import Extraction
from exportd.model.job import JobPhase, JobProgress, Lease, Part
from exportd.spool.part_files import PartSource, verify
from exportd.spool.spool import Spool
from exportd.stores.retrying import RetryBudget

_logger = structlog.stdlib.get_logger()


class JobDeliverer:
    """Opens the delivery of a job to all its destinations. One instance serves all jobs."""

    def __init__(
        self,
        deliverer: Deliverer,
        cleaner: Cleaner,
        *,
        jobs: JobTable,
        uploads: UploadTable,
        publications: PublicationKeeper,
        spool: Spool,
    ) -> None:
        self.cleaner = cleaner
        self.jobs = jobs
        self.uploads = uploads
        self.publications = publications
        self.spool = spool
        self._deliverer = deliverer

    @asynccontextmanager
    async def delivery(
        self, lease: Lease, progress: JobProgress, sealed: Extraction | None
    ) -> AsyncIterator["JobDelivery"]:
        """The delivery of a job to each destination that does not have everything yet; aborted unless published.

        ``sealed`` is the extraction, if the job is sealed already. Raises TransientError or PermanentError;
        OccupiedError when nothing was read and no destination can be tried now: the job then waits for them without a
        slot.
        """
        job = lease.job
        delivered = {delivery.destination for delivery in await self.jobs.deliveries(job.id)}
        lacking = [code for code in job.destinations if code not in delivered]
        if sealed is None:
            self._deliverer.require_one_at_hand(job, lacking)
        if _had_attempts(lease) and sealed is None:
            for code in lacking:
                await self.cleaner.abort_uploads(job, code)
        async with AsyncExitStack() as stack:
            deliveries = [
                await stack.enter_async_context(self._deliverer.delivery(lease, code, progress, sealed))
                for code in lacking
            ]
            asked = [delivery.destination for delivery in deliveries if not delivery.transfer.refused]
            yield JobDelivery(lease, self, deliveries, await self.publications.read_places(job, asked))


@dataclass(frozen=True, slots=True)
class JobDelivery:
    """The delivery of one job. Call ``add`` for its files or ``resume``, ``keep`` when the job is sealed, ``record``,
    then ``publish``.

    ``memory`` is what the spool and the destinations remember of the schedule. ``renderer`` renders the job's
    manifests.
    """

    lease: Lease
    deliverer: JobDeliverer
    deliveries: Sequence[DestinationDelivery]
    memory: PublicationMemory
    renderer: ManifestRenderer = field(default_factory=ManifestRenderer)

    def add(self, file: PartSource) -> None:
        """Upload a file to each destination while it grows."""
        for delivery in self.deliveries:
            delivery.transfer.add(file)

    async def resume(self) -> tuple[Part, ...]:
        """Continue a sealed job from the spool. Returns its parts.

        Raises TransientError, or PermanentError SPOOL_DAMAGED.
        """
        job = self.lease.job
        parts = await self.deliverer.jobs.parts(job.id)
        file_names(job.id, parts)
        spooled = await verify(self.deliverer.spool.job_folder(job.id), parts)
        for delivery in self.deliveries:
            begun = await self.deliverer.uploads.of_job(job.id, delivery.destination.code)
            await self.deliverer.cleaner.abort_uploads(job, delivery.destination.code, kept=begun)
            delivery.transfer.resume(spooled, begun)
        return parts

    def keep(self) -> None:
        """From now on leave unpublished uploads in the stores. The job is sealed, so its next attempt can continue
        them.
        """
        for delivery in self.deliveries:
            delivery.transfer.keep()

    async def record(self, extraction: Extraction) -> None:
        """Record in Postgres and in the spool what will become visible. Raises TransientError LEASE_LOST."""
        destinations = [delivery.destination for delivery in self.deliveries]
        await self.deliverer.publications.record(self.lease, extraction, self.memory, destinations)

    async def publish(self, extraction: Extraction, parts: Sequence[Part]) -> None:
        """Publish to all destinations at the same time, and record each one that has everything.

        Raises one TransientError or PermanentError for all destinations that failed.
        """
        failures: list[ExportdError] = []

        async def publish(delivery: DestinationDelivery) -> None:
            code = delivery.destination.code
            try:
                await delivery.prepare(partial(self._clear, delivery.destination))
                history = await self._history(delivery, extraction)
                digest = await delivery.publish(extraction, parts, history, self.renderer)
                await self.deliverer.jobs.record_delivery(self.lease, code, digest)
            except ExportdError as error:
                failures.append(error)
            else:
                files = sum(map(delivery.transfer.sends, parts))
                _logger.info("delivered", destination=code, files=files)

        async with anyio.create_task_group() as publishing:
            for delivery in self.deliveries:
                publishing.start_soon(publish, delivery, name=f"publish to {delivery.destination.code}")
        if failures:
            raise _joined(failures)

    async def _clear(self, destination: Destination, retry: RetryBudget) -> None:
        """Remove what earlier jobs and attempts left behind, before anything is published."""
        job = self.lease.job
        if job.schedule_id is not None:
            await self.deliverer.cleaner.clear_schedule(job.schedule_id, destination, retry)
        if _had_attempts(self.lease) and self.lease.phase is JobPhase.EXTRACTING:
            await self.deliverer.cleaner.make_way(job, destination, retry)

    async def _history(self, delivery: DestinationDelivery, extraction: Extraction) -> History:
        """What the destination received before. When this returns, the destination has a note of this job."""
        schedule, job, destination = self.lease.job.schedule_id, self.lease.job, delivery.destination
        if schedule is None:
            return History()
        jobs = self.deliverer.jobs
        last = await jobs.last_delivery(schedule, destination.code, other_than=job.id)
        known = None if last is None else Predecessor(job_id=last[0], sha256=last[1])
        predecessor = await self.deliverer.publications.write_note(
            job, destination, extraction, self.memory, last=known, retry=delivery.retry
        )
        if predecessor is None:
            return History()
        return History(
            predecessor,
            await jobs.redelivered(schedule, destination.code, extraction.windows(), other_than=job.id),
        )


def _had_attempts(lease: Lease) -> bool:
    """Whether an earlier attempt at the job may have left something behind."""
    return lease.fence > 1


def _joined(failures: Sequence[ExportdError]) -> ExportdError:
    """One error for all destinations. It is transient if another attempt may help at least one of them."""
    sentence = " ".join(failure.sentence for failure in failures)
    transient = [failure for failure in failures if isinstance(failure, TransientError)]
    if transient:
        waits = [failure.retry_after_s for failure in transient if failure.retry_after_s is not None]
        return TransientError(sentence, reason=transient[0].reason, retry_after_s=max(waits, default=None))
    return PermanentError(sentence, reason=failures[0].reason)
