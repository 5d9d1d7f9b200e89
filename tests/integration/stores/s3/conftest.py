from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.fixtures.fault_proxy import FaultProxy
from tests.fixtures.moto import MotoServer
from tests.fixtures.stores import give_credentials
from tests.integration.stores.s3.watched_account import WatchedAccount


@pytest.fixture
async def account(moto: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WatchedAccount]:
    give_credentials(moto, tmp_path, monkeypatch)
    for name in ("one", "two"):
        moto.create_bucket(f"bucket-{name}")
    async with FaultProxy(moto.endpoint) as proxy, AsyncExitStack() as stack:
        yield WatchedAccount(proxy, stack)
