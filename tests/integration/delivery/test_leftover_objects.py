"""A job's parts are found wherever they can be, and removed; those of other jobs are not touched."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from exportd.delivery.leftovers import remove_objects
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.job import Job, JobId
from exportd.model.schedule import ExportFormat
from exportd.stores.layout import Layout, ManifestName, ObjectKey, ObjectName, PartitionOrder, build
from tests.fixtures.store_doubles import MemoryStore

ORGANIZATION = OrganizationId("org 1/ü")
DUE = datetime(2026, 3, 9, 4, 59, tzinfo=UTC)


def job(number: int, due_at: datetime = DUE) -> Job:
    codes = (EntityCode("ACCOUNTS"), EntityCode("ORDERS"))
    return Job(JobId(UUID(int=number)), ORGANIZATION, None, None, due_at, codes, ExportFormat.CSV, ())


def key(of: Job, layout: Layout, kind: str = "account", part: int = 1) -> ObjectKey:
    name = ObjectName.of(
        organization=of.organization,
        due_at=of.due_at,
        type_token=kind,
        job=of.id,
        number=part,
        file_format=of.file_format,
    )
    return build(name, layout)


@pytest.mark.parametrize("order", PartitionOrder)
@pytest.mark.parametrize("prefix", ["", "a/b"])
async def test_all_parts_of_a_job_are_removed_and_nothing_else(order: PartitionOrder, prefix: str) -> None:
    layout, store = Layout(prefix, order), MemoryStore()
    failed, other, later = job(1), job(2), job(3, DUE.replace(hour=5))
    parts = [key(failed, layout, token, number) for token in ("account", "order") for number in (1, 2, 12)]
    kept = [
        key(other, layout),
        key(later, layout),
        build(ManifestName(ORGANIZATION, failed.id), layout),
        ObjectKey(parts[0] + ".bak"),
    ]
    for part in [*parts, *kept]:
        await store.put(part, b"x")
    assert await remove_objects(store, layout, failed, type_tokens=["account", "order", "account"]) == len(parts)
    assert store.objects.keys() == set(kept)
    assert await remove_objects(store, layout, failed, type_tokens=["account", "order"]) == 0
