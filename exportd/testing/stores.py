"""Stores for tests: one keeps everything in memory, the other wraps any store and fails by a script.

    store = FaultyStore(MemoryStore(), [Fault("piece", call=2, error=unavailable())])

The second call of ``piece`` fails, once. ``after=True`` lets the inner store do the work first and then
fails: the caller cannot know that it took effect. ``hold`` makes the call wait for an event instead of
failing. Calls are counted per method over the store's life, and noted in ``calls``.
"""

import itertools
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TypeVar

import anyio
import anyio.lowlevel

from exportd.model.errors import InvariantError, PermanentError, TransientError
from exportd.model.reason import Reason
from exportd.stores.layout import ObjectKey
from exportd.stores.store import ObjectInfo, Piece, Store, StoreLimits, Upload, UploadGoneError, require_key


@dataclass(slots=True)
class _Pending:
    upload: Upload
    pieces: dict[int, bytes] = field(default_factory=dict)


class MemoryStore:
    """The visible objects are in ``objects``."""

    def __init__(self, *, name: str = "memory", limits: StoreLimits | None = None) -> None:
        self._name = name
        self._limits = limits or StoreLimits(piece_bytes=1 << 20)
        self.objects: dict[ObjectKey, bytes] = {}
        self._modified_at: dict[ObjectKey, datetime] = {}
        self._uploads: dict[str, _Pending] = {}
        self._numbers = itertools.count(1)

    @property
    def name(self) -> str:
        return self._name

    @property
    def limits(self) -> StoreLimits:
        return self._limits

    async def start(self, key: ObjectKey) -> Upload:
        await anyio.lowlevel.checkpoint()
        upload = Upload(self._checked(key), str(next(self._numbers)), datetime.now(UTC))
        self._uploads[upload.id] = _Pending(upload)
        return upload

    async def piece(self, upload: Upload, number: int, data: bytes) -> Piece:
        await anyio.lowlevel.checkpoint()
        pending = self._uploads.get(upload.id)
        if pending is None:
            raise UploadGoneError(upload, self._name)
        if self._limits.pieces_in_order and number > len(pending.pieces) + 1:
            raise InvariantError(f"piece {number} came before piece {len(pending.pieces) + 1}")
        if len(data) != self._limits.piece_bytes:
            raise InvariantError(f"a piece has {len(data)} bytes instead of {self._limits.piece_bytes}")
        pending.pieces[number] = bytes(data)
        return _piece(number, data)

    async def pieces(self, upload: Upload) -> Sequence[Piece]:
        await anyio.lowlevel.checkpoint()
        pending = self._uploads.get(upload.id)
        if pending is None:
            raise UploadGoneError(upload, self._name)
        return [_piece(number, data) for number, data in sorted(pending.pieces.items())]

    def recognise(self, piece: Piece, data: bytes) -> Piece | None:
        return piece if piece == _piece(piece.number, data) else None

    async def complete(self, upload: Upload, pieces: Sequence[Piece], tail: bytes) -> ObjectInfo:
        await anyio.lowlevel.checkpoint()
        size_bytes = sum(piece.size_bytes for piece in pieces) + len(tail)
        pending = self._uploads.get(upload.id)
        if pending is None:
            there = self._info(upload.key)
            if there is not None and there.size_bytes == size_bytes:
                return there
            raise UploadGoneError(upload, self._name)
        ordered = sorted(pieces, key=lambda piece: piece.number)
        if [piece.number for piece in ordered] != list(range(1, len(ordered) + 1)) or not tail:
            raise InvariantError("an upload needs all its pieces and a last one that is not empty")
        whole = b"".join([*(pending.pieces[piece.number] for piece in ordered), tail])
        del self._uploads[upload.id]
        return self._show(upload.key, whole)

    async def abort(self, upload: Upload) -> None:
        await anyio.lowlevel.checkpoint()
        self._uploads.pop(upload.id, None)

    async def put(self, key: ObjectKey, data: bytes) -> ObjectInfo:
        await anyio.lowlevel.checkpoint()
        return self._show(self._checked(key), bytes(data))

    async def head(self, key: ObjectKey) -> ObjectInfo | None:
        await anyio.lowlevel.checkpoint()
        return self._info(self._checked(key))

    async def read(self, key: ObjectKey) -> AsyncGenerator[bytes]:
        await anyio.lowlevel.checkpoint()
        whole = self.objects.get(self._checked(key))
        if whole is None:
            raise PermanentError(f"There is no object {key} in {self._name}.", reason=Reason.NOT_FOUND)
        for start in range(0, len(whole), self._limits.piece_bytes):
            await anyio.lowlevel.checkpoint()
            yield whole[start : start + self._limits.piece_bytes]

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        await anyio.lowlevel.checkpoint()
        for key in sorted(self.objects, key=str.encode):
            if key.startswith(prefix) and (info := self._info(key)) is not None:
                yield info

    async def delete(self, key: ObjectKey) -> None:
        await anyio.lowlevel.checkpoint()
        self.objects.pop(self._checked(key), None)

    async def list_uploads(self, prefix: str) -> AsyncIterator[Upload]:
        await anyio.lowlevel.checkpoint()
        for pending in tuple(self._uploads.values()):
            if pending.upload.key.startswith(prefix):
                yield pending.upload

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()

    def _show(self, key: ObjectKey, data: bytes) -> ObjectInfo:
        self.objects[key] = data
        self._modified_at[key] = datetime.now(UTC)
        return ObjectInfo(key, len(data), self._modified_at[key])

    def _info(self, key: ObjectKey) -> ObjectInfo | None:
        data = self.objects.get(key)
        return None if data is None else ObjectInfo(key, len(data), self._modified_at[key])

    def _checked(self, key: ObjectKey) -> ObjectKey:
        require_key(key, store=self._name)
        return key


