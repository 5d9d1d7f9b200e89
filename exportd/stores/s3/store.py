"""Delivers to a bucket of S3, or of a store that speaks S3.

An upload is a multipart upload: pieces in any order, several at a time, invisible until it is completed. Each piece
carries its CRC-32, which the store compares; completing an upload repeats them and, where the store can, declares the
CRC-32 of the whole (see ``options``). Small objects are written, and all are read, by a ``LightClient``.
"""

import hashlib
import io
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread
from botocore.exceptions import BotoCoreError, ClientError

from exportd.model.errors import PermanentError, Reason, TransientError
from exportd.stores.layout import ObjectKey, content_type, metadata_of
from exportd.stores.s3.connector import LightClient, S3Connector
from exportd.stores.s3.errors import code_of, may_be_outdated, required, status_of, translated
from exportd.stores.s3.options import MAX_KEY_BYTES, MAX_PIECES, USUAL_PIECE_BYTES, S3Access, S3Options, decoded
from exportd.stores.store import ObjectInfo, Piece, StoreLimits, Upload, UploadGoneError, require_key

if TYPE_CHECKING:
    from aiobotocore.response import StreamingBody
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import ListMultipartUploadsOutputTypeDef, ListObjectsV2OutputTypeDef


T = TypeVar("T")

_READ_BYTES = 1 << 20
_MAX_LIGHT_BYTES = 1 << 20
_MAX_HASHED_AT_ONCE_BYTES = 64 << 10
"""Hashing up to this size takes less time than handing the work to a thread."""

MAX_REQUESTS = 20
"""How many requests one store sends at a time. It is more than the pieces in flight and the small files that are
published together.
"""

_COMPLETION_FACTOR = 5
"""Completing an upload may take this many times longer, because the store joins thousands of pieces first. AWS says
that it can take several minutes.
"""


class WatchedBody(io.BytesIO):
    """The body of a request. ``on_read`` is called whenever more of it is read, which means that the rest was sent.

    The HTTP library's own timeouts begin when the whole body was sent, so it would wait forever for a store that stops
    receiving. It reads a BytesIO in the event loop.
    """

    on_read: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._data = data

    def read(self, size: int | None = -1, /) -> bytes:
        self.on_read()
        return super().read(size)

    def getbuffer(self) -> memoryview:
        """A view of the data, whose length the HTTP library asks for. BytesIO would copy the data first."""
        return memoryview(self._data)


