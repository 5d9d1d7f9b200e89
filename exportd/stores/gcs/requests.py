"""The addresses and bodies of requests to the JSON API of Google Cloud Storage. Pure."""

import json
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from exportd.stores.gcs.answers import encoded_checksum
from exportd.stores.layout import ObjectKey

GOOGLE = "https://storage.googleapis.com"
LONGEST_KEY_BYTES = 1024

_CONTENT_TYPES = {"gz": "application/gzip", "json": "application/json"}


@dataclass(frozen=True, slots=True)
class GcsAddresses:
    """Those of one bucket; ``endpoint`` is Google's, or an emulator's."""

    bucket: str
    endpoint: str = GOOGLE

    def upload(self, **query: str | int) -> str:
        """Where an upload begins."""
        return f"{self.endpoint}/upload/storage/v1/b/{quote(self.bucket, safe='')}/o?{urlencode(query)}"

    def objects(self, **query: str | int) -> str:
        """The list of objects."""
        return f"{self.endpoint}/storage/v1/b/{quote(self.bucket, safe='')}/o?{urlencode(query)}"

    def object(self, key: ObjectKey, **query: str | int) -> str:
        """One object."""
        path = f"{self.endpoint}/storage/v1/b/{quote(self.bucket, safe='')}/o/{quote(key, safe='')}"
        return f"{path}?{urlencode(query)}" if query else path


def content_type(key: ObjectKey) -> str:
    return _CONTENT_TYPES.get(key.rpartition(".")[2], "application/octet-stream")


def metadata(key: ObjectKey, checksum: int | None = None) -> bytes:
    """What an object is called and holds, as the JSON API takes it. With a checksum Google refuses other content."""
    document = {"name": key, "contentType": content_type(key)}
    if checksum is not None:
        document["crc32c"] = encoded_checksum(checksum)
    return json.dumps(document).encode("utf-8")


def multipart(description: bytes, data: bytes, media_type: str, boundary: str) -> tuple[bytes, ...]:
    """The body of an upload in one request, in pieces that are sent one after the other; ``boundary`` occurs in none.

    ``data`` stays the object that it is: copying it would double what is held in memory.
    """
    head = f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode("ascii")
    middle = f"\r\n--{boundary}\r\nContent-Type: {media_type}\r\n\r\n".encode("ascii")
    return head + description + middle, data, f"\r\n--{boundary}--\r\n".encode("ascii")