def _piece(number: int, data: bytes) -> Piece:
    checksum = zlib.crc32(data)
    return Piece(number, len(data), tag=f"tag-{number}-{checksum}", checksum=checksum)


Method = Literal[
    "start", "piece", "pieces", "complete", "abort", "put", "head", "read", "list", "delete", "list_uploads"
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at calls ``call`` to ``call + times - 1`` of a method (from 1)."""

    method: Method
    call: int = 1
    times: int = 1
    error: Exception | None = None
    after: bool = False
    hold: anyio.Event | None = None


def unavailable(sentence: str = "The store answered 503.") -> TransientError:
    """The error of a store that is unavailable for a moment."""
    return TransientError(sentence, reason=Reason.DESTINATION_UNAVAILABLE)


def refused(sentence: str = "The store answered 403.") -> PermanentError:
    """The error of a store that refuses access."""
    return PermanentError(sentence, reason=Reason.DESTINATION_REFUSED)


class FaultyStore:
    """Does what ``inner`` does, but for the faults."""

    def __init__(self, inner: Store, faults: Sequence[Fault] = ()) -> None:
        self.inner = inner
        self.faults = list(faults)
        self.calls: list[tuple[Method, str]] = []

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def limits(self) -> StoreLimits:
        return self.inner.limits

    def count(self, method: Method) -> int:
        """How often a method was called."""
        return sum(1 for called, _ in self.calls if called == method)

    async def start(self, key: ObjectKey) -> Upload:
        return await self._call("start", key, lambda: self.inner.start(key))

    async def piece(self, upload: Upload, number: int, data: bytes) -> Piece:
        return await self._call("piece", upload.key, lambda: self.inner.piece(upload, number, data))

    async def pieces(self, upload: Upload) -> Sequence[Piece]:
        return await self._call("pieces", upload.key, lambda: self.inner.pieces(upload))

    def recognise(self, piece: Piece, data: bytes) -> Piece | None:
        return self.inner.recognise(piece, data)

    async def complete(self, upload: Upload, pieces: Sequence[Piece], tail: bytes) -> ObjectInfo:
        return await self._call("complete", upload.key, lambda: self.inner.complete(upload, pieces, tail))

    async def abort(self, upload: Upload) -> None:
        await self._call("abort", upload.key, lambda: self.inner.abort(upload))

    async def put(self, key: ObjectKey, data: bytes) -> ObjectInfo:
        return await self._call("put", key, lambda: self.inner.put(key, data))

    async def head(self, key: ObjectKey) -> ObjectInfo | None:
        return await self._call("head", key, lambda: self.inner.head(key))

    async def delete(self, key: ObjectKey) -> None:
        await self._call("delete", key, lambda: self.inner.delete(key))

    async def read(self, key: ObjectKey) -> AsyncGenerator[bytes]:
        await self._call("read", key, _nothing)
        async for chunk in self.inner.read(key):
            yield chunk

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        await self._call("list", prefix, _nothing)
        async for info in self.inner.list(prefix):
            yield info

    async def list_uploads(self, prefix: str) -> AsyncIterator[Upload]:
        await self._call("list_uploads", prefix, _nothing)
        async for upload in self.inner.list_uploads(prefix):
            yield upload

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def _call(self, method: Method, what: str, work: Callable[[], Awaitable[T]]) -> T:
        self.calls.append((method, what))
        count = self.count(method)
        fault = next(
            (fault for fault in self.faults if fault.method == method and 0 <= count - fault.call < fault.times),
            None,
        )
        if fault is None:
            return await work()
        if fault.hold is not None:
            await fault.hold.wait()
        if fault.error is None:
            return await work()
        if fault.after:
            await work()
        raise fault.error


async def _nothing() -> None:
    return
