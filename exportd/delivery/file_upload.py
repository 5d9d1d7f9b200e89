"""Uploads one file to one store while the file grows. The last piece is held back until the file is published.

All pieces have the same size except the last, which has at least one byte. So a piece can be sent as soon as the file
is longer than the piece's end. A file of at most one piece is sent in one request.

An upload of an earlier attempt is continued if the store still has it. An upload that the store has dropped is started
again from the spool.
"""

import hashlib
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread
import structlog

from exportd.delivery.byte_limiter import ByteLimiter
from exportd.model.errors import ExportdError, InvariantError, PermanentError, Reason, TransientError
from exportd.model.job import Part
from exportd.spool.part_files import PartSource
from exportd.stores.layout import ObjectKey
from exportd.stores.retrying import RetryBudget
from exportd.stores.store import (
    BatchStore,
    ObjectInfo,
    Piece,
    Store,
    StoreLimits,
    Upload,
    UploadGoneError,
    chunks_within,
)

T = TypeVar("T")

MAX_SMALL_BYTES = 64 << 10
MAX_TOGETHER = 64
"""Small files are read together, and published in one call if the store can do that. This is the limit of their size
and of their number.
"""

_SMALL_AT_ONCE = 4
"""How many requests for small objects run at a time. Each needs a connection, and opening one with TLS costs as much as
several objects.
"""

_MAX_STARTS = 3
"""How often an upload that the store drops is started."""

