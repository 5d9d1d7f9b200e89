"""From parts to a destination: uploads while files grow, objects at publish, the manifest last."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial

import anyio
import structlog

from exportd.consumer.loaders.kit import statements
from exportd.delivery.byte_limiter import ByteLimiter
from exportd.delivery.manifest_publisher import publish_manifest
from exportd.delivery.transfer import Delivery, named
from exportd.delivery.upload_table import UploadTable
from exportd.destinations.open_destinations import Destination, Destinations
from exportd.manifest.document import (
    Manifest,
    ManifestEntity,
    ManifestField,
    ManifestPart,
    ManifestSchedule,
    ManifestWindow,
    Predecessor,
    render,
)
from exportd.model.entity import EntityCode
from exportd.model.errors import PermanentError, TransientError
from exportd.model.extraction import EntityExtraction, Extraction
from exportd.model.job import Job, JobId, JobProgress
from exportd.model.part import Part
from exportd.model.reason import Reason
from exportd.model.schedule import DestinationCode
from exportd.stores.layout import ObjectKey, ObjectName, ScriptName, build
from exportd.stores.retrying import RetryBudget

_logger = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class History:
    """What a destination received of a schedule before: its newest manifest, and the jobs whose changes come again,
    because they had not reached every destination or a back-fill was asked for.
    """

    predecessor: Predecessor | None = None
    redelivers: tuple[JobId, ...] = ()


class Deliverer:
    """Delivers jobs to the destinations of the configuration. One serves all jobs."""

    def __init__(
        self,
        destinations: Destinations,
        *,
        uploads: UploadTable,
        limiter: ByteLimiter,
        type_token: Callable[[EntityCode], str],
        retry: RetryBudget | None = None,
    ) -> None:
        self._destinations = destinations
        self._uploads = uploads
        self._limiter = limiter
        self._type_token = type_token
        self._retry = retry or RetryBudget()

    @asynccontextmanager
    async def delivery(
        self, job: Job, code: DestinationCode, progress: JobProgress, sealed: Extraction | None
    ) -> AsyncIterator["DestinationDelivery"]:
        """A job's way to one destination; what is not published when the block ends is aborted.

        A job that is ``sealed`` already keeps the type tokens of its seal, whatever the catalog says by now. Raises
        PermanentError when the destination is not declared any more.
        """
        token_of = self._type_token
        if sealed is not None:
            token_of = {each.entity: each.type_token for each in sealed.entities}.__getitem__

        def count(_: Part) -> None:
            progress.published_files += 1

        async with (
            self._destinations.using(job.organization, code) as destination,
            Delivery(
                destination=code,
                store=destination.store,
                key_of=lambda entity, number: _key(job, destination, token_of(entity), number),
                limiter=self._limiter,
                retry=self._retry,
                owner=(job.organization, code),
                on_started=lambda upload: self._uploads.record(job.id, code, upload),
                on_published=count,
            ) as uploads,
        ):
            admitted = destination.circuit.admits(anyio.current_time())
            if not admitted:
                uploads.refuse(_away(destination))
            try:
                yield DestinationDelivery(job, destination, uploads, self._retry)
            finally:
                if admitted:
                    destination.circuit.given_up()


@dataclass(frozen=True, slots=True)
class DestinationDelivery:
    """One job's delivery to one destination."""

    job: Job
    destination: Destination
    uploads: Delivery
    retry: RetryBudget

    async def prepare(self, work: Callable[[RetryBudget], Awaitable[None]]) -> None:
        """Do what has to be done at the destination before anything is published; not if the delivery has failed.

        Raises TransientError or PermanentError, which names the destination if that is what fails.
        """
        with self._circuit_told():
            if self.uploads.failure is not None:
                raise self.uploads.failure
            try:
                await work(self.retry)
            except TransientError as error:
                if error.reason is Reason.DESTINATION_UNAVAILABLE:
                    raise named(self.destination.code, error) from error
                raise

    async def publish(self, extraction: Extraction, parts: Sequence[Part], history: History) -> str:
        """Make the objects visible, then the manifest; its SHA-256. May be repeated.

        Raises TransientError or PermanentError that names the destination.
        """
        with self._circuit_told():
            digest = await self._publish(extraction, parts, history)
        self.destination.circuit.succeeded()
        return digest

    @contextmanager
    def _circuit_told(self) -> Iterator[None]:
        """The destination's circuit hears when it stays away."""
        try:
            yield
        except TransientError as error:
            if error.reason is Reason.DESTINATION_UNAVAILABLE and not self.uploads.refused:
                self.destination.circuit.failed(anyio.current_time())
            raise

    async def _publish(self, extraction: Extraction, parts: Sequence[Part], history: History) -> str:
        await self.uploads.publish(parts)
        manifest = manifest_of(
            self.job,
            extraction,
            parts,
            lambda each, part: _key(self.job, self.destination, each.type_token, part.number),
            history,
        )
        await self._publish_loader_kit(manifest)
        published = await publish_manifest(
            manifest,
            destination=self.destination.code,
            store=self.destination.store,
            layout=self.destination.layout,
            retry=self.retry,
        )
        return published.sha256

    async def _publish_loader_kit(self, manifest: Manifest) -> None:
        """Before the manifest, for that is the last of all. An export whose increments no key tells apart has none."""
        destination = self.destination
        if destination.location is None:
            return
        for dialect in destination.loader_kit:
            try:
                script = statements(manifest, dialect, destination.location)
            except PermanentError as error:
                _logger.warning("no loader script", destination=destination.code, dialect=dialect, error=error.sentence)
                continue
            key = build(ScriptName(self.job.organization, self.job.id, dialect), destination.layout)
            await self.retry.call(partial(destination.store.put, key, script.encode()))


