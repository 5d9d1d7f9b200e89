"""Transfers one job's files to one destination.

A file is added when it is created, and uploaded while it grows. A failure stops only this transfer. It is kept, and
raised by ``publish``, so that an unreachable destination disturbs neither the extraction nor the other destinations.
What is not published when the block ends is aborted, unless ``keep`` was called.

    async with Transfer(...) as transfer:
        transfer.add(part_file)                  # any number, while rows are still being read
        ...                                      # the job is sealed
        transfer.keep()                          # what is up now stays for the next attempt, should this one fail
        await transfer.publish(parts)            # now everything becomes visible, and only now
"""

from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from types import TracebackType
from typing import Self, TypeVarTuple

import anyio
import structlog

from exportd.delivery.byte_limiter import ByteLimiter
from exportd.delivery.file_upload import MAX_TOGETHER, FileUpload
from exportd.model.entity import EntityCode
from exportd.model.errors import ExportdError, InvariantError, PermanentError, Reason, TransientError
from exportd.model.job import Part
from exportd.model.schedule import DestinationCode
from exportd.spool.part_files import PartSource, SpooledPart
from exportd.stores.layout import ObjectKey
from exportd.stores.retrying import RetryBudget
from exportd.stores.store import ObjectInfo, Store, Upload

_ABORT_TIMEOUT_S = 5.0
_COMPLETIONS_AT_ONCE = 8

Arguments = TypeVarTuple("Arguments")

_logger = structlog.stdlib.get_logger()


async def record_nothing(_: Upload) -> None:
    """Record nothing: the upload need not be found again after a crash."""


