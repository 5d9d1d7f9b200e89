"""Destinations of the tests, and what lies in them, seen without exportd's stores."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from exportd.stores.directory_store import DirectoryStore
from exportd.stores.store import Store
from tests.acceptance.bucket import Bucket
from tests.fixtures.daemon import leftovers
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
        return {str(each) for each in leftovers(self.path, self.path)}


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
                for each in page.get("Contents", ()):
                    answer = await client.get_object(Bucket=self.name, Key=each["Key"])
                    objects[each["Key"]] = await answer["Body"].read()
        return Bucket(objects)

    async def leftovers(self) -> set[str]:
        async with self.account.client() as client:
            page = await client.list_multipart_uploads(Bucket=self.name)
        return {each["Key"] for each in page.get("Uploads", ())}
