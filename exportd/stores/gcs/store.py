"""Delivers to a bucket of Google Cloud Storage.

An upload is a resumable upload (``uploader``): pieces in their order, invisible until the last one completes the
object. Its id is its own address, which grants access to it. Google compares the CRC-32C of the whole before it creates
the object. The daemon compares it again afterwards, and removes an object that differs.

Each object is written with ``ifGenerationMatch``: only if there is no object yet, or if it is still the one that was
looked at. So a request that arrives late does not replace another writer's object. If looking is not allowed
(roles/storage.objectCreator alone), objects are created but never replaced.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from uuid import uuid4

import google_crc32c

from exportd.model.errors import ExportdError, InvariantError, PermanentError, Reason, TransientError
from exportd.stores.crc_combination import Polynomial, combine
from exportd.stores.gcs.answers import (
    GOOGLE,
    MAX_KEY_BYTES,
    Content,
    GcsAddresses,
    GcsAnswer,
    StoredObject,
    metadata,
    multipart,
)
from exportd.stores.gcs.errors import is_missing_bucket, is_precondition
from exportd.stores.gcs.identity import GcsIdentity
from exportd.stores.gcs.requester import GcsConnector, GcsRequest, GcsRequester, GcsTokens
from exportd.stores.gcs.uploader import QUANTUM_BYTES, GcsUploader, whole_pieces
from exportd.stores.layout import ObjectKey, content_type
from exportd.stores.store import ObjectInfo, Piece, StoreLimits, Upload, UploadGoneError, require_key

MAX_OBJECT_BYTES = 5 << 40
_USUAL_PIECE_BYTES = 8 << 20
_MAX_OVERTAKEN = 3
_NOTHING = 0
"""The generation that stands for no object."""


class GcsStore:
    """A store in ``bucket``, written to as ``identity``. It connects when it is first used.

    ``endpoint`` is that of an emulator, empty for Google. ``tokens`` are shared with other stores. ``piece_bytes`` is a
    multiple of 256 KiB. A request fails when nothing moves in it for ``stall_timeout_s``.
    """

    def __init__(
        self,
        bucket: str,
        identity: GcsIdentity,
        *,
        endpoint: str = "",
        tokens: GcsTokens | None = None,
        piece_bytes: int = _USUAL_PIECE_BYTES,
        stall_timeout_s: float = 60.0,
    ) -> None:
        if piece_bytes <= 0 or piece_bytes % QUANTUM_BYTES:
            raise ValueError(f"pieces of {piece_bytes} bytes are no multiple of {QUANTUM_BYTES}")
        self.name = f"the bucket gs://{bucket}"
        self._addresses = GcsAddresses(bucket, endpoint.rstrip("/") or GOOGLE)
        self.limits = StoreLimits(
            piece_bytes=piece_bytes,
            max_pieces=MAX_OBJECT_BYTES // piece_bytes,
            pieces_in_order=True,
            lists_uploads=False,
        )
        self._connector = GcsConnector(identity, bucket=bucket, tokens=tokens)
        self._requester = GcsRequester(self._connector, bucket=bucket, stall_timeout_s=stall_timeout_s)
        self._uploader = GcsUploader(self._requester, name=self.name)
        self._unanswered: dict[ObjectKey, Content] = {}
        """The content of requests that got no answer, by key: the object may exist."""

    async def start(self, key: ObjectKey) -> Upload:
        self._check(key)
        generation = _NOTHING
        for _ in range(_MAX_OVERTAKEN):
            request = self._creation(
                f"starting {key}",
                self._addresses.upload(uploadType="resumable", name=key, ifGenerationMatch=generation),
                {"Content-Type": "application/json; charset=UTF-8", "X-Upload-Content-Type": content_type(key)},
                (metadata(key),),
            )
            answer = await self._requester.send(request)
            if is_precondition(answer):
                there = await self._in_the_way(key)
                generation = _NOTHING if there is None else there.generation
                continue
            if answer.status not in {200, 201} or not answer.location:
                raise self._requester.refusal(answer, request)
            upload = Upload(key, answer.location, datetime.now(UTC))
            self._uploader.began(upload)
            return upload
        raise self._overtaken(key)

    async def piece(self, upload: Upload, number: int, data: bytes) -> Piece:
        await self._uploader.send(upload, data, begin=(number - 1) * self.limits.piece_bytes)
        return _piece(number, data)

    async def pieces(self, upload: Upload) -> Sequence[Piece]:
        state = await self._uploader.state(upload)
        # A complete one's last piece goes to ``complete``, which finds the object.
        committed = state.size_bytes - 1 if isinstance(state, StoredObject) else state
        count = whole_pieces(committed, self.limits.piece_bytes)
        return [Piece(number, self.limits.piece_bytes) for number in range(1, count + 1)]

    def recognise(self, piece: Piece, data: bytes) -> Piece | None:
        """Always returns the piece, because Google reports how much has arrived, not what. ``complete`` compares the
        whole.
        """
        return _piece(piece.number, data)

    async def complete(self, upload: Upload, pieces: Sequence[Piece], tail: bytes) -> ObjectInfo:
        content = _content([*pieces, _piece(len(pieces) + 1, tail)])
        try:
            stored = await self._uploader.finish(upload, tail, content)
        except UploadGoneError:
            there = await self._look_if_allowed(upload.key)
            if there is None or not content.matches(there):
                raise
            return there.info
        if not content.matches(stored):
            doing = f"deleting {upload.key}, which was damaged on its way"
            await self._delete(upload.key, doing=doing, generation=stored.generation)
            raise UploadGoneError(upload, self.name)
        return stored.info

    async def abort(self, upload: Upload) -> None:
        await self._uploader.abort(upload)

    async def put(self, key: ObjectKey, data: bytes) -> ObjectInfo:
        self._check(key)
        content = _content([_piece(1, data)])
        info = await self._put(key, data, content, may_be_there=self._unanswered.get(key) == content)
        self._unanswered.pop(key, None)
        return info

    async def head(self, key: ObjectKey) -> ObjectInfo | None:
        self._check(key)
        stored = await self._look(key, doing=f"looking at {key}")
        return None if stored is None else stored.info

    async def read(self, key: ObjectKey) -> AsyncGenerator[bytes]:
        self._check(key)
        request = GcsRequest(
            "GET", self._addresses.object(key, alt="media"), doing=f"reading {key}", permission="storage.objects.get"
        )

        def refusal(answer: GcsAnswer) -> ExportdError:
            if answer.status == 404 and not is_missing_bucket(answer):
                return PermanentError(f"There is no object {key} in {self.name}.", reason=Reason.NOT_FOUND)
            return self._requester.refusal(answer, request)

        async for chunk in self._requester.stream(request, refusal=refusal):
            yield chunk

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        query = {"prefix": prefix, "fields": "items(name,size,generation,updated),nextPageToken"}
        while True:
            request = GcsRequest(
                "GET", self._addresses.objects(**query), doing="listing objects", permission="storage.objects.list"
            )
            answer = await self._requester.send(request)
            if answer.status != 200:
                raise self._requester.refusal(answer, request)
            for item in answer.document.get("items", ()):
                yield self._stored(item, request).info
            page = answer.document.get("nextPageToken")
            if not page:
                return
            query["pageToken"] = str(page)

    async def delete(self, key: ObjectKey) -> None:
        self._check(key)
        await self._delete(key, doing=f"deleting {key}")

    async def list_uploads(self, prefix: str) -> AsyncIterator[Upload]:
        """Always empty: Google has no list of uploads, and drops them after a week."""
        none: tuple[Upload, ...] = ()
        for upload in none:
            yield upload

    async def aclose(self) -> None:
        await self._connector.close()

    async def _put(self, key: ObjectKey, data: bytes, content: Content, *, may_be_there: bool) -> ObjectInfo:
        """Put an object. With ``may_be_there`` an earlier call has sent the same content and got no answer."""
        boundary = uuid4().hex
        body = multipart(metadata(key, content.checksum, data), data, content_type(key), boundary)
        headers = {"Content-Type": f"multipart/related; boundary={boundary}"}
        generation = _NOTHING
        for _ in range(_MAX_OVERTAKEN):
            url = self._addresses.upload(uploadType="multipart", name=key, ifGenerationMatch=generation)
            request = self._creation(f"writing {key}", url, headers, body)
            self._unanswered[key] = content
            answer = await self._requester.send(request)
            if not may_be_there:
                del self._unanswered[key]
            if answer.status in {200, 201}:
                return self._stored(answer.document, request).info
            if not is_precondition(answer):
                raise self._requester.refusal(answer, request)
            try:
                there = await self._in_the_way(key)
            except PermanentError:
                if may_be_there:
                    # Looking is not allowed. No other writer uses this key, so the object is that of the earlier call.
                    return ObjectInfo(key, content.size_bytes)
                raise
            if there is not None and content.matches(there):
                return there.info
            generation = _NOTHING if there is None else there.generation
        raise self._overtaken(key)

    async def _in_the_way(self, key: ObjectKey) -> StoredObject | None:
        return await self._look(key, doing=f"looking at {key}, which is there already and would be replaced")

    async def _look(self, key: ObjectKey, *, doing: str) -> StoredObject | None:
        request = GcsRequest("GET", self._addresses.object(key), doing=doing, permission="storage.objects.get")
        answer = await self._requester.send(request)
        if answer.status == 404 and not is_missing_bucket(answer):
            return None
        if answer.status != 200:
            raise self._requester.refusal(answer, request)
        return self._stored(answer.document, request)

    async def _look_if_allowed(self, key: ObjectKey) -> StoredObject | None:
        try:
            return await self._look(key, doing=f"looking at {key}")
        except PermanentError:
            return None

    async def _delete(self, key: ObjectKey, *, doing: str, generation: int | None = None) -> None:
        query = {} if generation is None else {"generation": generation}
        request = GcsRequest(
            "DELETE",
            self._addresses.object(key, **query),
            doing=doing,
            permission="storage.objects.delete",
        )
        answer = await self._requester.send(request)
        if answer.status >= 300 and (answer.status != 404 or is_missing_bucket(answer)):
            raise self._requester.refusal(answer, request)

    def _creation(self, doing: str, url: str, headers: Mapping[str, str], body: Sequence[bytes]) -> GcsRequest:
        return GcsRequest("POST", url, doing=doing, permission="storage.objects.create", headers=headers, body=body)

    def _stored(self, document: Mapping[str, object], request: GcsRequest) -> StoredObject:
        try:
            return StoredObject.of(document)
        except ValueError as error:
            raise self._requester.foreign(error, request) from error

    def _overtaken(self, key: ObjectKey) -> TransientError:
        return TransientError(
            f"Another program makes and removes {key} in {self.name} all the time: find it, and keep it from this key.",
            reason=Reason.DESTINATION_UNAVAILABLE,
        )

    def _check(self, key: ObjectKey) -> None:
        require_key(key, store=self.name)
        size_bytes = len(key.encode())
        if size_bytes > MAX_KEY_BYTES:
            raise PermanentError(
                f"{self.name}: the key {key} has {size_bytes} bytes, and {MAX_KEY_BYTES} are allowed. Choose a "
                "shorter `prefix`.",
                reason=Reason.DESTINATION_REFUSED,
            )


def _piece(number: int, data: bytes) -> Piece:
    """On the event loop: 16 MiB take 2 ms."""
    return Piece(number, len(data), checksum=google_crc32c.value(data))


def _content(pieces: Sequence[Piece]) -> Content:
    """The content that the pieces have together."""
    checksums: list[tuple[int, int]] = []
    for number, piece in enumerate(sorted(pieces, key=lambda piece: piece.number), start=1):
        if piece.number != number or piece.checksum is None:
            raise InvariantError("an upload needs all its pieces, each sent or recognised")
        checksums.append((piece.checksum, piece.size_bytes))
    return Content(sum(size_bytes for _, size_bytes in checksums), combine(checksums, Polynomial.CRC32C))
