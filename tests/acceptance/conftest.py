"""A shop and a site for each test."""

from pathlib import Path

import pytest

from tests.acceptance.destinations import GcsLake, S3Lake
from tests.acceptance.sample_application import Shop
from tests.fixtures.daemon import Site
from tests.fixtures.gcs_server import GcsServer
from tests.fixtures.stores import give_credentials
from tests.fixtures.swift import SwiftServer


@pytest.fixture
async def shop(site: Site) -> Shop:
    """The application's database, opened and not yet captured."""
    shop = Shop(await site.database.connect())
    await shop.open()
    return shop


@pytest.fixture
def s3_lake(swift: SwiftServer, swift_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Lake:
    """An empty bucket; the environment, also a daemon's, has the credentials for it."""
    give_credentials(swift, tmp_path, monkeypatch)
    return S3Lake(swift, swift_bucket)


@pytest.fixture
def gcs_lake(gcs: GcsServer, gcs_bucket: str) -> GcsLake:
    """An empty bucket of Google Cloud Storage."""
    return GcsLake(gcs, gcs_bucket)
