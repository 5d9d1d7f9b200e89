"""The JSON API of Google Cloud Storage: its answers, the objects they describe, and the addresses and bodies of
requests. Pure.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from exportd.stores.layout import ObjectKey, content_type, metadata_of
from exportd.stores.store import ObjectInfo

GOOGLE = "https://storage.googleapis.com"
MAX_KEY_BYTES = 1024


@dataclass(frozen=True, slots=True)
class GcsAnswer:
    """An answer that was read to its end, with the headers that are used.

    ``location`` is an upload's own address, a secret. ``request_id`` is for Google's support.
    """

    status: int
    body: bytes = field(default=b"", repr=False)
    range: str | None = None
    location: str | None = field(default=None, repr=False)
    retry_after: str = ""
    request_id: str | None = None

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object in the body; empty when there is none."""
        try:
            document = json.loads(self.body)
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as Google describes it. ``generation`` identifies this content of the key."""

    key: ObjectKey
    size_bytes: int
    generation: int
    checksum: int | None = None
    modified_at: datetime | None = None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "StoredObject":
        """Read an object resource of the JSON API. Raises ValueError for anything else."""
        try:
            checksum = document.get("crc32c")
            modified_at = document.get("updated")
            return cls(
                key=ObjectKey(document["name"]),
                size_bytes=int(document["size"]),
                generation=int(document["generation"]),
                checksum=None if checksum is None else decoded_checksum(checksum),
                modified_at=None if modified_at is None else datetime.fromisoformat(modified_at),
            )
        except (KeyError, TypeError) as error:
            raise ValueError("it does not describe an object") from error

    @property
    def info(self) -> ObjectInfo:
        return ObjectInfo(self.key, self.size_bytes, self.modified_at)


@dataclass(frozen=True, slots=True)
class Content:
    """The content that an object should have: its size and its CRC-32C."""

    size_bytes: int
    checksum: int

    def matches(self, stored: StoredObject) -> bool:
        return (stored.size_bytes, stored.checksum) == (self.size_bytes, self.checksum)


def encoded_checksum(checksum: int) -> str:
    """A CRC-32C as Google writes it: its four bytes, the highest first, in base64."""
    return base64.b64encode(checksum.to_bytes(4, "big")).decode("ascii")


def decoded_checksum(text: str) -> int:
    """Raises ValueError for what is no CRC-32C."""
    checksum = base64.b64decode(text, validate=True)
    if len(checksum) != 4:
        raise ValueError("a CRC-32C has four bytes")
    return int.from_bytes(checksum, "big")


@dataclass(frozen=True, slots=True)
class GcsAddresses:
    """The addresses of one bucket. ``endpoint`` is Google's, or an emulator's."""

    bucket: str
    endpoint: str = GOOGLE

    def upload(self, **query: str | int) -> str:
        """The address at which an upload is started."""
        return f"{self.endpoint}/upload/storage/v1/b/{quote(self.bucket, safe='')}/o?{urlencode(query)}"

    def objects(self, **query: str | int) -> str:
        """The address of the list of objects."""
        return f"{self.endpoint}/storage/v1/b/{quote(self.bucket, safe='')}/o?{urlencode(query)}"

    def object(self, key: ObjectKey, **query: str | int) -> str:
        """The address of one object."""
        path = f"{self.endpoint}/storage/v1/b/{quote(self.bucket, safe='')}/o/{quote(key, safe='')}"
        return f"{path}?{urlencode(query)}" if query else path


def metadata(key: ObjectKey, checksum: int | None = None, content: bytes | None = None) -> bytes:
    """An object's name, type and metadata, as the JSON API takes them.

    With a checksum Google refuses other content. ``content`` is the whole object's, if it is known.
    """
    document: dict[str, object] = {"name": key, "contentType": content_type(key), "metadata": metadata_of(key, content)}
    if checksum is not None:
        document["crc32c"] = encoded_checksum(checksum)
    return json.dumps(document).encode("utf-8")


def multipart(description: bytes, data: bytes, media_type: str, boundary: str) -> tuple[bytes, ...]:
    """The body of an upload in one request, in pieces that are sent one after the other; ``boundary`` occurs in none.

    ``data`` is not copied, which would double the memory.
    """
    head = f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode("ascii")
    middle = f"\r\n--{boundary}\r\nContent-Type: {media_type}\r\n\r\n".encode("ascii")
    return head + description + middle, data, f"\r\n--{boundary}--\r\n".encode("ascii")
