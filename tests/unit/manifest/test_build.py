"""The manifest of a job holds what was read, the parts of each entity under their keys, and what came before."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from exportd.manifest.build import History, ManifestRenderer, build_manifest
from exportd.manifest.document import ManifestSchedule, Predecessor, parse, render
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import FullReason
from exportd.model.extraction import EntityExtraction, ExtractedField, Extraction, Mode, with_documents
from exportd.model.job import Job, Part
from exportd.model.schedule import DestinationCode, ExportFormat, ScheduleId
from exportd.stores.layout import Layout, ObjectName, file_name, key_of_file
from exportd.stores.layout import parse as parse_key
from tests.unit.manifest.manifest_examples import job_id, snapshot

DUE = datetime(2026, 3, 9, 4, 15, tzinfo=UTC)
DAILY = ScheduleId(UUID(int=500))


def job(schedule: ScheduleId | None = DAILY) -> Job:
    return Job(
        id=job_id(2),
        organization=OrganizationId("org-1"),
        schedule_id=schedule,
        schedule_code="daily" if schedule else None,
        due_at=DUE,
        entities=(EntityCode("ACCOUNTS"), EntityCode("BILLS")),
        file_format=ExportFormat.JSONL,
        destinations=(DestinationCode("LAKE"),),
    )


def entity(code: str, *, previous: int | None, rows: int) -> EntityExtraction:
    return EntityExtraction(
        entity=EntityCode(code),
        type_token=code.lower(),
        mode=Mode.FULL if previous is None else Mode.INCREMENTAL,
        full_reason=FullReason.FIRST_RUN if previous is None else None,
        previous=None if previous is None else snapshot(previous),
        rows=rows,
        deleted_rows=1,
        oversized_parts=1 if previous is None else 0,
        key=("id",),
        tenant="orgId",
        fields=(
            ExtractedField("id", "string", "uuid", None),
            ExtractedField("plan", "string", None, EntityCode("PLANS")),
        ),
        guards={},
    )


def part(code: str, number: int, rows: int) -> Part:
    name = file_name(job_id(2), code.lower(), number, ExportFormat.JSONL)
    return Part(EntityCode(code), number, name, rows, 40 * rows, 20 * rows, f"{number}" * 64)


EXTRACTION = Extraction(
    snapshot=snapshot(2),
    wal_position="0/16B3748",
    taken_at=DUE + timedelta(minutes=1),
    entities=(entity("ACCOUNTS", previous=1, rows=5), entity("BILLS", previous=None, rows=7)),
)
PARTS = (part("ACCOUNTS", 1, 3), part("BILLS", 1, 7), part("ACCOUNTS", 2, 2))
HISTORY = History(Predecessor(job_id=job_id(1), sha256="a" * 64), (job_id(1),))


def test_each_entity_lists_its_own_parts_under_the_keys_of_the_destination() -> None:
    manifest = build_manifest(job(), EXTRACTION, PARTS, lambda part: f"{part.entity.lower()}/{part.number}", HISTORY)
    accounts, bills = manifest.entities
    assert [(listed.key, listed.rows, listed.sha256) for listed in accounts.parts] == [
        ("accounts/1", 3, "1" * 64),
        ("accounts/2", 2, "2" * 64),
    ]
    assert [(listed.key, listed.content_bytes, listed.size_bytes) for listed in bills.parts] == [("bills/1", 280, 140)]


def test_it_says_what_was_read_and_what_came_before() -> None:
    manifest = build_manifest(job(), EXTRACTION, PARTS, lambda part: part.file_name, HISTORY)
    accounts, bills = manifest.entities
    assert (accounts.mode, accounts.full_reason, accounts.window.previous) == (Mode.INCREMENTAL, None, snapshot(1))
    assert (bills.mode, bills.full_reason, bills.window.previous) == (Mode.FULL, FullReason.FIRST_RUN, None)
    assert {(window.snapshot, window.lsn, window.taken_at) for window in (accounts.window, bills.window)} == {
        (snapshot(2), "0/16B3748", EXTRACTION.taken_at)
    }
    assert (accounts.oversized_parts, bills.oversized_parts) == (0, 1)
    assert [(field.name, field.format, field.reference) for field in accounts.fields] == [
        ("id", "uuid", None),
        ("plan", None, "PLANS"),
    ]
    assert (manifest.schedule, manifest.due_at) == (ManifestSchedule(id=DAILY, code="daily"), DUE)
    assert (manifest.predecessor, manifest.redelivers) == (HISTORY.predecessor, HISTORY.redelivers)
    assert parse(render(manifest)) == manifest


def test_an_entity_whose_file_the_destination_does_not_get_has_none() -> None:
    nothing = replace(entity("PLANS", previous=1, rows=0), deleted_rows=0)
    read = replace(EXTRACTION, entities=(entity("ACCOUNTS", previous=1, rows=5), nothing))
    manifest = build_manifest(job(), read, PARTS, lambda part: part.file_name, HISTORY)
    accounts, plans = manifest.entities
    assert (manifest.schema_version, plans.rows, plans.parts) == (3, 0, ())
    assert accounts.parts
    assert parse(render(manifest)) == manifest


def test_a_start_date_is_said_with_what_it_was_compared_with() -> None:
    dated = replace(job(), schedule_id=None, schedule_code=None, start_date=DUE)
    read = replace(entity("ACCOUNTS", previous=1, rows=5), previous=None, deleted_rows=0, modified="dtLastModified")
    sealed = replace(EXTRACTION, entities=(read,))
    documents = {document.digest: json.loads(document.text) for document in sealed.documents()}
    extraction = Extraction.from_json(with_documents(json.loads(sealed.to_text()), documents))
    manifest = build_manifest(dated, extraction, PARTS, lambda part: part.file_name, History())
    assert (manifest.schema_version, manifest.start_date) == (2, DUE)
    assert manifest.entities[0].modified == "dtLastModified"
    assert parse(render(manifest)) == manifest


def test_building_it_again_gives_the_same_bytes() -> None:
    first, again = (build_manifest(job(), EXTRACTION, PARTS, lambda part: part.file_name, HISTORY) for _ in range(2))
    assert render(first) == render(again)


def test_in_the_spool_keys_are_those_of_a_destination() -> None:
    manifest = build_manifest(
        job(),
        EXTRACTION,
        PARTS,
        lambda part: key_of_file(part.file_name, job().organization, DUE, Layout()),
        HISTORY,
    )
    keys = [listed.key for entity in manifest.entities for listed in entity.parts]
    names = [name for key in keys if isinstance(name := parse_key(key, Layout()), ObjectName)]
    assert sorted(key.rpartition("/")[2] for key in keys) == sorted(part.file_name for part in PARTS)
    assert {(name.organization, name.day, name.hour) for name in names} == {
        (manifest.organization, DUE.date(), DUE.hour)
    }
    assert (manifest.predecessor, manifest.redelivers) == (HISTORY.predecessor, HISTORY.redelivers)


def test_equal_manifests_of_a_job_are_rendered_once() -> None:
    renderer = ManifestRenderer()
    first, again = (build_manifest(job(), EXTRACTION, PARTS, lambda part: part.file_name, HISTORY) for _ in range(2))
    other = build_manifest(job(), EXTRACTION, PARTS, lambda part: f"elsewhere/{part.file_name}", HISTORY)
    assert renderer.render(first) is renderer.render(again)
    assert renderer.render(other) == render(other) != render(first) == renderer.render(again)
