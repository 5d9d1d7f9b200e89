"""The sample application and empty destinations, for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from exportd.postgres.postgres_server import PostgresServer
from tests.acceptance.destinations import GcsBucket, S3Bucket
from tests.acceptance.sample_application import Application
from tests.acceptance.shared_console import SharedConsole, shared_console_on
from tests.fixtures.daemon import Site
from tests.fixtures.gcs_server import GcsServer
from tests.fixtures.stores import give_credentials
from tests.fixtures.swift import SwiftServer


@pytest.fixture
async def application(site: Site) -> Application:
    """The application's database, opened and not yet captured."""
    application = Application(await site.database.connect())
    await application.open()
    return application


@pytest.fixture
def empty_s3_bucket(swift: SwiftServer, swift_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Bucket:
    """An empty bucket; the environment, also a daemon's, has the credentials for it."""
    give_credentials(swift, tmp_path, monkeypatch)
    return S3Bucket(swift, swift_bucket)


@pytest.fixture
def empty_gcs_bucket(gcs: GcsServer, gcs_bucket: str) -> GcsBucket:
    """An empty bucket of Google Cloud Storage."""
    return GcsBucket(gcs, gcs_bucket)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_console(
    newest_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[SharedConsole]:
    """Of all tests of a file, which run in its loop."""
    async with shared_console_on(newest_server, tmp_path_factory.mktemp("site")) as shared:
        yield shared