class Transfer:
    """An async context manager; see the module's docstring.

    ``key_of`` names the object of an entity's part. ``owner`` is whose share of the limiter's bytes it takes.
    ``on_started`` gets each upload before anything is sent to it, ``on_published`` the part of each object that became
    visible. Without ``empty_files``, a part without rows is not sent. ``failure`` is what stopped the transfer, None
    while nothing has.
    """

    def __init__(
        self,
        *,
        destination: DestinationCode,
        store: Store,
        key_of: Callable[[EntityCode, int], ObjectKey],
        limiter: ByteLimiter,
        retry: RetryBudget,
        pieces_at_once: int = 4,
        empty_files: bool = True,
        owner: Hashable = None,
        on_started: Callable[[Upload], Awaitable[None]] = record_nothing,
        on_published: Callable[[Part], None] = lambda _: None,
    ) -> None:
        self.destination = destination
        self.failure: ExportdError | None = None
        self.refused = False
        self._key_of = key_of
        self._upload_of = partial(
            FileUpload,
            store=store,
            limiter=limiter,
            retry=retry,
            pieces_at_once=pieces_at_once,
            owner=owner,
            on_started=on_started,
        )
        self._empty_files = empty_files
        self._on_published = on_published
        self._kept = False
        self._uploads: dict[tuple[EntityCode, int], FileUpload] = {}
        self._tasks = anyio.create_task_group()
        self._scopes: set[anyio.CancelScope] = set()
        self._working = 0
        self._idle = anyio.Event()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tasks.cancel_scope.cancel()
        try:
            # Keep the block's error from the task group, which would wrap it in an exception group.
            await self._tasks.__aexit__(None, None, None)
        finally:
            if not self._kept:
                await self._abort()

    def add(self, file: PartSource) -> None:
        """Upload a file while it grows."""
        upload = self._register(file)
        if not upload.waits_for_publishing:
            self._begin(upload.send)

    def resume(self, parts: Sequence[SpooledPart], begun: Sequence[Upload] = ()) -> None:
        """Upload the files of a sealed job. Objects that an earlier attempt has published are left as they are. Of the
        uploads that it has ``begun``, the newest of each key is continued.
        """
        newest = {upload.key: upload for upload in begun}
        for part in parts:
            upload = self._register(part)
            if self.sends(part.part):
                self._begin(_resume, upload, newest.get(upload.key))

    def sends(self, part: Part) -> bool:
        """Whether the destination gets this part."""
        return self._empty_files or part.rows > 0

    def refuse(self, error: ExportdError) -> None:
        """Send nothing, and let ``publish`` raise this error."""
        self.refused = True
        self._fail(error)

    def keep(self) -> None:
        """From now on leave unpublished uploads in the store when the block ends. The job is sealed and can continue
        with them.
        """
        self._kept = True

    async def publish(self, parts: Sequence[Part]) -> tuple[ObjectInfo, ...]:
        """Make all objects visible that the destination gets; ``parts`` are the sealed job's, and have all been added.

        Raises TransientError or PermanentError with the destination's name: what went wrong now, or earlier.
        """
        uploads = [self._uploads.get((part.entity, part.number)) for part in parts]
        pairs = [
            (upload, part)
            for upload, part in zip(uploads, parts, strict=True)
            if upload is not None and upload.file.part == part
        ]
        if not len(pairs) == len(parts) == len(self._uploads):
            raise InvariantError("the files that were added are not the parts of the job")
        await self._wait_until_idle()
        for upload, part in pairs:
            if not self.sends(part):
                await upload.give_up()
        pairs = [(upload, part) for upload, part in pairs if self.sends(part)]
        slots = anyio.Semaphore(_COMPLETIONS_AT_ONCE)
        infos: dict[ObjectKey, ObjectInfo] = {}

        async def publish_one(upload: FileUpload, part: Part) -> None:
            async with slots:
                if self.failure is not None:
                    return
                infos[upload.key] = await upload.publish()
            self._on_published(part)

        small = [upload for upload, _ in pairs if upload.is_small]
        if len(small) > 1:
            for start in range(0, len(small), MAX_TOGETHER):
                self._begin(FileUpload.publish_together, small[start : start + MAX_TOGETHER], stoppable=False)
            await self._wait_until_idle()
        for upload, part in pairs:
            if upload.published is not None and self.failure is None:
                infos[upload.key] = upload.published
                self._on_published(part)
                continue
            # The failure of another object does not stop it: the store may still carry out a request that was cut off,
            # after the cleaner has looked for leftovers.
            self._begin(publish_one, upload, part, stoppable=False)
        await self._wait_until_idle()
        if self.failure is not None:
            raise self.failure
        return tuple(infos[upload.key] for upload, _ in pairs)

    def _register(self, file: PartSource) -> FileUpload:
        upload = self._upload_of(file=file, key=self._key_of(file.entity, file.number))
        self._uploads[file.entity, file.number] = upload
        return upload

    def _begin(
        self, work: Callable[[*Arguments], Awaitable[None]], *arguments: *Arguments, stoppable: bool = True
    ) -> None:
        """Run ``work`` in the background. Its failure fails this transfer. After a failure nothing more is started.

        ``stoppable`` work is cancelled when other work fails first.
        """
        if self.failure is None:
            self._working += 1
            self._tasks.start_soon(
                self._guard, lambda: work(*arguments), stoppable, name=f"transfer to {self.destination}"
            )

    async def _guard(self, work: Callable[[], Awaitable[None]], stoppable: bool) -> None:
        with anyio.CancelScope() as scope:
            if stoppable:
                self._scopes.add(scope)
            try:
                await work()
            except ExportdError as error:
                self._fail(error)
            finally:
                self._scopes.discard(scope)
                self._working -= 1
                self._idle.set()

    def _fail(self, error: ExportdError) -> None:
        """Keep the first failure, and stop all other work for this destination."""
        if self.failure is not None:
            return
        self.failure = named(self.destination, error)
        if error.reason is not Reason.INTERRUPTED:
            _logger.warning("delivery failed", destination=self.destination, error=error.sentence)
        for scope in self._scopes:
            scope.cancel()

    async def _wait_until_idle(self) -> None:
        while self._working:
            self._idle = anyio.Event()
            await self._idle.wait()

    async def _abort(self) -> None:
        """Abort what is not published. What cannot be aborted now is found later by the cleaner."""

        async def abort_one(upload: FileUpload) -> None:
            try:
                await upload.abort()
            except ExportdError as error:
                _logger.warning(
                    "upload not aborted", destination=self.destination, key=upload.key, error=error.sentence
                )

        with anyio.move_on_after(_ABORT_TIMEOUT_S, shield=True) as scope:
            async with anyio.create_task_group() as tasks:
                for upload in self._uploads.values():
                    tasks.start_soon(abort_one, upload)
        if scope.cancelled_caught:
            _logger.warning("uploads not aborted", destination=self.destination, timeout_s=_ABORT_TIMEOUT_S)


def named(destination: DestinationCode, error: ExportdError) -> ExportdError:
    """The same error, with the destination's name."""
    sentence = f"Destination {destination}: {error.sentence}"
    found: ExportdError
    if isinstance(error, TransientError):
        found = TransientError(sentence, reason=error.reason, retry_after_s=error.retry_after_s)
    else:
        found = PermanentError(sentence, reason=error.reason)
    found.__cause__ = error
    return found


async def _resume(upload: FileUpload, begun: Upload | None) -> None:
    if await upload.find_published():
        return
    if begun is not None:
        await upload.adopt(begun)
    await upload.send()
