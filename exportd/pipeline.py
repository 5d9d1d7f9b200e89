"""One job, from window to manifest. A newcomer reads this first.

    extract   one snapshot of the source, COPY, parts in the spool; uploads begin while files still grow
    seal      every part is durable and counted: Postgres remembers them, the source is not read again
    record    what will be published is remembered outside the database too, so that one that was put back shows
    publish   the objects become visible at each destination, then its manifest, the last of all
    succeed   the schedule's positions move; until then the next run holds the same changes again

After a crash before the seal, nothing is visible, uploads are aborted, and the job is extracted anew. After a later
crash, the next attempt goes on from the spool, and from what the stores have of it already.
"""

from collections.abc import Mapping

import structlog

from exportd.delivery.job_delivery import JobDeliverer, JobDelivery
from exportd.extraction.copier import ImagesUnreadableError
from exportd.extraction.extractor import Extractor
from exportd.jobs.job_table import JobTable
from exportd.manifest.build import History, build_manifest
from exportd.manifest.document import Predecessor, sha256_of
from exportd.model.entity import EntityCode
from exportd.model.errors import FullReason, InvariantError
from exportd.model.extraction import Extraction
from exportd.model.job import Job, JobPhase, JobProgress, JobState, Lease, Part
from exportd.model.start import Start
from exportd.spool.spool import Spool
from exportd.stores.layout import Layout, key_of_file

_logger = structlog.stdlib.get_logger()


class Pipeline:
    """Runs jobs, each under its lease. One instance serves all jobs."""

    def __init__(self, *, extractor: Extractor, deliverer: JobDeliverer, jobs: JobTable, spool: Spool) -> None:
        self._extractor = extractor
        self._deliverer = deliverer
        self._jobs = jobs
        self._spool = spool

    async def run(self, lease: Lease, progress: JobProgress) -> JobState:
        """Run a job from where its last holder left it to its success, which is recorded with its progress.

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
                return JobState.SUCCEEDED

    async def _run(self, lease: Lease, progress: JobProgress, forced: Mapping[EntityCode, FullReason]) -> None:
        job = lease.job
        sealed = None if lease.phase is JobPhase.EXTRACTING else await self._sealed(lease)
        async with self._deliverer.delivery(lease, progress, sealed) as delivery:
            if sealed is None:
                extraction, parts = await self._extract(lease, progress, forced, delivery)
                await self._jobs.seal(
                    lease,
                    parts=parts,
                    extraction=extraction.to_text(),
                    documents=extraction.documents(),
                    spool_id=self._spool.id,
                )
                progress.on_seal()
            else:
                extraction, parts = sealed, await delivery.resume()
            delivery.keep()
            await delivery.record(extraction)
            await self._jobs.publishing(lease)
            await delivery.publish(extraction, parts)
        # The keys are those that the files would have at a destination: the downloads of a schedule make one together.
        manifest = delivery.renderer.render(
            build_manifest(
                job,
                extraction,
                parts,
                lambda part: key_of_file(part.file_name, job.organization, job.due_at, Layout()),
                await self._earlier_downloads(job, extraction),
            )
        )
        await self._spool.write_manifest(job.id, manifest)
        await self._jobs.succeed(
            lease,
            positions=extraction.positions(job),
            manifest_sha256=sha256_of(manifest),
            progress=progress,
        )

    async def _earlier_downloads(self, job: Job, extraction: Extraction) -> History:
        if job.schedule_id is None:
            return History()
        found = await self._jobs.earlier_downloads(job.schedule_id, extraction.windows(), other_than=job.id)
        if found is None:
            return History()
        last, sha256, repeated = found
        return History(Predecessor(job_id=last, sha256=sha256), repeated)

    async def _extract(
        self, lease: Lease, progress: JobProgress, forced: Mapping[EntityCode, FullReason], delivery: JobDelivery
    ) -> tuple[Extraction, tuple[Part, ...]]:
        job = lease.job
        start = Start() if job.schedule_id is None else await self._jobs.start(job.schedule_id)
        return await self._extractor.extract(
            job,
            start.positions,
            forced={**start.forced, **forced},
            progress=progress,
            on_part_started=delivery.add,
            shares_snapshot=lease.shares_snapshot,
        )

    async def _sealed(self, lease: Lease) -> Extraction:
        """The extraction that was recorded with the seal."""
        document = await self._jobs.extraction(lease.job.id)
        if document is None:
            raise InvariantError("a sealed job has its extraction")
        return Extraction.from_json(document)
