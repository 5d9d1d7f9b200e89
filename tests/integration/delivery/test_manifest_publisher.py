"""The manifest is written where the layout says, may be written again, and a refusal names the
destination."""

import pytest

from exportd.delivery.manifest_publisher import publish_manifest
from exportd.manifest.document import parse, render, sha256_of
from exportd.model.errors import PermanentError, TransientError
from exportd.model.schedule import DestinationCode
from exportd.stores.layout import Layout
from exportd.stores.memory_store import MemoryStore
from exportd.stores.retrying import RetryBudget
from exportd.testing.faulty_store import Fault, FaultyStore, refused, unavailable
from tests.unit.manifest.manifest_examples import entity_of, job_id, manifest_of

MANIFEST = manifest_of(1, entity_of(1, None))
QUICK = RetryBudget(timeout_s=5, first_wait_s=0.0001, longest_wait_s=0.0001, jitter_s=0)
ONCE = RetryBudget(timeout_s=0.001, first_wait_s=0.01, longest_wait_s=0.01, jitter_s=0)
LAKE = DestinationCode("LAKE")


async def test_it_is_written_beside_the_organizations_data() -> None:
    store = MemoryStore()
    published = await publish_manifest(MANIFEST, destination=LAKE, store=store, layout=Layout("exports"))
    assert published.key == f"exports/orgId=org-1/_manifests/{job_id(1)}.json"
    assert published.sha256 == sha256_of(render(MANIFEST))
    assert parse(store.objects[published.key]) == MANIFEST
    assert await publish_manifest(MANIFEST, destination=LAKE, store=store, layout=Layout("exports")) == published


async def test_a_moment_of_absence_is_ridden_out() -> None:
    store = FaultyStore(MemoryStore(), [Fault("put", times=3, error=unavailable(), after=True)])
    await publish_manifest(MANIFEST, destination=LAKE, store=store, layout=Layout(), retry=QUICK)
    assert store.count("put") == 4


async def test_failures_name_the_destination() -> None:
    for error, kind in ((refused(), PermanentError), (unavailable(), TransientError)):
        store = FaultyStore(MemoryStore(), [Fault("put", times=10**6, error=error)])
        with pytest.raises(kind, match=r"Destination LAKE: The store answered"):
            await publish_manifest(MANIFEST, destination=LAKE, store=store, layout=Layout(), retry=ONCE)
