"""A job goes to all its destinations; one that fails keeps no other from getting everything."""

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import anyio
import pytest

from exportd.delivery.byte_limiter import ByteLimiter
from exportd.delivery.cleaner import Cleaner
from exportd.delivery.deliverer import Deliverer
from exportd.delivery.job_delivery import JobDeliverer, JobDelivery
from exportd.delivery.publication_keeper import PublicationKeeper
from exportd.delivery.tables import PublicationTable, UploadTable
from exportd.destinations.open_destinations import Destination, Destinations
from exportd.jobs.job_record import DeliveryRecord, JobRecord
from exportd.jobs.job_table import JobTable
from exportd.jobs.states import Retry, decide
from exportd.manifest.document import parse
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import FullReason, OccupiedError, PermanentError, Reason, TransientError
from exportd.model.extraction import EntityExtraction, ExtractedField, Extraction, Mode
from exportd.model.job import Job, JobId, JobPhase, JobProgress, Lease, Part
from exportd.model.schedule import DestinationCode, ExportFormat, ScheduleId
from exportd.spool.spool import Spool
from exportd.stores.layout import Layout, ManifestName, build
from exportd.stores.retrying import RetryBudget
from exportd.stores.store import Store, Upload
from tests.fixtures.fake_clock import FakeClock
from tests.fixtures.settings import live_settings
from tests.fixtures.store_doubles import Fault, FaultyStore, MemoryStore, refused, unavailable

