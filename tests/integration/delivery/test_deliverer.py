"""The manifest is written where the layout says, may be written again, and a refusal names the destination; so does one
of the loader kit.
"""

from dataclasses import replace

import pytest

from exportd.delivery.deliverer import publish_loader_kit, publish_manifest
from exportd.destinations.open_destinations import Destination
from exportd.manifest.build import ManifestRenderer
from exportd.manifest.document import parse, render, sha256_of
from exportd.model.entity import OrganizationId
from exportd.model.errors import PermanentError, TransientError
from exportd.model.schedule import DestinationCode, DialectName
from exportd.settings.destination_schema import Scheme
from exportd.stores.layout import Layout, ObjectKey
from exportd.stores.location import Location
from exportd.stores.retrying import RetryBudget
from exportd.stores.store import Store
from tests.fixtures.store_doubles import Fault, FaultyStore, MemoryStore, refused, unavailable
from tests.unit.manifest.manifest_examples import entity_of, job_id, manifest_of

MANIFEST = manifest_of(1, entity_of(1, None))
QUICK = RetryBudget(timeout_s=5, first_wait_s=0.0001, max_wait_s=0.0001, jitter_s=0)
ONCE = RetryBudget(timeout_s=0.001, first_wait_s=0.01, max_wait_s=0.01, jitter_s=0)


def lake(store: Store, layout: Layout | None = None) -> Destination:
    return Destination(OrganizationId("org-1"), DestinationCode("LAKE"), store, layout or Layout())


def with_loader_kit(store: Store) -> Destination:
    return replace(
        lake(store), loader_kit=(DialectName.DUCKDB,), location=Location(Scheme.DIRECTORY, root="/lake", prefix="")
    )


async def test_it_is_written_beside_the_organizations_data() -> None:
    store = MemoryStore()
    digest = await publish_manifest(MANIFEST, lake(store, Layout("exports")), QUICK, ManifestRenderer())
    key = ObjectKey(f"exports/orgId=org-1/_manifests/{job_id(1)}.json")
    assert digest == sha256_of(render(MANIFEST))
    assert store.objects.keys() == {key}
    assert parse(store.objects[key]) == MANIFEST
    assert await publish_manifest(MANIFEST, lake(store, Layout("exports")), QUICK, ManifestRenderer()) == digest
    assert store.objects.keys() == {key}


async def test_a_moment_of_absence_is_ridden_out() -> None:
    store = FaultyStore(MemoryStore(), [Fault("put", times=3, error=unavailable(), after=True)])
    await publish_manifest(MANIFEST, lake(store), QUICK, ManifestRenderer())
    assert store.count("put") == 4


async def test_failures_name_the_destination() -> None:
    for error, kind in ((refused(), PermanentError), (unavailable(), TransientError)):
        store = FaultyStore(MemoryStore(), [Fault("put", times=10**6, error=error)])
        with pytest.raises(kind, match=r"Destination LAKE: The store answered"):
            await publish_manifest(MANIFEST, lake(store), ONCE, ManifestRenderer())
        with pytest.raises(kind, match=r"Destination LAKE: The store answered"):
            await publish_loader_kit(MANIFEST, with_loader_kit(store), ONCE)
