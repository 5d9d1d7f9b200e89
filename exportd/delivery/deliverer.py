"""Delivers a job to one destination: files while they grow, objects when the job is published, the manifest last."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial

import anyio
import structlog

from exportd.consumer.loaders.kit import statements
from exportd.delivery.byte_limiter import ByteLimiter
from exportd.delivery.tables import UploadTable
from exportd.delivery.transfer import Transfer, named
from exportd.destinations.open_destinations import Destination, Destinations
from exportd.jobs.leases import require_in_time
from exportd.manifest.build import History, ManifestRenderer, build_manifest
from exportd.manifest.document import Manifest, sha256_of
from exportd.model.entity import EntityCode
from exportd.model.errors import ExportdError, OccupiedError, PermanentError, Reason, TransientError
from exportd.model.extraction import Extraction
from exportd.model.job import Job, JobProgress, Lease, Part
from exportd.model.schedule import DestinationCode
from exportd.stores.layout import ManifestName, ObjectKey, ScriptName, build, file_name, key_of_file
from exportd.stores.retrying import RetryBudget

_logger = structlog.stdlib.get_logger()


class Deliverer:
    """Opens the delivery of a job to a destination. One instance serves all jobs.

    ``uploads`` remembers what is under way, ``limiter`` bounds the bytes that all transfers hold in memory,
    ``type_token`` is the catalog's, ``retry`` is the budget of each call to a store.
    """

    def __init__(
        self,
        destinations: Destinations,
        *,
        uploads: UploadTable,
        limiter: ByteLimiter,
        type_token: Callable[[EntityCode], str],
        retry: RetryBudget,
    ) -> None:
        self._destinations = destinations
        self._uploads = uploads
        self._limiter = limiter
        self._type_token = type_token
        self._retry = retry

    def require_one_at_hand(self, job: Job, codes: Sequence[DestinationCode]) -> None:
        """Check that at least one of these destinations can be tried now, so that reading is worth while.

        Raises OccupiedError for the shortest pause, and PermanentError as ``delivery``.
        """
        destinations = [self._destinations.get(job.organization, code) for code in codes]
        now = anyio.current_time()
        if destinations and not any(destination.circuit.would_admit(now) for destination in destinations):
            raise OccupiedError(
                " ".join(named(destination.code, _circuit_open(destination)).sentence for destination in destinations),
                reason=Reason.DESTINATION_UNAVAILABLE,
                retry_after_s=min(destination.circuit.closes_in_s(now) for destination in destinations),
            )

    @asynccontextmanager
    async def delivery(
        self, lease: Lease, code: DestinationCode, progress: JobProgress, sealed: Extraction | None
    ) -> AsyncIterator["DestinationDelivery"]:
        """The delivery of a job to one destination; what is not published when the block ends is aborted.

        A holder that was frozen until its lease was over writes nothing more: another daemon may have published the job
        meanwhile, with other rows under the same names.

        A job that is ``sealed`` already keeps the type tokens of its seal, whatever the catalog says by now. Raises
        PermanentError when the destination is not declared any more.
        """
        job, token_of = lease.job, self._type_token
        retry = replace(self._retry, guard=partial(require_in_time, lease))
        if sealed is not None:
            token_of = {entity.entity: entity.type_token for entity in sealed.entities}.__getitem__

        def count(_: Part) -> None:
            progress.published_files += 1

        @cache  # asked for again when the manifest is built
        def key_of(entity: EntityCode, number: int) -> ObjectKey:
            name = file_name(job.id, token_of(entity), number, job.file_format)
            return key_of_file(name, job.organization, job.due_at, destination.layout)

        async with (
            self._destinations.using(job.organization, code) as destination,
            Transfer(
                destination=code,
                store=destination.store,
                key_of=key_of,
                limiter=self._limiter,
                retry=retry,
                empty_files=destination.empty_files,
                owner=(job.organization, code),
                on_started=lambda upload: self._uploads.record(job.id, code, upload),
                on_published=count,
            ) as transfer,
        ):
            admitted = destination.circuit.admits(anyio.current_time())
            if not admitted:
                transfer.refuse(_circuit_open(destination))
            try:
                yield DestinationDelivery(job, destination, transfer, key_of, retry)
            finally:
                if admitted:
                    destination.circuit.given_up()


@dataclass(frozen=True, slots=True)
class DestinationDelivery:
    """The delivery of one job to one destination."""

    job: Job
    destination: Destination
    transfer: Transfer
    key_of: Callable[[EntityCode, int], ObjectKey]
    retry: RetryBudget

    async def prepare(self, work: Callable[[RetryBudget], Awaitable[None]]) -> None:
        """Do what has to be done at the destination before anything is published; not if the transfer has failed.

        Raises TransientError or PermanentError, which names the destination if that is what fails.
        """
        with self._failure_counted():
            if self.transfer.failure is not None:
                raise self.transfer.failure
            try:
                await work(self.retry)
            except TransientError as error:
                if error.reason is Reason.DESTINATION_UNAVAILABLE:
                    raise named(self.destination.code, error) from error
                raise

    async def publish(
        self, extraction: Extraction, parts: Sequence[Part], history: History, renderer: ManifestRenderer
    ) -> str:
        """Make the objects visible, then the loader kit, then the manifest. Returns the manifest's SHA-256. May be
        called again.

        Raises TransientError or PermanentError that names the destination.
        """
        with self._failure_counted():
            await self.transfer.publish(parts)
            manifest = build_manifest(
                self.job,
                extraction,
                [part for part in parts if self.transfer.sends(part)],
                lambda part: self.key_of(part.entity, part.number),
                history,
            )
            await publish_loader_kit(manifest, self.destination, self.retry)
            digest = await publish_manifest(manifest, self.destination, self.retry, renderer)
        self.destination.circuit.succeeded()
        return digest

    @contextmanager
    def _failure_counted(self) -> Iterator[None]:
        """Count an outage that occurs in the block in the destination's circuit, unless the circuit itself refused."""
        try:
            yield
        except TransientError as error:
            if error.reason is Reason.DESTINATION_UNAVAILABLE and not self.transfer.refused:
                self.destination.circuit.failed(anyio.current_time())
            raise


