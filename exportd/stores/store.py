"""The contract of a store, to which objects are delivered completely or not at all.

How it is used: a file of at most one piece is ``put``. A larger one is started while it still grows. Full pieces are
uploaded, several at a time unless the store needs them in order. The rest, which is never empty, is passed to
``complete``. Nothing is visible under the key before ``put`` or ``complete`` returns, and then the whole object is.

Every implementation guarantees the following, which the conformance suite checks:

- Each method may be called again with the same arguments after it failed, also when it is unknown whether it took
  effect: the second call succeeds if the first one did.
- Foreign errors come out as TransientError (trying again may help) or PermanentError (a person has to change
  something), with a sentence that names the place; nothing else.
- Methods may be called at the same time, except that a store with ``pieces_in_order`` gets the pieces of one upload
  one after the other.
- What a cancelled call leaves behind can be cleaned up by ``list_uploads`` and ``abort``; where a store cannot list
  uploads, the caller has to remember them.

After a crash an upload continues: ``pieces`` says which pieces have arrived, and ``recognise`` whether they are those
of the file.
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
    """The limits of a store.

    ``piece_bytes`` is the size of every piece except an upload's last, which has 1 to ``piece_bytes`` bytes.
    ``max_pieces`` includes the last one. With ``pieces_in_order``, a piece starts when the one before has arrived.
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
    """A piece that has arrived. ``number`` counts from 1. ``tag`` has to be passed to ``complete``. ``checksum`` is the
    CRC of its bytes, if the store uses one.
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
    """The upload was aborted, or dropped by the store. The object has to be uploaded from its beginning."""

    def __init__(self, upload: Upload, store_name: str) -> None:
        super().__init__(
            f"The upload of {upload.key} to {store_name} is gone: it was aborted, or it was too old.",
            reason=Reason.DESTINATION_UNAVAILABLE,
        )


class Store(Protocol):
    """See the module's docstring. ``name`` identifies the place in sentences and logs; it holds no secret."""

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
        """The pieces that have arrived completely, by number.

        Raises UploadGoneError when there is no such upload any more.
        """

    def recognise(self, piece: Piece, data: bytes) -> Piece | None:
        """The piece that ``piece`` would return for ``data``, if the piece found by ``pieces`` has this content; else
        None.

        A store that cannot compare contents before the end always returns the piece, and ``complete`` fails if they
        differ.
        """

    async def complete(self, upload: Upload, pieces: Sequence[Piece], tail: bytes) -> ObjectInfo:
        """Add the last piece and make the object visible, replacing one of the same name.

        ``pieces`` are all others. When the upload is gone but an object of the right size exists, an earlier call has
        succeeded. Otherwise UploadGoneError is raised.
        """

    async def abort(self, upload: Upload) -> None:
        """Abort an upload and free what it holds. Succeeds if the upload is gone. Completed objects stay."""

    async def put(self, key: ObjectKey, data: bytes) -> ObjectInfo:
        """Make a small object visible at once, replacing one of the same name."""

    async def head(self, key: ObjectKey) -> ObjectInfo | None:
        """The visible object of a key; None if there is none."""

    def read(self, key: ObjectKey) -> AsyncGenerator[bytes]:
        """The content of an object, in chunks. Raises PermanentError NOT_FOUND when there is none."""

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """The visible objects whose keys begin with ``prefix``, in the order of their keys' UTF-8 bytes."""

    async def delete(self, key: ObjectKey) -> None:
        """Remove an object. Succeeds if there is none."""

    def list_uploads(self, prefix: str) -> AsyncIterator[Upload]:
        """The uploads in progress, of any program, whose keys begin with ``prefix``. Empty if the store cannot list
        uploads.
        """

    async def aclose(self) -> None:
        """Close the connections. No call may be in progress. A later call connects again."""


def require_key(key: str, *, store: str) -> None:
    """Check a key. Raises PermanentError for one that no store accepts. ``store`` is the name of this store."""
    try:
        check_key(key)
    except ValueError as error:
        raise PermanentError(f"{store}: {error}.", reason=Reason.DESTINATION_REFUSED) from error


async def chunks_within(store: Store, key: ObjectKey, max_bytes: int) -> AsyncGenerator[bytes]:
    """The content of an object in chunks. The last chunk is the first one that goes beyond ``max_bytes``.

    So the caller sees that an object is too long without reading all of it. Raises as ``Store.read``.
    """
    read_bytes = 0
    async with aclosing(store.read(key)) as chunks:
        async for chunk in chunks:
            read_bytes += len(chunk)
            yield chunk
            if read_bytes > max_bytes:
                return


async def read_within(store: Store, key: ObjectKey, max_bytes: int) -> bytes:
    """The content of an object. Of one longer than ``max_bytes``, the first ``max_bytes`` + 1 bytes."""
    content = bytearray()
    async with aclosing(chunks_within(store, key, max_bytes)) as chunks:
        async for chunk in chunks:
            content += chunk
    return bytes(content[: max_bytes + 1])


@runtime_checkable
class BatchStore(Protocol):
    """A store that can make many small objects visible in one call, for much less than one by one."""

    async def put_all(self, objects: Sequence[tuple[ObjectKey, bytes]]) -> Sequence[ObjectInfo]:
        """As ``put`` for each object, in their order. When it raises, any of them may be visible. It may be
        repeated.
        """
