"""Destinations of the tests, and what was delivered to them, read without exportd's stores."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import aiohttp
from yarl import URL

from exportd.stores.directory.store import DirectoryStore
from exportd.stores.gcs.identity import Anonymous
from exportd.stores.gcs.store import GcsStore
from exportd.stores.gcs.uploader import QUANTUM_BYTES
from exportd.stores.store import Store
from tests.acceptance.delivered_files import DeliveredFiles
from tests.fixtures.daemon import leftovers
from tests.fixtures.gcs_server import GcsServer
from tests.fixtures.s3 import S3Account
from tests.fixtures.stores import s3_store


class AnyDestination(Protocol):
    """A destination of some kind."""

    def open(self) -> Store:
        """exportd's store for it."""
        ...

    async def delivered(self) -> DeliveredFiles:
        """The files that its consumers see."""
        ...

    async def leftovers(self) -> set[str]:
        """Unfinished uploads, which consumers do not see and exportd will not finish."""
        ...


@dataclass(frozen=True)
class LocalDirectory:
    """A directory. Pieces are small, so that most files have some."""

    path: Path

    def open(self) -> Store:
        return DirectoryStore(self.path, piece_bytes=50)

    async def delivered(self) -> DeliveredFiles:
        return DeliveredFiles.of(self.path)

    async def leftovers(self) -> set[str]:
        return {str(leftover) for leftover in leftovers(self.path, self.path)}


@dataclass(frozen=True)
class S3Bucket:
    """A bucket of S3. An object is read again when its tag, size or time is another."""

    account: S3Account
    name: str
    _read: dict[tuple[str, str, int, datetime], bytes] = field(default_factory=dict, repr=False, compare=False)

    def open(self) -> Store:
        return s3_store(self.account, self.name)

    async def delivered(self) -> DeliveredFiles:
        objects = {}
        async with self.account.client() as client:
            async for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.name):
                for content in page.get("Contents", ()):
                    version = (content["Key"], content["ETag"], content["Size"], content["LastModified"])
                    if version not in self._read:
                        answer = await client.get_object(Bucket=self.name, Key=content["Key"])
                        self._read[version] = await answer["Body"].read()
                    objects[content["Key"]] = self._read[version]
        return DeliveredFiles(objects)

    async def leftovers(self) -> set[str]:
        async with self.account.client() as client:
            page = await client.list_multipart_uploads(Bucket=self.name)
        return {upload["Key"] for upload in page.get("Uploads", ())}


@dataclass(frozen=True)
class GcsBucket:
    """A bucket of Google Cloud Storage. Its pieces are of 256 KiB, the smallest there are.

    An object is read again when its checksum, size or time is another.
    """

    server: GcsServer
    name: str
    _read: dict[tuple[str, str, str, str], bytes] = field(default_factory=dict, repr=False, compare=False)

    def open(self) -> Store:
        return GcsStore(self.name, Anonymous(), endpoint=self.server.endpoint, piece_bytes=QUANTUM_BYTES)

    async def delivered(self) -> DeliveredFiles:
        objects = {}
        async with aiohttp.ClientSession(self.server.endpoint) as http:
            async with http.get(f"/storage/v1/b/{self.name}/o") as answer:
                listed = await answer.json()
            for item in listed.get("items", ()):
                version = (item["name"], item["crc32c"], item["size"], item["updated"])
                if version not in self._read:
                    path = f"/download/storage/v1/b/{self.name}/o/{quote(item['name'], safe='')}?alt=media"
                    async with http.get(URL(path, encoded=True)) as answer:
                        self._read[version] = await answer.read()
                objects[item["name"]] = self._read[version]
        return DeliveredFiles(objects)

    async def leftovers(self) -> set[str]:
        """Always empty: GCS cannot list unfinished uploads. Other tests look at those that exportd recorded."""
        return set()
