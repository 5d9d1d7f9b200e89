"""Sends a resumable upload to Google: chunks in their order, to the upload's own address.

After each chunk Google says how much it has kept, which may be less than was sent; the rest is sent again. When an
answer is lost, Google is asked before more is sent. Nothing is visible before the chunk that completes the object.

Ranges of bytes are half open here, ``begin`` to ``end``; in the headers they include the last byte.
"""

import re

from exportd.model.errors import InvariantError, Reason, TransientError
from exportd.stores.gcs.answers import Content, GcsAnswer, StoredObject, encoded_checksum
from exportd.stores.gcs.errors import is_damage, is_precondition
from exportd.stores.gcs.requester import GcsRequest, GcsRequester
from exportd.stores.store import Upload, UploadGoneError

QUANTUM_BYTES = 256 << 10
"""Google keeps multiples of this size, except in the last chunk."""

WHAT_IS_IN = "bytes */*"
"""The Content-Range of a request without a body that asks how much has arrived."""

_RANGE = re.compile(r"bytes=0-([0-9]{1,15})")
_GONE = {404, 410, 499}
_MAX_FRUITLESS = 3


class OvertakenError(UploadGoneError):
    """Another writer has created, replaced or removed the object meanwhile, so this upload cannot be completed any
    more.
    """


class GcsUploader:
    """``name`` is the store's, for sentences."""

    def __init__(self, requester: GcsRequester, *, name: str) -> None:
        self._requester = requester
        self._name = name
        self._committed: dict[str, int] = {}
        """How many bytes of an upload have arrived, by its id, while that is certain."""
        self._aborted: set[str] = set()
        """The ids of aborted uploads that the server, an emulator, cannot abort."""

    def began(self, upload: Upload) -> None:
        """Record that the upload was just started and has no bytes yet."""
        self._committed[upload.id] = 0

    async def send(self, upload: Upload, data: bytes, *, begin: int) -> None:
        """Upload the bytes from ``begin`` on, unless they have arrived already. Raises UploadGoneError, also when bytes
        before them are missing.
        """
        await self._transmit(upload, data, begin=begin)

    async def finish(self, upload: Upload, tail: bytes, content: Content) -> StoredObject:
        """Upload the last bytes. Returns the object that became visible by this call or an earlier one.

        The caller compares its content. Raises UploadGoneError.
        """
        found = await self._transmit(upload, tail, begin=content.size_bytes - len(tail), content=content)
        if found is None:
            raise InvariantError("the last chunk makes an object or fails")
        return found

    async def state(self, upload: Upload) -> int | StoredObject:
        """How many bytes have arrived, or the object if it is complete. Raises UploadGoneError."""
        if upload.id in self._aborted:
            raise UploadGoneError(upload, self._name)
        request = self._request(upload, f"asking what is in of {upload.key}", {"Content-Range": WHAT_IS_IN})
        return self._understood(upload, request, await self._requester.send(request))

    async def abort(self, upload: Upload) -> None:
        """Abort the upload; one that is gone or complete is fine."""
        self._committed.pop(upload.id, None)
        request = self._request(upload, f"aborting {upload.key}", {}, method="DELETE")
        answer = await self._requester.send(request)
        if answer.status == 501:
            self._aborted.add(upload.id)
        elif answer.status >= 500 or answer.status in {408, 429}:
            # Google answers 499 when it has aborted the upload, and other 4xx when there is nothing to abort.
            raise self._requester.refusal(answer, request)

    async def _transmit(
        self, upload: Upload, data: bytes, *, begin: int, content: Content | None = None
    ) -> StoredObject | None:
        """Send the part of ``data`` that has not arrived; with ``content``, complete the object. Returns the object if
        it is complete.
        """
        end = begin + len(data)
        # Unknown until the next answer. After an error or a cancellation it stays unknown.
        known = self._committed.pop(upload.id, None)
        state = await self.state(upload) if known is None else known
        fruitless = 0
        while not isinstance(state, StoredObject):
            if state < begin or (content is not None and state > end):
                # The server has lost bytes, or the upload belongs to another writer.
                raise UploadGoneError(upload, self._name)
            if state >= end and content is None:
                self._committed[upload.id] = state
                return None
            if fruitless > _MAX_FRUITLESS:
                raise TransientError(
                    f"{self._name} takes nothing more of {upload.key} after byte {state}.",
                    reason=Reason.DESTINATION_UNAVAILABLE,
                )
            before, state = state, await self._send_chunk(upload, data, begin, state, content)
            if not isinstance(state, StoredObject):
                fruitless = 0 if state > before else fruitless + 1
        return state

    async def _send_chunk(
        self, upload: Upload, data: bytes, begin: int, offset: int, content: Content | None
    ) -> int | StoredObject:
        end = begin + len(data)
        if content is None:
            headers = {"Content-Range": content_range(offset, end)}
        else:
            # Where the last bytes do not fit the checksum, Google refuses to make the object.
            checksum = encoded_checksum(content.checksum)
            headers = {
                "Content-Range": content_range(offset, end, content.size_bytes),
                "X-Goog-Hash": f"crc32c={checksum}",
            }
        request = self._request(upload, f"uploading {upload.key}", headers, body=memoryview(data)[offset - begin :])
        return self._understood(upload, request, await self._requester.send(request))

    def _request(
        self,
        upload: Upload,
        doing: str,
        headers: dict[str, str],
        *,
        method: str = "PUT",
        body: memoryview | None = None,
    ) -> GcsRequest:
        return GcsRequest(
            method,
            upload.id,
            doing=doing,
            permission="storage.objects.create",
            headers=headers,
            body=() if body is None else (body,),
            is_session=True,
        )

    def _understood(self, upload: Upload, request: GcsRequest, answer: GcsAnswer) -> int | StoredObject:
        """Read an answer: how much of the upload has arrived, or the object that it has become."""
        try:
            if answer.status == 308:
                return committed_bytes(answer.range)
            if answer.status in {200, 201}:
                return StoredObject.of(answer.document)
        except ValueError as error:
            raise self._requester.foreign(error, request) from error
        if answer.status in _GONE or is_damage(answer):
            raise UploadGoneError(upload, self._name)
        if is_precondition(answer):
            raise OvertakenError(upload, self._name)
        raise self._requester.refusal(answer, request)


def content_range(begin: int, end: int, total: int | None = None) -> str:
    """The Content-Range of a chunk. ``total`` is the size of the whole object in the last chunk, None before.

    The last chunk may be empty, if everything has arrived but the object is not complete yet.
    """
    span = f"{begin}-{end - 1}" if end > begin else "*"
    return f"bytes {span}/{'*' if total is None else total}"


def committed_bytes(header: str | None) -> int:
    """How many bytes have arrived, by the Range header of an answer 308, which has none at first.

    Only whole quanta count: bytes that are sent again are ignored by Google, but bytes left out would be missing.
    Raises ValueError for any other header.
    """
    if header is None:
        return 0
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        raise ValueError("it is no range from byte 0")
    return (int(match[1]) + 1) // QUANTUM_BYTES * QUANTUM_BYTES


def whole_pieces(committed: int, piece_bytes: int) -> int:
    """How many pieces have arrived completely."""
    return committed // piece_bytes