def _circuit_open(destination: Destination) -> TransientError:
    """The error for a destination that was out of reach for a whole retry budget a short time ago."""
    pause_s = destination.circuit.closes_in_s(anyio.current_time())
    return TransientError(
        f"{destination.store.name} was away a moment ago and is left alone for {pause_s:.0f} s.",
        reason=Reason.DESTINATION_UNAVAILABLE,
        retry_after_s=pause_s,
    )


async def publish_manifest(
    manifest: Manifest, destination: Destination, retry: RetryBudget, renderer: ManifestRenderer
) -> str:
    """Write the manifest to a destination. Returns its SHA-256, which the next manifest names.

    May be repeated: equal manifests are equal bytes. Raises TransientError or PermanentError that names the
    destination.
    """
    document = renderer.render(manifest)
    key = build(ManifestName(manifest.organization, manifest.job_id), destination.layout)
    await _put(key, document, destination, retry)
    return sha256_of(document)


async def publish_loader_kit(manifest: Manifest, destination: Destination, retry: RetryBudget) -> None:
    """Write the scripts that load the job, one for each database of the destination's loader kit.

    An export whose increments no key tells apart gets none. Raises TransientError or PermanentError.
    """
    if destination.location is None:
        return
    for dialect in destination.loader_kit:
        try:
            script = statements(manifest, dialect, destination.location)
        except PermanentError as error:
            _logger.warning("no loader script", destination=destination.code, dialect=dialect, error=error.sentence)
            continue
        key = build(ScriptName(manifest.organization, manifest.job_id, dialect), destination.layout)
        await _put(key, script.encode(), destination, retry)


async def _put(key: ObjectKey, content: bytes, destination: Destination, retry: RetryBudget) -> None:
    """Write a small object. Raises TransientError or PermanentError that names the destination."""
    try:
        await retry.call(partial(destination.store.put, key, content))
    except ExportdError as error:
        raise named(destination.code, error) from error