class S3Store:
    """A store in ``bucket``, reached with ``access``. It connects when it is first used.

    A request fails when the store neither answers nor receives more of it for ``answer_timeout_s``.
    """

    def __init__(
        self,
        bucket: str,
        access: S3Access,
        connector: S3Connector,
        *,
        options: S3Options | None = None,
        piece_bytes: int = USUAL_PIECE_BYTES,
        answer_timeout_s: float = 120.0,
    ) -> None:
        self._bucket = bucket
        self._access = access
        self._connector = connector
        self._options = options or S3Options()
        self.name = f"the bucket s3://{bucket}" + (f" at {access.endpoint}" if access.endpoint else "")
        self.limits = StoreLimits(piece_bytes=piece_bytes, max_pieces=MAX_PIECES)
        self._answer_timeout_s = answer_timeout_s
        self._stack = AsyncExitStack()
        self._client: S3Client | None = None
        self._light: LightClient | None = None
        self._connecting = anyio.Lock()
        self._requests = anyio.Semaphore(MAX_REQUESTS, fast_acquire=True)

    async def start(self, key: ObjectKey) -> Upload:
        self._check(key)

        async def begin(client: "S3Client") -> str:
            answer = await client.create_multipart_upload(
                Bucket=self._bucket,
                Key=key,
                ContentType=content_type(key),
                Metadata=metadata_of(key),  # the whole, and so its hash, is not known yet
                **self._options.of_start(),
                **self._options.of_encryption(),
            )
            return required(answer, "UploadId")

        # The store's own date of it comes with the list of uploads.
        return Upload(key, await self._call(begin, doing=f"starting {key}"))

    async def piece(self, upload: Upload, number: int, data: bytes) -> Piece:
        checksum = await anyio.to_thread.run_sync(zlib.crc32, data)
        declared = self._options.of_body(checksum)

        body = WatchedBody(data)

        async def send(client: "S3Client") -> str:
            answer = await client.upload_part(
                Bucket=self._bucket,
                Key=upload.key,
                UploadId=upload.id,
                PartNumber=number,
                Body=body,
                ContentLength=len(data),
                **declared,
            )
            return required(answer, "ETag")

        tag = await self._call(send, doing=f"uploading {upload.key}", upload=upload, body=body)
        return Piece(number, len(data), tag, checksum)

    async def pieces(self, upload: Upload) -> Sequence[Piece]:
        async def listed(client: "S3Client") -> list[Piece]:
            pages = client.get_paginator("list_parts").paginate(Bucket=self._bucket, Key=upload.key, UploadId=upload.id)
            return [
                Piece(part["PartNumber"], part["Size"], part["ETag"], decoded(part.get("ChecksumCRC32")))
                async for page in pages
                for part in page.get("Parts", ())
            ]

        found = await self._call(listed, doing=f"looking at the upload of {upload.key}", upload=upload)
        return [piece for piece in found if piece.size_bytes == self.limits.piece_bytes]

    def recognise(self, piece: Piece, data: bytes) -> Piece | None:
        """Compare by the checksum that the store has returned, else by the ETag, which is the MD5 unless KMS
        encrypts.
        """
        checksum = zlib.crc32(data)
        if piece.checksum is not None:
            same = piece.checksum == checksum
        else:
            same = piece.tag.strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest()
        return Piece(piece.number, piece.size_bytes, piece.tag, checksum) if same else None

    async def complete(self, upload: Upload, pieces: Sequence[Piece], tail: bytes) -> ObjectInfo:
        size_bytes = sum(piece.size_bytes for piece in pieces) + len(tail)

        async def complete(client: "S3Client", pieces: Sequence[Piece]) -> None:
            answer = await client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=upload.key,
                UploadId=upload.id,
                **self._options.of_completion(pieces),
            )
            required(answer, "ETag")

        try:
            last = await self.piece(upload, len(pieces) + 1, tail)
            await self._call(
                lambda client: complete(client, [*pieces, last]),
                doing=f"completing {upload.key}",
                upload=upload,
                timeout_s=self._answer_timeout_s * _COMPLETION_FACTOR,
            )
        except UploadGoneError:
            there = await self._head_if_allowed(upload.key)
            if not isinstance(there, ObjectInfo) or there.size_bytes != size_bytes:
                raise
            return there
        there = await self._head_if_allowed(upload.key)
        if there is None:
            # Some stores answer before the object is stored, and then lose it.
            raise TransientError(
                f"{self.name} says that {upload.key} is complete, and does not have it.",
                reason=Reason.DESTINATION_UNAVAILABLE,
            )
        return there if isinstance(there, ObjectInfo) else ObjectInfo(upload.key, size_bytes)

    async def abort(self, upload: Upload) -> None:
        try:
            await self._call(
                lambda client: client.abort_multipart_upload(Bucket=self._bucket, Key=upload.key, UploadId=upload.id),
                doing=f"aborting {upload.key}",
                upload=upload,
            )
        except UploadGoneError:
            return

    async def put(self, key: ObjectKey, data: bytes) -> ObjectInfo:
        self._check(key)
        if len(data) <= _MAX_HASHED_AT_ONCE_BYTES:
            arguments = self._arguments_of(key, data)
        else:
            arguments = await anyio.to_thread.run_sync(self._arguments_of, key, data)

        body = WatchedBody(data)

        async def put(client: "S3Client") -> None:
            light = self._light if len(data) <= _MAX_LIGHT_BYTES else None
            if light is not None and await light.write(key, data, arguments):
                return
            answer = await client.put_object(
                Bucket=self._bucket, Key=key, Body=body, ContentLength=len(data), **arguments
            )
            required(answer, "ETag")

        await self._call(put, doing=f"writing {key}", body=body)
        return ObjectInfo(key, len(data))

    def _arguments_of(self, key: ObjectKey, data: bytes) -> dict[str, Any]:
        """The arguments of a request for an object of these bytes."""
        return {
            "ContentType": content_type(key),
            "Metadata": metadata_of(key, data),
            **self._options.of_body(zlib.crc32(data)),
            **self._options.of_encryption(),
        }

    async def head(self, key: ObjectKey) -> ObjectInfo | None:
        self._check(key)
        try:
            answer = await self._call(
                lambda client: client.head_object(Bucket=self._bucket, Key=key), doing=f"looking at {key}"
            )
        except PermanentError as error:
            if error.reason is Reason.NOT_FOUND:
                return None
            raise
        return ObjectInfo(key, answer["ContentLength"], answer.get("LastModified"))

    async def read(self, key: ObjectKey) -> AsyncGenerator[bytes]:
        self._check(key)

        async def ask(client: "S3Client") -> "StreamingBody":
            content = None if self._light is None else await self._light.read(key)
            return (await client.get_object(Bucket=self._bucket, Key=key))["Body"] if content is None else content

        try:
            content = await self._call(ask, doing=f"reading {key}")
        except PermanentError as error:
            if error.reason is Reason.NOT_FOUND:
                raise PermanentError(f"There is no object {key} in {self.name}.", reason=Reason.NOT_FOUND) from error
            raise
        async with content as body:
            with translated(self.name, doing=f"reading {key}"):
                async for chunk in body.iter_chunks(_READ_BYTES):
                    yield chunk

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        token: dict[str, Any] = {}

        async def ask(client: "S3Client") -> "ListObjectsV2OutputTypeDef":
            return await client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **token)

        while True:
            page = await self._call(ask, doing="listing objects")
            for content in page.get("Contents", ()):
                yield ObjectInfo(ObjectKey(content["Key"]), content["Size"], content["LastModified"])
            if not page.get("IsTruncated"):
                return
            token["ContinuationToken"] = page["NextContinuationToken"]

    async def delete(self, key: ObjectKey) -> None:
        self._check(key)
        await self._call(lambda client: client.delete_object(Bucket=self._bucket, Key=key), doing=f"deleting {key}")

    async def list_uploads(self, prefix: str) -> AsyncIterator[Upload]:
        markers: dict[str, Any] = {}

        async def ask(client: "S3Client") -> "ListMultipartUploadsOutputTypeDef":
            return await client.list_multipart_uploads(Bucket=self._bucket, Prefix=prefix, **markers)

        while True:
            page = await self._call(ask, doing="listing uploads")
            for upload in page.get("Uploads", ()):
                # Not every store filters by prefix, and AWS's express buckets filter by folders.
                if upload["Key"].startswith(prefix):
                    yield Upload(ObjectKey(upload["Key"]), upload["UploadId"], upload.get("Initiated"))
            if not page.get("IsTruncated"):
                return
            markers |= {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    async def aclose(self) -> None:
        # Cleared first, so that a call during the closing opens a new one.
        stack, self._stack, self._client, self._light = self._stack, AsyncExitStack(), None, None
        await stack.aclose()

    async def _head_if_allowed(self, key: ObjectKey) -> ObjectInfo | PermanentError | None:
        """Look at the object. If looking is not allowed, returns the refusal, because a destination need only allow
        writing.
        """
        try:
            return await self.head(key)
        except PermanentError as error:
            return error

    async def _call(
        self,
        work: Callable[["S3Client"], Awaitable[T]],
        *,
        doing: str,
        upload: Upload | None = None,
        body: WatchedBody | None = None,
        timeout_s: float | None = None,
    ) -> T:
        timeout_s = timeout_s or self._answer_timeout_s
        with translated(self.name, doing=doing), anyio.fail_after(timeout_s) as scope:
            if body is not None:
                body.on_read = partial(_restart, scope, timeout_s)
            async with self._requests:
                client = await self._connected()
                try:
                    return await work(client)
                except (ClientError, BotoCoreError, OSError) as error:
                    if may_be_outdated(error):
                        await self._disconnect(client)
                    if upload is not None and isinstance(error, ClientError) and _says_that_it_is_gone(error):
                        raise UploadGoneError(upload, self.name) from error
                    raise

    async def _connected(self) -> "S3Client":
        async with self._connecting:
            if self._client is None:
                self._client = await self._connector.client(self._access, stack=self._stack)
                self._light = LightClient(self._client, self._bucket)
            return self._client

    async def _disconnect(self, client: "S3Client") -> None:
        """Load credentials and certificates again before the next request."""
        if client is self._client:
            self._connector.forget(self._access, client)
            await self.aclose()

    def _check(self, key: ObjectKey) -> None:
        require_key(key, store=self.name)
        if len(key.encode()) > MAX_KEY_BYTES:
            raise PermanentError(
                f"{self.name}: {key!r} is not a key of S3: it has more than {MAX_KEY_BYTES} bytes. Choose a "
                "shorter `prefix`.",
                reason=Reason.DESTINATION_REFUSED,
            )


def _says_that_it_is_gone(error: ClientError) -> bool:
    """Whether the upload is gone. Some stores say instead that there is no such key."""
    return status_of(error) == 404 and code_of(error) != "NoSuchBucket"


def _restart(scope: anyio.CancelScope, timeout_s: float) -> None:
    scope.deadline = anyio.current_time() + timeout_s
