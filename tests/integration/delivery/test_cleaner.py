"""What ended jobs left at a store is found and removed; what is that of live jobs, and of others, is not touched."""

from collections.abc import Collection
from datetime import UTC, datetime
from uuid import UUID

import pytest

from exportd.delivery.cleaner import remove_objects, sweep_job_uploads, sweep_uploads
from exportd.destinations.open_destinations import Destination
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.job import Job, JobId
from exportd.model.schedule import DestinationCode, ExportFormat
from exportd.stores.layout import Layout, ManifestName, ObjectKey, PartitionOrder, build, file_name, key_of_file
from exportd.stores.store import Store
from tests.fixtures.store_doubles import FaultyStore, MemoryStore

ALIVE, DEAD = JobId(UUID(int=1)), JobId(UUID(int=2))
ORGANIZATION = OrganizationId("org 1/ü")
LAYOUT = Layout("exports")
DUE = datetime(2026, 3, 9, 4, 59, tzinfo=UTC)


def part_key(
    job: JobId, layout: Layout = LAYOUT, *, kind: str = "account", part: int = 1, due_at: datetime = DUE
) -> ObjectKey:
    return key_of_file(file_name(job, kind, part, ExportFormat.CSV), ORGANIZATION, due_at, layout)


def job(job_id: JobId) -> Job:
    codes = (EntityCode("ACCOUNTS"), EntityCode("ORDERS"))
    return Job(job_id, ORGANIZATION, None, None, DUE, codes, ExportFormat.CSV, ())


def lake(store: Store, layout: Layout = LAYOUT) -> Destination:
    return Destination(ORGANIZATION, DestinationCode("lake"), store, layout)


async def left(store: MemoryStore) -> set[str]:
    return {upload.key async for upload in store.list_uploads("")}


async def test_only_uploads_of_dead_jobs_are_aborted() -> None:
    store = MemoryStore()
    kept = {part_key(ALIVE), part_key(DEAD, Layout("other")), ObjectKey("exports/other/program")}
    for key in [*kept, part_key(DEAD), build(ManifestName(ORGANIZATION, DEAD), LAYOUT)]:
        await store.start(key)

    async def unfinished() -> Collection[JobId]:
        return {ALIVE}

    await sweep_uploads(lake(store), unfinished)
    assert await left(store) == kept


async def test_jobs_are_asked_for_after_the_listing() -> None:
    store = FaultyStore(MemoryStore())
    await store.start(part_key(ALIVE))
    listed_before: list[int] = []

    async def unfinished() -> Collection[JobId]:
        listed_before.append(store.count("list_uploads"))
        return {ALIVE}

    await sweep_uploads(lake(store), unfinished)
    assert listed_before == [1]


async def test_the_earlier_attempts_of_a_job_can_be_swept_alone() -> None:
    store = MemoryStore()
    for key in (part_key(ALIVE), part_key(ALIVE), part_key(DEAD)):
        await store.start(key)
    await sweep_job_uploads(lake(store), job(ALIVE))
    assert await left(store) == {part_key(DEAD)}


@pytest.mark.parametrize("order", PartitionOrder)
@pytest.mark.parametrize("prefix", ["", "a/b"])
async def test_all_parts_of_a_job_are_removed_and_nothing_else(order: PartitionOrder, prefix: str) -> None:
    layout, store = Layout(prefix, order), MemoryStore()
    parts = [part_key(DEAD, layout, kind=kind, part=part) for kind in ("account", "order") for part in (1, 2, 12)]
    kept = [
        part_key(ALIVE, layout),
        part_key(JobId(UUID(int=3)), layout, due_at=DUE.replace(hour=5)),
        build(ManifestName(ORGANIZATION, DEAD), layout),
        ObjectKey(parts[0] + ".bak"),
    ]
    for key in [*parts, *kept]:
        await store.put(key, b"x")
    assert await remove_objects(job(DEAD), lake(store, layout), ["account", "order", "account"]) == len(parts)
    assert store.objects.keys() == set(kept)
    assert await remove_objects(job(DEAD), lake(store, layout), ["account", "order"]) == 0