ORGANIZATION = OrganizationId("org-1")
ONCE = RetryBudget(timeout_s=0.001, first_wait_s=0.0001, max_wait_s=0.0001, jitter_s=0)
CONTENT = b"what was exported"
NAME = f"{UUID(int=1)}_account.csv.gz"
PART = Part(EntityCode("ACCOUNTS"), 1, NAME, 1, 40, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
EXTRACTION = Extraction(
    snapshot="10:15:11",
    wal_position="0/16B3748",
    taken_at=datetime(2026, 3, 9, 4, 16, tzinfo=UTC),
    entities=(
        EntityExtraction(
            entity=PART.entity,
            type_token="account",
            mode=Mode.FULL,
            full_reason=FullReason.FIRST_RUN,
            previous=None,
            rows=1,
            deleted_rows=0,
            key=("id",),
            tenant=None,
            fields=(ExtractedField("id", "string", None, None),),
            guards={},
        ),
    ),
)


class Jobs(JobTable):
    """A table in memory that knows one sealed job."""

    def __init__(self, delivered: Sequence[str] = (), part: Part = PART) -> None:
        self.part = part
        self.recorded: dict[DestinationCode, str] = {}
        self._delivered = delivered

    async def deliveries(self, job_id: JobId) -> tuple[DeliveryRecord, ...]:
        return tuple(DeliveryRecord(DestinationCode(code), "", EXTRACTION.taken_at) for code in self._delivered)

    async def parts(self, job_id: JobId) -> tuple[Part, ...]:
        return (self.part,)

    async def record_delivery(self, lease: Lease, destination: DestinationCode, manifest_sha256: str) -> None:
        self.recorded[destination] = manifest_sha256

    async def failed_halfway(self, schedule_id: ScheduleId | None = None) -> tuple[JobRecord, ...]:
        return ()


class Uploads(UploadTable):
    """A table without uploads."""

    def __init__(self) -> None: ...

    async def of_job(self, job: JobId, destination: DestinationCode) -> Sequence[Upload]:
        return ()


class Publications(PublicationTable):
    """A table that is not asked: the jobs have no schedule."""

    def __init__(self) -> None: ...


def lease_for(*codes: str) -> Lease:
    destinations = tuple(DestinationCode(code) for code in codes)
    due_at = datetime(2026, 3, 9, 4, 15, tzinfo=UTC)
    job = Job(JobId(UUID(int=1)), ORGANIZATION, None, None, due_at, (PART.entity,), ExportFormat.CSV, destinations)
    return Lease(job, fence=1, attempt=1, phase=JobPhase.SEALED)


def destinations_of(stores: Mapping[str, Store]) -> Destinations:
    return Destinations(
        Destination(ORGANIZATION, DestinationCode(code), store, Layout()) for code, store in stores.items()
    )


def job_deliverer(folder: Path, destinations: Destinations, jobs: Jobs) -> JobDeliverer:
    spool = Spool(live_settings(spool={"directory": folder, "budget": 10**6, "free_space_floor": 0}))
    return JobDeliverer(
        Deliverer(
            destinations,
            uploads=Uploads(),
            limiter=ByteLimiter(1 << 20),
            type_token=lambda _: "another token",
            retry=ONCE,
        ),
        Cleaner(destinations, jobs, Uploads(), type_tokens={}, clock=FakeClock()),
        jobs=jobs,
        uploads=Uploads(),
        publications=PublicationKeeper(Publications(), spool),
        spool=spool,
    )


@asynccontextmanager
async def resumed(
    folder: Path, stores: Mapping[str, Store], jobs: Jobs, progress: JobProgress | None = None
) -> AsyncIterator[JobDelivery]:
    """The delivery of a sealed job, whose part is in the spool, to a destination for each store."""
    lease = lease_for(*stores)
    deliverer = job_deliverer(folder, destinations_of(stores), jobs)
    deliverer.spool.job_folder(lease.job.id).mkdir(parents=True)
    (deliverer.spool.job_folder(lease.job.id) / PART.file_name).write_bytes(CONTENT)
    async with deliverer.delivery(lease, progress or JobProgress(), EXTRACTION) as delivery:
        assert await delivery.resume() == (PART,)
        delivery.keep()
        yield delivery


async def test_every_destination_gets_the_objects_and_the_manifest(tmp_path: Path) -> None:
    stores = {"LAKE": MemoryStore(), "SEA": MemoryStore()}
    jobs, progress = Jobs(), JobProgress()
    async with resumed(tmp_path, stores, jobs, progress) as delivery:
        await delivery.publish(EXTRACTION, (PART,))
    manifest_key = build(ManifestName(ORGANIZATION, lease_for().job.id), Layout())
    for code, store in stores.items():
        document = store.objects[manifest_key]
        assert jobs.recorded[DestinationCode(code)] == hashlib.sha256(document).hexdigest()
        (listed,) = parse(document).entities[0].parts
        assert {key: data for key, data in store.objects.items() if key != manifest_key} == {listed.key: CONTENT}
        assert "type=account/" in listed.key, "the token of the seal, not the catalog's of today"
    assert progress.published_files == 2


async def test_a_destination_that_has_everything_is_not_touched_again(tmp_path: Path) -> None:
    lake, sea = FaultyStore(MemoryStore()), FaultyStore(MemoryStore())
    jobs = Jobs(delivered=["LAKE"])
    async with resumed(tmp_path, {"LAKE": lake, "SEA": sea}, jobs) as delivery:
        await delivery.publish(EXTRACTION, (PART,))
    assert lake.calls == []
    assert jobs.recorded.keys() == {"SEA"}


async def test_one_that_refuses_keeps_no_other_from_its_delivery(tmp_path: Path) -> None:
    sea = MemoryStore()
    jobs = Jobs()
    lake = FaultyStore(MemoryStore(), [Fault("put", times=1000, error=refused())])
    async with resumed(tmp_path, {"LAKE": lake, "SEA": sea}, jobs) as delivery:
        with pytest.raises(PermanentError, match=r"^Destination LAKE: The store answered 403\.$") as failure:
            await delivery.publish(EXTRACTION, (PART,))
    assert failure.value.reason is Reason.DESTINATION_REFUSED
    assert jobs.recorded.keys() == {"SEA"}
    assert len(sea.objects) == 2


async def test_a_failure_that_may_pass_is_worth_another_attempt_for_all(tmp_path: Path) -> None:
    away = unavailable()
    away.retry_after_s = 30.0
    stores = {
        "LAKE": FaultyStore(MemoryStore(), [Fault("put", times=1000, error=refused())]),
        "SEA": FaultyStore(MemoryStore(), [Fault("put", times=1000, error=away)]),
    }
    async with resumed(tmp_path, stores, Jobs()) as delivery:
        with pytest.raises(TransientError) as failure:
            await delivery.publish(EXTRACTION, (PART,))
    assert (failure.value.reason, failure.value.retry_after_s) == (Reason.DESTINATION_UNAVAILABLE, 30.0)
    assert "Destination LAKE: " in failure.value.sentence
    assert "Destination SEA: " in failure.value.sentence


async def test_a_job_whose_destinations_are_all_left_alone_gives_its_slot_back_before_it_reads(tmp_path: Path) -> None:
    stores = {"LAKE": FaultyStore(MemoryStore()), "SEA": FaultyStore(MemoryStore())}
    destinations = destinations_of(stores)
    deliverer = job_deliverer(tmp_path, destinations, Jobs())
    lease = replace(lease_for(*stores), phase=JobPhase.EXTRACTING)
    lake, sea = destinations

    lake.circuit.failed(anyio.current_time())
    async with deliverer.delivery(lease, JobProgress(), None) as delivery:
        assert [refused.transfer.refused for refused in delivery.deliveries] == [True, False], "the sea gets its files"

    sea.circuit.failed(anyio.current_time() + 100)
    with pytest.raises(OccupiedError) as raised:
        async with deliverer.delivery(lease, JobProgress(), None):
            pytest.fail("it would have read")
    assert raised.value.sentence.count("was away a moment ago and is left alone") == 2
    assert 0 < (raised.value.retry_after_s or 0) <= 30, "until the first of them is tried again"
    assert decide(raised.value, attempt=5, limit=5, random=0) == Retry(
        raised.value.retry_after_s or 0, Reason.DESTINATION_UNAVAILABLE, raised.value.sentence, counts_attempt=False
    )

    # A sealed job has been read: what is left of it is short.
    async with deliverer.delivery(lease, JobProgress(), EXTRACTION) as delivery:
        assert all(refused.transfer.refused for refused in delivery.deliveries)
    assert [store.calls for store in stores.values()] == [[], []]


@pytest.mark.parametrize("name", ["/etc/hostname", "../../../etc/hostname", "accounts.csv.gz"])
async def test_a_row_that_names_another_file_uploads_nothing(tmp_path: Path, name: str) -> None:
    store = MemoryStore()
    jobs = Jobs(part=replace(PART, file_name=name))
    with pytest.raises(PermanentError, match="which exportd has not written") as raised:
        async with resumed(tmp_path, {"lake": store}, jobs):
            pytest.fail("it was resumed")
    assert raised.value.reason is Reason.SPOOL_DAMAGED
    assert store.objects == {}