def _away(destination: Destination) -> TransientError:
    """Why nothing is sent to a destination that stayed away for a whole retry budget a moment ago."""
    pause_s = destination.circuit.closes_in_s(anyio.current_time())
    return TransientError(
        f"{destination.store.name} was away a moment ago and is left alone for {pause_s:.0f} s.",
        reason=Reason.DESTINATION_UNAVAILABLE,
        retry_after_s=pause_s,
    )


def spool_manifest(job: Job, extraction: Extraction, parts: Sequence[Part]) -> bytes:
    """The manifest that lies beside the parts in the spool, for downloads: keys are file names."""
    return render(manifest_of(job, extraction, parts, lambda _, part: part.file_name, History()))


def manifest_of(
    job: Job,
    extraction: Extraction,
    parts: Sequence[Part],
    key_of: Callable[[EntityExtraction, Part], str],
    history: History,
) -> Manifest:
    """The manifest of a job at one place. Pure."""
    return Manifest(
        job_id=job.id,
        organization=job.organization,
        schedule=ManifestSchedule(id=job.schedule_id, code=job.schedule_code or "") if job.schedule_id else None,
        due_at=job.due_at,
        created_at=extraction.taken_at,
        format=job.file_format,
        entities=tuple(
            ManifestEntity(
                code=entity.entity,
                type=entity.type_token,
                mode=entity.mode,
                full_reason=entity.full_reason,
                window=ManifestWindow(
                    previous=entity.previous,
                    snapshot=extraction.snapshot,
                    lsn=extraction.wal_position,
                    taken_at=extraction.taken_at,
                ),
                key=entity.key,
                tenant=entity.tenant,
                fields=tuple(
                    ManifestField(name=field.name, type=field.type, format=field.format, reference=field.reference)
                    for field in entity.fields
                ),
                rows=entity.rows,
                deleted_rows=entity.deleted_rows,
                parts=tuple(
                    ManifestPart(
                        key=key_of(entity, part),
                        rows=part.rows,
                        content_bytes=part.content_bytes,
                        size_bytes=part.size_bytes,
                        sha256=part.sha256,
                    )
                    for part in parts
                    if part.entity == entity.entity
                ),
                oversized_parts=entity.oversized_parts,
            )
            for entity in extraction.entities
        ),
        predecessor=history.predecessor,
        redelivers=history.redelivers,
    )


def _key(job: Job, destination: Destination, type_token: str, number: int) -> ObjectKey:
    name = ObjectName.of(
        organization=job.organization,
        due_at=job.due_at,
        type_token=type_token,
        job=job.id,
        number=number,
        file_format=job.file_format,
    )
    return build(name, destination.layout)
