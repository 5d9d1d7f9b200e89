"""Destinations of the tests, and what lies in them, seen without exportd's stores."""

from dataclasses import dataclass
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
from tests.acceptance.delivered_files import Bucket
from tests.fixtures.daemon import leftovers
from tests.fixtures.gcs_server import GcsServer
from tests.fixtures.s3 import S3Account
from tests.fixtures.stores import s3_store


class Lake(Protocol):
    """A destination of some kind."""

    def open(self) -> Store:
        """exportd's way there."""
        ...

    async def bucket(self) -> Bucket:
        """What its consumers see."""
        ...

    async def leftovers(self) -> set[str]:
        """What consumers do not see and nobody will use any more."""
        ...


@dataclass(frozen=True)
class DirectoryLake:
    """A directory. Pieces are small, so that most files have some."""

    path: Path

    def open(self) -> Store:
        return DirectoryStore(self.path, piece_bytes=50)

    async def bucket(self) -> Bucket:
        return Bucket.of(self.path)

    async def leftovers(self) -> set[str]:
        return {str(leftover) for leftover in leftovers(self.path, self.path)}


@dataclass(frozen=True)
class S3Lake:
    """A bucket of S3."""

    account: S3Account
    name: str

    def open(self) -> Store:
        return s3_store(self.account, self.name)

    async def bucket(self) -> Bucket:
        objects = {}
        async with self.account.client() as client:
            async for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.name):
                for content in page.get("Contents", ()):
                    answer = await client.get_object(Bucket=self.name, Key=content["Key"])
                    objects[content["Key"]] = await answer["Body"].read()
        return Bucket(objects)

    async def leftovers(self) -> set[str]:
        async with self.account.client() as client:
            page = await client.list_multipart_uploads(Bucket=self.name)
        return {upload["Key"] for upload in page.get("Uploads", ())}


@dataclass(frozen=True)
class GcsLake:
    """A bucket of Google Cloud Storage. Its pieces are of 256 KiB, the smallest there are."""

    server: GcsServer
    name: str

    def open(self) -> Store:
        return GcsStore(self.name, Anonymous(), endpoint=self.server.endpoint, piece_bytes=QUANTUM_BYTES)

    async def bucket(self) -> Bucket:
        objects = {}
        async with aiohttp.ClientSession(self.server.endpoint) as http:
            async with http.get(f"/storage/v1/b/{self.name}/o") as answer:
                listed = await answer.json()
            for item in listed.get("items", ()):
                path = f"/download/storage/v1/b/{self.name}/o/{quote(item['name'], safe='')}?alt=media"
                async with http.get(URL(path, encoded=True)) as answer:
                    objects[item["name"]] = await answer.read()
        return Bucket(objects)

    async def leftovers(self) -> set[str]:
        """None that could be seen: nobody can list them. What is written down of them is looked at elsewhere."""
        return set()
