"""Manifests to start from in tests."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from exportd.manifest.document import (
    Manifest,
    ManifestEntity,
    ManifestField,
    ManifestPart,
    ManifestSchedule,
    ManifestWindow,
    Predecessor,
    render,
    sha256_of,
)
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import FullReason
from exportd.model.extraction import Mode
from exportd.model.job import JobId
from exportd.model.schedule import ExportFormat, ScheduleId

START = datetime(2026, 3, 9, 4, 15, tzinfo=UTC)
SCHEDULE = ManifestSchedule(id=ScheduleId(UUID(int=500)), code="daily")


def job_id(number: int) -> JobId:
    return JobId(UUID(int=number))


def snapshot(number: int) -> str:
    """A different one for each run."""
    return f"{number * 10}:{number * 10 + 5}:{number * 10 + 1}"


def entity_of(job: int, previous: int | None, *, code: str = "ACCOUNTS", full: bool | None = None) -> ManifestEntity:
    """An entity whose window ends at the snapshot of ``job`` and begins at that of ``previous``."""
    is_full = previous is None if full is None else full
    return ManifestEntity(
        code=EntityCode(code),
        type=code.lower(),
        mode=Mode.FULL if is_full else Mode.INCREMENTAL,
        full_reason=FullReason.FIRST_RUN if is_full else None,
        window=ManifestWindow(
            previous=None if previous is None else snapshot(previous),
            snapshot=snapshot(job),
            lsn="0/16B3748",
            taken_at=START + timedelta(hours=job),
        ),
        key=("id",),
        tenant="orgId",
        fields=(
            ManifestField(name="id", type="string", format="uuid"),
            ManifestField(name="planId", type="string", reference=EntityCode("PLANS")),
            ManifestField(name="deleted", type="boolean"),
        ),
        rows=3,
        deleted_rows=1,
        parts=(
            ManifestPart(key=f"{code}/{job}", rows=1, content_bytes=40, size_bytes=60, sha256="0" * 64),
            ManifestPart(key=f"{code}/{job}.0002", rows=2, content_bytes=50, size_bytes=61, sha256="1" * 64),
        ),
    )


def dated(manifest: Manifest) -> Manifest:
    """The manifest as that of an export with a start date."""
    entities = (
        replace(
            entity,
            mode=Mode.INCREMENTAL,
            full_reason=None,
            window=replace(entity.window, previous=None),
            deleted_rows=0,
            modified="dtLastModified",
        )
        for entity in manifest.entities
    )
    return replace(
        manifest, schema_version=2, schedule=None, predecessor=None, entities=tuple(entities), start_date=START
    )


def manifest_of(
    job: int,
    *entities: ManifestEntity,
    after: Manifest | None = None,
    redelivers: tuple[int, ...] = (),
    schedule: ManifestSchedule | None = SCHEDULE,
) -> Manifest:
    return Manifest(
        job_id=job_id(job),
        organization=OrganizationId("org-1"),
        schedule=schedule,
        due_at=START + timedelta(hours=job),
        created_at=START + timedelta(hours=job, minutes=1),
        format=ExportFormat.CSV,
        entities=entities,
        predecessor=None if after is None else Predecessor(job_id=after.job_id, sha256=sha256_of(render(after))),
        redelivers=tuple(job_id(redeliver) for redeliver in redelivers),
    )