_logger = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class ByteRange:
    """``length`` bytes from ``offset``."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length


def piece_range(number: int, limits: StoreLimits) -> ByteRange:
    """The bytes of piece ``number`` (from 1), which is not the last."""
    return ByteRange((number - 1) * limits.piece_bytes, limits.piece_bytes)


def tail_range(size_bytes: int, limits: StoreLimits) -> ByteRange:
    """The bytes that are handed over when a finished file is published."""
    offset = max(size_bytes - 1, 0) // limits.piece_bytes * limits.piece_bytes
    return ByteRange(offset, size_bytes - offset)


def is_too_many(number: int, limits: StoreLimits) -> bool:
    """Whether piece ``number`` uses up the allowed pieces although another one has to follow."""
    return number >= limits.max_pieces


class FileUpload:
    """``send`` while the file grows, then ``publish``; ``abort`` if it does not come to that.

    ``owner`` is whose share of the limiter's bytes it takes. ``on_started`` gets an upload before anything is
    sent to it. ``published`` is the object, once it is visible. Methods raise TransientError or PermanentError.
    """

    def __init__(
        self,
        *,
        file: PartSource,
        key: ObjectKey,
        store: Store,
        limiter: ByteLimiter,
        retry: RetryBudget,
        pieces_at_once: int,
        owner: Hashable,
        on_started: Callable[[Upload], Awaitable[None]],
    ) -> None:
        self.file = file
        self.key = key
        self._store = store
        self._limiter = limiter
        self._retry = retry
        self._owner = owner
        self._on_started = on_started
        self._pieces_at_once = 1 if store.limits.pieces_in_order else pieces_at_once
        self._upload: Upload | None = None
        self._found: dict[int, Piece] = {}
        self._pieces: list[Piece] = []
        self._sent = False
        self.published: ObjectInfo | None = None

    async def adopt(self, upload: Upload) -> None:
        """Continue the upload of an earlier attempt if the store still has it. Call it before ``send``.

        If the store does not allow looking, the file is uploaded from its beginning. Raises TransientError.
        """
        try:
            found = await self._retry.call(lambda: self._store.pieces(upload))
        except UploadGoneError:
            return
        except PermanentError as error:
            _logger.warning("upload started over", key=self.key, error=error.sentence)
            await self._try_abort(upload)
            return
        self._upload = upload
        self._found = {piece.number: piece for piece in found}

    async def send(self) -> None:
        """Upload every piece except the last. Returns when the file is finished and these pieces have arrived."""
        await self._restart_if_gone(self._send)

    async def publish(self) -> ObjectInfo:
        """Make the object visible. Call it after ``send``; it may be called again."""
        if self.published is None:
            self.published = await self._restart_if_gone(self._publish)
        return self.published

    @property
    def waits_for_publishing(self) -> bool:
        """Whether ``send`` has nothing to do, because the file is finished and is a single piece."""
        return self.file.part is not None and self.file.part.size_bytes <= self._store.limits.piece_bytes

    @property
    def is_small(self) -> bool:
        """Whether the finished file can be published with others in one call."""
        part = self._part()
        whole = self._upload is None and self.published is None
        return whole and part.size_bytes <= min(MAX_SMALL_BYTES, self._store.limits.piece_bytes)

    @staticmethod
    async def publish_together(uploads: Sequence["FileUpload"]) -> None:
        """Make small objects of one store visible together (see ``MAX_TOGETHER``). ``publish`` then returns at once.

        When it raises, some may be visible.
        """
        first = uploads[0]
        size_bytes = sum(upload._part().size_bytes for upload in uploads)
        async with first._limiter.hold(size_bytes, owner=first._owner):
            contents = await anyio.to_thread.run_sync(_read_whole, uploads)
            if isinstance(first._store, BatchStore):
                await _put_all(uploads, contents, first._store)
            else:
                await _put_each(uploads, contents)

    async def find_published(self) -> bool:
        """Check whether an earlier attempt has published exactly this content. Then nothing is sent again.

        The size alone proves nothing, because the job may have been extracted again under the same key. If the store
        does not allow reading, the answer is no, and the object is replaced by an equal one.
        """
        part = self._part()
        try:
            info = await self._store.head(self.key)
            if info is None or info.size_bytes != part.size_bytes:
                return False
            digest = hashlib.sha256()
            async with aclosing(chunks_within(self._store, self.key, part.size_bytes)) as chunks:
                async for chunk in chunks:
                    await anyio.to_thread.run_sync(digest.update, chunk)
        except ExportdError:
            return False
        if digest.hexdigest() == part.sha256:
            self.published = info
        return self.published is not None

    async def abort(self) -> None:
        """Free what the store holds of an unpublished file."""
        if self._upload is not None:
            await self._store.abort(self._upload)
            self._upload = None

    async def give_up(self) -> None:
        """Give the file up: free what the store holds of it, if the store allows that."""
        if self._upload is not None:
            await self._try_abort(self._upload)
            self._upload = None

    async def _try_abort(self, upload: Upload) -> None:
        """As ``abort``, but ignore an upload that cannot be aborted, because a destination need only allow writing."""
        try:
            await self._store.abort(upload)
        except ExportdError as error:
            _logger.warning("upload not aborted", key=self.key, error=error.sentence)

    async def _restart_if_gone(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run ``work``, and start again with a new upload when the store has dropped the current one."""
        for _ in range(_MAX_STARTS - 1):
            try:
                return await work()
            except UploadGoneError as error:
                _logger.warning("upload started over", key=self.key, error=error.sentence)
                self._upload, self._sent = None, False
                self._found.clear()
        return await work()

    async def _send(self) -> None:
        failures: list[ExportdError] = []
        self._pieces.clear()

        async def guard(work: Callable[[], Awaitable[None]]) -> None:
            # Caught here, because the task group would wrap it in an exception group and hide its sentence.
            try:
                await work()
            except ExportdError as error:
                failures.append(error)
                tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            await guard(lambda: self._follow(lambda piece: tasks.start_soon(guard, piece)))
        if failures:
            raise failures[0]
        self._sent = True

    async def _publish(self) -> ObjectInfo:
        if not self._sent and not self.waits_for_publishing:
            await self._send()
        part = self._part()
        tail = tail_range(part.size_bytes, self._store.limits)
        async with self._limiter.hold(tail.length, owner=self._owner):
            info = self._arrived(await self._complete(await self._read(tail)))
        self._upload = None
        return info

    def _arrived(self, info: ObjectInfo) -> ObjectInfo:
        """The object, if it is as large as the file."""
        part = self._part()
        if info.size_bytes != part.size_bytes:
            raise TransientError(
                f"{self.key} arrived with {info.size_bytes} bytes instead of {part.size_bytes}.",
                reason=Reason.DESTINATION_UNAVAILABLE,
            )
        return info

    async def _start(self) -> Upload:
        self._upload = await self._retry.call(lambda: self._store.start(self.key))
        await self._on_started(self._upload)
        return self._upload

    async def _follow(self, begin: Callable[[Callable[[], Awaitable[None]]], object]) -> None:
        """Start to send each piece as soon as the file is longer than the piece's end."""
        number, slots = 1, anyio.Semaphore(self._pieces_at_once)
        while await self.file.grown(piece_range(number, self._store.limits).end):
            if is_too_many(number, self._store.limits):
                raise self._too_large()
            upload = self._upload or await self._start()
            await slots.acquire()
            begin(partial(self._send_piece, upload, number, slots))
            number += 1

    async def _send_piece(self, upload: Upload, number: int, slots: anyio.Semaphore) -> None:
        part_range = piece_range(number, self._store.limits)
        try:
            async with self._limiter.hold(part_range.length, owner=self._owner):
                data = await self._read(part_range)
                piece = await self._recognised(number, data)
                if piece is None:
                    piece = await self._retry.call(lambda: self._store.piece(upload, number, data))
        finally:
            slots.release()
        self._pieces.append(piece)

    async def _recognised(self, number: int, data: bytes) -> Piece | None:
        """The piece, if the store has it already with the same content as the file."""
        found = self._found.get(number)
        if found is None:
            return None
        return await anyio.to_thread.run_sync(self._store.recognise, found, data)

    async def _complete(self, tail: bytes) -> ObjectInfo:
        upload = self._upload
        if upload is None:
            return await self._retry.call(lambda: self._store.put(self.key, tail))
        pieces = sorted(self._pieces, key=lambda piece: piece.number)
        return await self._retry.call(lambda: self._store.complete(upload, pieces, tail))

    async def _read(self, part_range: ByteRange) -> bytes:
        return await anyio.to_thread.run_sync(self._read_blocking, part_range)

    def _read_blocking(self, part_range: ByteRange) -> bytes:
        try:
            data = self.file.read(part_range.offset, part_range.length)
        except OSError as error:
            raise self._damaged(f"cannot be read: {error.strerror or error}") from error
        if len(data) != part_range.length:
            raise self._damaged(f"ends before byte {part_range.end}")
        return data

    def _part(self) -> Part:
        if self.file.part is None:
            raise InvariantError(f"{self.key} is published before its file is finished")
        return self.file.part

    def _too_large(self) -> PermanentError:
        return PermanentError(
            f"{self.key} is larger than {self._store.name} takes ({self._store.limits.max_object_bytes} "
            "bytes). Lower limits.part_size.",
            reason=Reason.DESTINATION_REFUSED,
        )

    def _damaged(self, what: str) -> PermanentError:
        return PermanentError(f"The spool file of {self.key} {what}. Check the disk.", reason=Reason.SPOOL_DAMAGED)


