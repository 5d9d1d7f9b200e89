"""A store that fails by a script: wraps any other store.

    store = FaultyStore(MemoryStore(), [Fault("piece", call=2, error=unavailable())])

The second call of ``piece`` fails, once. ``after=True`` lets the inner store do the work first and then
fails: the caller cannot know that it took effect. ``hold`` makes the call wait for an event instead of
failing. Calls are counted per method over the store's life, and noted in ``calls``.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import anyio

from exportd.model.errors import PermanentError, TransientError
from exportd.model.reason import Reason
from exportd.stores.layout import ObjectKey
from exportd.stores.store import ObjectInfo, Piece, Store, StoreLimits, Upload

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
