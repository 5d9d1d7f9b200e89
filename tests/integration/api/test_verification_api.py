"""A daemon verifies what was delivered to a destination, beside its exports, for people who ask it."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import pytest

from exportd.api.identity.client_table import Role
from exportd.consumer import verifier
from exportd.consumer.inventory_reader import ReadLimits
from exportd.consumer.verifier import MAX_KEPT, DeliveryVerifier
from exportd.destinations.checker import StoredDestinationChecker
from exportd.destinations.record import DestinationRecord
from exportd.model.entity import OrganizationId
from exportd.model.errors import PermanentError, Reason
from exportd.stores.directory.store import DirectoryStore
from exportd.stores.layout import ObjectKey
from exportd.stores.location import Location, parse_location
from tests.fixtures.daemon import until
from tests.fixtures.deliveries import Change, Lake, Table
from tests.fixtures.fake_clock import FakeClock
from tests.integration.api.request_bodies import bucket
from tests.integration.api.standalone_api import ACME, ApiServer, declared_shelf, path

ACCOUNTS = Table("ACCOUNTS", (("id", "integer", None), ("name", "string", None)))


def shelf_of(api: ApiServer) -> Lake:
    """Two runs at the destination of ``declared_shelf``."""
    lake = Lake(api.folder / f"shelf of {ACME}", organization=ACME)
    lake.run(Change(ACCOUNTS, [("1", "a"), ("2", "b")], full=True))
    lake.run(Change(ACCOUNTS, [("3", "c")]))
    return lake


async def ended(api: ApiServer, destination: str) -> dict[str, Any]:
    """What the newest verification found."""

    async def look() -> dict[str, Any] | None:
        found: dict[str, Any] = (await api.http.get(f"/v1/destinations/{destination}/verification")).json()
        return found if found["finishedAt"] else None

    return await until(look, what="the end of the verification")


@dataclass
class SlowStore(DirectoryStore):
    """Reads files when it may, and not before."""

    place: Path
    may_go_on: anyio.Event = field(default_factory=anyio.Event)
    reads: anyio.Event = field(default_factory=anyio.Event)
    closed: bool = False

    def __post_init__(self) -> None:
        super().__init__(self.place)

    async def read(self, key: ObjectKey) -> AsyncGenerator[bytes]:
        if not key.endswith(".json"):
            self.reads.set()
            await self.may_go_on.wait()
        async with aclosing(super().read(key)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def aclose(self) -> None:
        self.closed = True


async def test_what_was_delivered_is_found_whole_or_says_what_is_wrong(api: ApiServer) -> None:
    shelf = await declared_shelf(api)
    lake, address = shelf_of(api), f"/v1/destinations/{shelf}/verification"
    assert "has not verified" in (await api.http.get(address)).json()["message"]
    started = (await api.http.post(address)).json()
    assert started["destinationId"] == shelf
    whole = await ended(api, shelf)
    assert [whole[name] for name in ("status", "runs", "objects", "findingCount", "message")] == ["DONE", 2, 2, 0, None]
    assert whole["readBytes"] == whole["sizeBytes"] > 0
    (file, *_) = sorted((api.folder / f"shelf of {ACME}").rglob("*.gz"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    await api.http.post(address)
    damaged = await ended(api, shelf)
    (finding,) = damaged["findings"]
    assert (damaged["status"], damaged["findingCount"], finding["kind"]) == ("DONE", 1, "OBJECT_ALTERED")
    assert finding["job"] in {str(run.job_id) for run in lake.runs}
    assert "Put the original back" in finding["remedy"]
    assert [action for _, action in await api.audit()][-2:] == ["destination verified"] * 2


async def test_one_runs_at_a_time_with_progress_until_it_is_cancelled(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = await declared_shelf(api)
    other = (await api.http.post(path("other", "destinations"), json=bucket())).json()["id"]
    shelf_of(api)
    (api.folder / "empty").mkdir()
    stores: list[SlowStore] = []

    def opened(_checker: StoredDestinationChecker, record: DestinationRecord) -> tuple[SlowStore, Location]:
        place = Path(record.declaration.settings.get("directory") or api.folder / "empty")
        stores.append(SlowStore(place))
        return stores[-1], parse_location(str(place))

    monkeypatch.setattr(StoredDestinationChecker, "open", opened)
    address = f"/v1/destinations/{shelf}/verification"
    first = (await api.http.post(address)).json()
    await stores[0].reads.wait()
    again = (await api.http.post(address)).json()
    assert (again["status"], again["startedAt"], len(stores)) == ("RUNNING", first["startedAt"], 1)
    assert (again["readBytes"], again["sizeBytes"] > 0) == (0, True)
    refused = await api.http.post(f"/v1/destinations/{other}/verification")
    assert (refused.status_code, "verifies another destination" in refused.json()["message"]) == (503, True)
    assert ACME not in refused.text
    assert (await api.http.delete(address)).json()["status"] == "CANCELLED"
    assert (await ended(api, shelf))["status"] == "CANCELLED"
    assert (await api.http.delete(address)).json()["status"] == "CANCELLED", "once more does nothing"

    async def starts() -> bool:
        return (await api.http.post(f"/v1/destinations/{other}/verification")).status_code == 200

    await until(starts, what="the next one")
    assert stores[0].closed
    empty = await ended(api, other)
    assert (empty["status"], "There are no manifests" in empty["message"]) == ("FAILED", True)
    deeds = [action for _, action in await api.audit()]
    assert deeds.count("verification cancelled") == 1


async def test_what_fills_the_memory_is_not_read(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = await declared_shelf(api)
    shelf_of(api)
    for limits, status, words in (
        (ReadLimits(manifests_bytes=100), "DONE", "bytes together, and are not read"),
        (ReadLimits(manifests_bytes=1 << 20, objects=1), "FAILED", "holds more than 1 objects"),
    ):
        monkeypatch.setattr(verifier, "_OF_A_DAEMON", limits)
        await api.http.post(f"/v1/destinations/{shelf}/verification")
        found = await ended(api, shelf)
        said = found["message"] or found["findings"][0]["message"]
        assert (found["status"], words in said) == (status, True), found


async def test_a_store_that_refuses_meanwhile_is_a_sentence(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = await declared_shelf(api)
    shelf_of(api)

    async def read(_store: DirectoryStore, key: ObjectKey) -> AsyncGenerator[bytes]:
        if not key.endswith(".json"):
            raise PermanentError("The store is closed for today.", reason=Reason.DESTINATION_REFUSED)
        yield await anyio.Path(api.folder / f"shelf of {ACME}" / key).read_bytes()

    with monkeypatch.context() as patched:
        patched.setattr(DirectoryStore, "read", read)
        await api.http.post(f"/v1/destinations/{shelf}/verification")
        found = await ended(api, shelf)
    assert (found["status"], found["message"]) == ("FAILED", "The store is closed for today.")
    await api.http.post(f"/v1/destinations/{shelf}/verification")
    assert (await ended(api, shelf))["status"] == "DONE", "the service goes on"


async def test_a_program_verifies_what_is_its_organizations_and_no_directory(api: ApiServer) -> None:
    shelf = await declared_shelf(api)
    theirs = (await api.http.post(path("other", "destinations"), json=bucket())).json()["id"]
    program = await api.bearer(role=Role.OPERATOR)
    for method in ("GET", "POST", "DELETE"):
        for destination, status in ((shelf, 403), (theirs, 404)):
            answer = await api.tcp.request(method, f"/v1/destinations/{destination}/verification", headers=program)
            assert answer.status_code == status, (method, status)
            assert "shelf of" not in answer.text
    assert "destination verified" not in [action for _, action in await api.audit()]


async def test_a_daemon_remembers_so_many(tmp_path: Path) -> None:
    """What it has found of one destination goes when there are too many others."""
    found = DeliveryVerifier(FakeClock())
    ids = [UUID(int=number) for number in range(MAX_KEPT + 1)]
    async with anyio.create_task_group() as services:
        services.start_soon(found.run)
        for number in ids:
            found.start(
                number,
                OrganizationId(ACME),
                lambda: (DirectoryStore(tmp_path), parse_location(str(tmp_path))),
                actor="test",
            )
            while found.running(number) is not None:
                await anyio.lowlevel.checkpoint()
        services.cancel_scope.cancel()
    assert [number for number in ids if found.newest(number) is None] == ids[:1]