def _read_whole(uploads: Sequence[FileUpload]) -> list[bytes]:
    return [upload._read_blocking(ByteRange(0, upload._part().size_bytes)) for upload in uploads]


async def _put_all(uploads: Sequence[FileUpload], contents: Sequence[bytes], store: BatchStore) -> None:
    objects = [(upload.key, content) for upload, content in zip(uploads, contents, strict=True)]
    infos = await uploads[0]._retry.call(lambda: store.put_all(objects))
    for upload, info in zip(uploads, infos, strict=True):
        upload.published = upload._arrived(info)


async def _put_each(uploads: Sequence[FileUpload], contents: Sequence[bytes]) -> None:
    """After a failure no further requests are started. Running ones are finished, because the store may still carry out
    a request that was cut off, after the cleaner has looked for leftovers.
    """
    left = zip(uploads, contents, strict=True)
    failures: list[ExportdError] = []

    async def put() -> None:
        for upload, content in left:
            try:
                upload.published = upload._arrived(await upload._complete(content))
            except ExportdError as error:
                failures.append(error)
            if failures:
                return

    async with anyio.create_task_group() as tasks:
        for _ in range(min(_SMALL_AT_ONCE, len(uploads))):
            tasks.start_soon(put)
    if failures:
        raise failures[0]
