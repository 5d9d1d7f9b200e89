"""The contract of a store: where objects are delivered, whole or not at all.

How it is used. A file of at most one piece is ``put``. A larger one is started while it still grows; full pieces go up,
several at a time unless the store wants them in order; the rest, which is never empty, is handed to ``complete``.
Nothing is visible under the key before ``put`` or ``complete`` returns, and then all of it is.

What every implementation guarantees (the conformance suite checks it):

- Each method may be called again with the same arguments after it failed, also when it is unknown whether it took
  effect: the second call succeeds if the first one did.
- Foreign errors come out as TransientError (trying again may help) or PermanentError (a person has to change
  something), with a sentence that names the place; nothing else.
- Methods may be called at the same time, except that a store with ``pieces_in_order`` gets the pieces of one upload
  one after the other.
- What a cancelled call leaves behind can be cleaned up by ``list_uploads`` and ``abort``; where a store cannot list
  uploads, the caller has to remember them.

After a crash an upload goes on: ``pieces`` says what is in, and ``recognise`` whether that is what the file holds.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

from exportd.model.errors import PermanentError, Reason, TransientError
from exportd.stores.layout import ObjectKey, check_key


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """What a store wants and allows.

    ``piece_bytes`` is the size of every piece but an upload's last, which has 1 to ``piece_bytes`` bytes.
    ``max_pieces`` counts the last one too. ``pieces_in_order``: the next piece starts when the one before is in.
    """

    piece_bytes: int
    max_pieces: int = 10_000
    pieces_in_order: bool = False
    lists_uploads: bool = True

    @property
    def max_object_bytes(self) -> int:
        """The largest object that can be uploaded in pieces."""
        return self.piece_bytes * self.max_pieces


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload in progress: plain data, so that it can be written down and continued elsewhere.

    ``id`` is the store's own name for it and may grant access: it stays out of logs.
    """

    key: ObjectKey
    id: str = field(repr=False)
    started_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece that is in. ``number`` counts from 1; ``tag`` is what the store wants back in ``complete``, ``checksum``
    the CRC of its bytes where the store uses one.
    """

    number: int
    size_bytes: int
    tag: str = ""
    checksum: int | None = None


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """A visible object."""

    key: ObjectKey
    size_bytes: int
    modified_at: datetime | None = None


class UploadGoneError(TransientError):
    """The upload was aborted, or dropped by the store: the object has to be started over."""

    def __init__(self, upload: Upload, store_name: str) -> None:
        super().__init__(
            f"The upload of {upload.key} to {store_name} is gone: it was aborted, or it was too old.",
            reason=Reason.DESTINATION_UNAVAILABLE,
        )


class Store(Protocol):
    """See the module's text. ``name`` says which place this is, for sentences and logs; it holds no secret."""

    @property
    def name(self) -> str: ...

    @property
    def limits(self) -> StoreLimits: ...

    async def start(self, key: ObjectKey) -> Upload:
        """Begin to upload an object in pieces."""

    async def piece(self, upload: Upload, number: int, data: bytes) -> Piece:
        """Upload piece ``number`` (from 1), of exactly ``limits.piece_bytes`` bytes.

        Raises UploadGoneError when there is no such upload any more.
        """

    async def pieces(self, upload: Upload) -> Sequence[Piece]:
        """The pieces that are in, by number: only whole ones.

        Raises UploadGoneError when there is no such upload any more.
        """

    def recognise(self, piece: Piece, data: bytes) -> Piece | None:
        """What ``piece`` would return for ``data``, if that is what the piece found by ``pieces`` holds; else None.

        A store that cannot compare contents before the end always returns it, and refuses in ``complete``.
        """

    async def complete(self, upload: Upload, pieces: Sequence[Piece], tail: bytes) -> ObjectInfo:
        """Add the last piece and make the object visible, replacing one of the same name.

        ``pieces`` are all the others. When the upload is gone but an object of the right size is there, an earlier call
        has succeeded; otherwise UploadGoneError is raised.
        """

    async def abort(self, upload: Upload) -> None:
        """Abort an upload and free what it holds; one that is gone is fine. Completed objects stay."""

    async def put(self, key: ObjectKey, data: bytes) -> ObjectInfo:
        """Make a small object visible at once, replacing one of the same name."""

    async def head(self, key: ObjectKey) -> ObjectInfo | None:
        """The visible object of a key, None if there is none."""

    def read(self, key: ObjectKey) -> AsyncGenerator[bytes]:
        """The content of an object, in chunks. Raises PermanentError NOT_FOUND when there is none."""

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """The visible objects whose keys begin with ``prefix``, in the order of their keys' UTF-8 bytes."""

    async def delete(self, key: ObjectKey) -> None:
        """Remove an object; one that is not there is fine."""

    def list_uploads(self, prefix: str) -> AsyncIterator[Upload]:
        """The uploads in progress, of any program, whose keys begin with ``prefix``; none where a store lists none."""

    async def aclose(self) -> None:
        """Give back connections, while no call is in progress. A call afterwards connects again."""


def require_key(key: str, *, store: str) -> None:
    """Raises PermanentError for what cannot be a key in any store; ``store`` is this one's name."""
    try:
        check_key(key)
    except ValueError as error:
        raise PermanentError(f"{store}: {error}.", reason=Reason.DESTINATION_REFUSED) from error


async def chunks_within(store: Store, key: ObjectKey, max_bytes: int) -> AsyncGenerator[bytes]:
    """The content of an object, in chunks, and no chunk after the first that goes beyond ``max_bytes``.

    So the caller sees that an object is too long, whatever its length. Raises as ``Store.read``.
    """
    read_bytes = 0
    async with aclosing(store.read(key)) as chunks:
        async for chunk in chunks:
            read_bytes += len(chunk)
            yield chunk
            if read_bytes > max_bytes:
                return


async def read_within(store: Store, key: ObjectKey, max_bytes: int) -> bytes:
    """The content of an object; of a longer one its beginning, which has ``max_bytes`` + 1 bytes."""
    content = bytearray()
    async with aclosing(chunks_within(store, key, max_bytes)) as chunks:
        async for chunk in chunks:
            content += chunk
    return bytes(content[: max_bytes + 1])


@runtime_checkable
class BatchStore(Protocol):
    """A store that can make many small objects visible in one call, for much less than one by one."""

    async def put_all(self, objects: Sequence[tuple[ObjectKey, bytes]]) -> Sequence[ObjectInfo]:
        """As ``put`` for each, in their order. When it raises, any of them may be visible; it may be repeated."""
