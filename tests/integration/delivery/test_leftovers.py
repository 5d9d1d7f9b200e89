"""Uploads of dead jobs are aborted; those of live jobs, and those of others, are not touched."""

from collections.abc import Collection
from datetime import UTC, datetime
from uuid import UUID

from exportd.delivery.leftovers import UploadSweep, sweep_job_uploads, sweep_uploads
from exportd.model.entity import OrganizationId
from exportd.model.job import JobId
from exportd.model.schedule import ExportFormat
from exportd.stores.layout import Layout, ManifestName, ObjectKey, ObjectName, build
from tests.fixtures.store_doubles import FaultyStore, MemoryStore

ALIVE, DEAD = JobId(UUID(int=1)), JobId(UUID(int=2))
ORGANIZATION = OrganizationId("org-1")
LAYOUT = Layout("exports")


def part_key(job: JobId, layout: Layout = LAYOUT) -> ObjectKey:
    name = ObjectName.of(
        organization=ORGANIZATION,
        due_at=datetime(2026, 3, 9, 4, tzinfo=UTC),
        type_token="account",
        job=job,
        number=1,
        file_format=ExportFormat.CSV,
    )
    return build(name, layout)


async def left(store: MemoryStore) -> set[str]:
    return {upload.key async for upload in store.list_uploads("")}


async def test_only_uploads_of_dead_jobs_are_aborted() -> None:
    store = MemoryStore()
    kept = {part_key(ALIVE), part_key(DEAD, Layout("other")), ObjectKey("exports/other/program")}
    for key in [*kept, part_key(DEAD), build(ManifestName(ORGANIZATION, DEAD), LAYOUT)]:
        await store.start(key)

    async def unfinished() -> Collection[JobId]:
        return {ALIVE}

    assert await sweep_uploads(store, LAYOUT, unfinished_jobs=unfinished) == UploadSweep(aborted=2, left=2)
    assert await left(store) == kept


async def test_jobs_are_asked_for_after_the_listing() -> None:
    store = FaultyStore(MemoryStore())
    await store.start(part_key(ALIVE))
    listed_before: list[int] = []

    async def unfinished() -> Collection[JobId]:
        listed_before.append(store.count("list_uploads"))
        return {ALIVE}

    await sweep_uploads(store, LAYOUT, unfinished_jobs=unfinished)
    assert listed_before == [1]


async def test_the_earlier_attempts_of_a_job_can_be_swept_alone() -> None:
    store = MemoryStore()
    for key in (part_key(ALIVE), part_key(ALIVE), part_key(DEAD)):
        await store.start(key)
    assert await sweep_job_uploads(store, LAYOUT, ALIVE) == UploadSweep(aborted=2, left=1)
    assert await left(store) == {part_key(DEAD)}
