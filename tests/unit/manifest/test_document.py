"""A manifest survives being written and read, and a wrong one is refused with every reason."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.manifest.document import (
    Manifest,
    ManifestEntity,
    ManifestField,
    ManifestPart,
    ManifestSchedule,
    ManifestWindow,
    Predecessor,
    json_schema,
    parse,
    render,
    sha256_of,
)
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import FullReason, PermanentError, Reason
from exportd.model.extraction import Mode
from exportd.model.job import JobId
from exportd.model.schedule import ExportFormat, ScheduleId
from tests.unit.manifest.manifest_examples import dated, entity_of, manifest_of

FIRST = manifest_of(1, entity_of(1, None), entity_of(1, None, code="METERS"))
SECOND = manifest_of(2, entity_of(2, 1), after=FIRST)

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
TIMES = st.datetimes(timezones=st.just(UTC), min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1))
SNAPSHOTS = st.builds("{}:{}:{}".format, st.integers(0), st.integers(0), st.sampled_from(["", "7", "7,8,9"]))
SHAS = st.binary(min_size=32, max_size=32).map(bytes.hex)
COUNTS = st.integers(0, 2**61)


@st.composite
def entities(draw: st.DrawFn, number: int) -> ManifestEntity:
    mode = draw(st.sampled_from(Mode))
    rows = draw(st.lists(COUNTS, min_size=1, max_size=3))
    return ManifestEntity(
        code=EntityCode(f"E{number}"),
        type=draw(TEXTS),
        mode=mode,
        full_reason=draw(st.sampled_from(FullReason)) if mode is Mode.FULL else None,
        window=ManifestWindow(
            previous=draw(SNAPSHOTS if mode is Mode.INCREMENTAL else st.none() | SNAPSHOTS),
            snapshot=draw(SNAPSHOTS),
            lsn=draw(TEXTS),
            taken_at=draw(TIMES),
        ),
        key=tuple(draw(st.lists(NAMES, max_size=2))),
        tenant=draw(st.none() | TEXTS),
        fields=tuple(
            ManifestField(name=draw(NAMES), type=draw(TEXTS), format=draw(st.none() | TEXTS)) for _ in range(2)
        ),
        rows=sum(rows),
        deleted_rows=draw(st.integers(0, sum(rows))),
        parts=tuple(
            ManifestPart(
                key=f"{number}/{part}",
                rows=count,
                content_bytes=draw(COUNTS),
                size_bytes=draw(COUNTS),
                sha256=draw(SHAS),
            )
            for part, count in enumerate(rows)
        ),
        oversized_parts=draw(st.integers(0, len(rows))),
    )


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    ad_hoc = draw(st.booleans())
    predecessor = Predecessor(job_id=JobId(draw(st.uuids())), sha256=draw(SHAS))
    linked = not ad_hoc and draw(st.booleans())
    return Manifest(
        job_id=JobId(draw(st.uuids())),
        organization=OrganizationId(draw(NAMES)),
        schedule=None if ad_hoc else ManifestSchedule(id=ScheduleId(draw(st.uuids())), code=draw(TEXTS)),
        due_at=draw(TIMES),
        created_at=draw(TIMES),
        format=draw(st.sampled_from(ExportFormat)),
        entities=tuple(draw(entities(number)) for number in range(draw(st.integers(0, 3)))),
        predecessor=predecessor if linked else None,
        redelivers=tuple(JobId(job) for job in draw(st.lists(st.uuids(), max_size=2))) if linked else (),
    )


DATED = dated(manifest_of(1, entity_of(1, None)))


def test_an_export_with_a_start_date_says_so_and_is_of_another_version() -> None:
    document = json.loads(render(DATED))
    assert (document["schema_version"], document["start_date"]) == (2, "2026-03-09T04:15:00Z")
    assert [entity["modified"] for entity in document["entities"]] == ["dtLastModified"]
    assert parse(render(DATED)) == DATED
    assert not {"start_date", "modified"} & json.loads(render(SECOND)).keys()
    assert "modified" not in json.loads(render(SECOND))["entities"][0]


@pytest.mark.parametrize(
    ("manifest", "sentence"),
    [
        (replace(DATED, schema_version=1), "schema version is 1, but what it holds belongs to version 2"),
        (replace(SECOND, schema_version=2), "schema version is 2, but what it holds belongs to version 1"),
        (replace(SECOND, schema_version=3), "schema version is 3, but what it holds belongs to version 1"),
        (replace(DATED, schedule=SECOND.schedule), "a run of a schedule has no start date"),
        (replace(DATED, entities=FIRST.entities), "ACCOUNTS is more than what was modified since the start date"),
        (
            replace(DATED, entities=(replace(DATED.entities[0], deleted_rows=1),)),
            "ACCOUNTS is more than what was modified since the start date",
        ),
        (replace(DATED, entities=(replace(DATED.entities[0], modified=None),)), "ACCOUNTS must name what the start"),
        (
            replace(FIRST, entities=(replace(FIRST.entities[0], modified="x"),)),
            "ACCOUNTS must name what the start date was compared with if and only if there is one",
        ),
    ],
)
def test_a_start_date_that_contradicts_the_rest_is_not_written(manifest: Manifest, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        render(manifest)


@given(manifests())
def test_a_manifest_is_read_as_it_was_written(manifest: Manifest) -> None:
    document = render(manifest)
    assert parse(document) == manifest
    assert render(parse(document)) == document
    assert document.count(b"\n") == 1


@given(manifests())
def test_the_bytes_are_the_canonical_ones_of_the_whole_document(manifest: Manifest) -> None:
    """They are put together from pieces."""
    data = render(manifest)
    text = json.dumps(json.loads(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert data == text.encode() + b"\n"


def test_a_text_that_looks_like_the_place_of_fields_stays_a_text() -> None:
    odd = ManifestField(name='"fields":[]', type='\\"fields":[]')
    entity = replace(entity_of(1, None), type='"fields":[],', fields=(odd,))
    manifest = manifest_of(1, entity, entity_of(1, None, code="B"))
    assert parse(render(manifest)) == manifest


@pytest.mark.parametrize(
    "fields", [(ManifestField(name="", type="string"),), (ManifestField(name="a", type="string"),) * 2_001]
)
def test_fields_that_would_be_refused_are_not_written(fields: tuple[ManifestField, ...]) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="should have at"):
            render(manifest_of(1, replace(entity_of(1, None), fields=fields)))


def test_equal_manifests_have_equal_bytes_whatever_the_order_of_their_making() -> None:
    document = render(SECOND)
    shuffled = json.dumps(dict(reversed(json.loads(document).items())), indent=2).encode()
    assert shuffled != document
    assert render(parse(shuffled)) == document
    assert sha256_of(document) == sha256_of(render(replace(SECOND)))


def test_the_document_is_what_consumers_were_promised() -> None:
    document = json.loads(render(SECOND))
    assert document["schema_version"] == 1
    assert document["schedule"] == {"id": "00000000-0000-0000-0000-0000000001f4", "code": "daily"}
    assert document["due_at"] == "2026-03-09T06:15:00Z"
    assert document["predecessor"] == {
        "job_id": "00000000-0000-0000-0000-000000000001",
        "sha256": sha256_of(render(FIRST)),
    }
    (entity,) = document["entities"]
    assert entity["mode"] == "incremental"
    assert entity["full_reason"] is None
    assert entity["window"] == {
        "previous": "10:15:11",
        "snapshot": "20:25:21",
        "lsn": "0/16B3748",
        "taken_at": "2026-03-09T06:15:00Z",
    }
    assert entity["fields"][1] == {"name": "planId", "type": "string", "format": None, "reference": "PLANS"}
    assert entity["parts"][1] == {
        "key": "ACCOUNTS/2.0002",
        "rows": 2,
        "content_bytes": 50,
        "size_bytes": 61,
        "sha256": "1" * 64,
    }


def test_parts_with_a_row_larger_than_the_cap_are_counted_and_left_out_when_there_are_none() -> None:
    (entity,) = SECOND.entities
    assert b"oversized_parts" not in render(SECOND)
    document = render(replace(SECOND, entities=(replace(entity, oversized_parts=1),)))
    assert json.loads(document)["entities"][0]["oversized_parts"] == 1
    assert parse(document).entities[0].oversized_parts == 1
    assert parse(render(SECOND)).entities[0].oversized_parts == 0


def changed(path: str, value: Any) -> bytes:
    """The second manifest with one value replaced; ``path`` is dotted."""
    document = json.loads(render(SECOND))
    *parents, last = path.split(".")
    place = document
    for parent in parents:
        place = place[int(parent)] if isinstance(place, list) else place[parent]
    place[last] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (b"", "Invalid JSON"),
        (b"[" * 200_000, "recursion limit"),
        (b'{"a":' * 200_000, "recursion limit"),
        (b'{"schema_version":2,"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}", "recursion limit"),
        (b"\0", "Invalid JSON"),
        (b'{"schema_version":' + b"9" * 100_000 + b"}", "number out of range"),
        (b"[" + b"[]," * 600_000 + b"[]]", "more than 500000 values"),
        (b" " * ((16 << 20) + 1), "more than 16777216 bytes"),
        (b'{"redelivers":[' + b"1," * 400_000 + b"1]}", r"redelivers\.0: UUID input.*[^0-9]\.$"),
        (b"{" + b",".join(b'"%d":1' % number for number in range(50_000)) + b"}", "it has 50008 problems"),
        (changed("entities.0.code", ""), r"entities\.0\.code: String should have at least 1 character"),
        (changed("entities.0.code", "A\0B"), r"entities\.0\.code: String should match"),
        (changed("entities.0.fields.0.name", ""), r"fields\.0\.name: String should have at least 1 character"),
        (changed("entities.0.fields.0.name", "\x1b[2J"), r"fields\.0\.name: String should match"),
        (changed("entities.0.parts.0.key", ""), r"parts\.0\.key: String should have at least 1 character"),
        (changed("entities.0.parts.0.rows", 10**4_000), r"parts\.0\.rows: Input should be less than or equal to"),
        (changed("entities.0.fields", [{"name": "a", "type": "b"}] * 2_001), r"entities\.0\.fields: .* at most 2000"),
        (changed("organization", "o" * 1_001), "organization: String should have at most 1000 characters"),
        (changed("created_at", "0001-01-01T00:00:00+14:00"), "created_at: Input should be greater"),
        (changed("due_at", "9999-12-31T23:59:59-14:00"), "due_at: Input should be less"),
        (b"[]", "document: Input should be an object"),
        (b"{}", "job_id: Field required"),
        (b'{"schema_version": 4}', "written by a newer exportd .* upgrade exportd"),
        (changed("surprise", 1), "surprise: Unexpected"),
        (changed("entities.0.surprise", 1), "entities.0.surprise: Unexpected"),
        (changed("entities.0.rows", "3"), "entities.0.rows: Input should be a valid integer"),
        (changed("entities.0.rows", -1), "entities.0.rows: .*greater than or equal to 0"),
        (changed("entities.0.rows", 4), "ACCOUNTS counts 4 rows, but its parts hold others"),
        (changed("entities.0.deleted_rows", 4), "ACCOUNTS has more deleted rows than rows"),
        (changed("entities.0.oversized_parts", 3), "ACCOUNTS has more oversized parts than parts"),
        (changed("entities.0.parts", []), "ACCOUNTS counts 3 rows, but its parts hold others"),
        (changed("entities.0.mode", "partial"), "entities.0.mode"),
        (changed("entities.0.mode", "full"), "ACCOUNTS must have a reason if and only if it is full"),
        (changed("entities.0.full_reason", "FIRST_RUN"), "if and only if it is full"),
        (changed("entities.0.window.previous", None), "incremental but has no previous snapshot"),
        (changed("entities.0.window.snapshot", "1:2"), "entities.0.window.snapshot"),
        (changed("entities.0.window.taken_at", "2026-03-09T06:15:00"), "timezone"),
        (changed("entities.0.parts.0.sha256", "A" * 64), "entities.0.parts.0.sha256"),
        (changed("entities.0.parts.0.key", "ACCOUNTS/2.0002"), "an object is listed twice"),
        (changed("job_id", "7"), "job_id"),
        (changed("schedule", None), "an ad hoc export has no predecessor"),
    ],
)
def test_a_wrong_manifest_is_refused_with_the_reason(document: bytes, sentence: str) -> None:
    with pytest.raises(PermanentError, match=sentence) as caught:
        parse(document)
    assert caught.value.reason is Reason.MANIFEST_DAMAGED


def test_everything_wrong_is_said_at_once() -> None:
    with pytest.raises(PermanentError, match=r"organization: .*; due_at: .*; entities: "):
        parse(b"{}")


def test_a_manifest_that_contradicts_itself_is_not_written() -> None:
    twice = manifest_of(1, entity_of(1, None), entity_of(1, None))
    with pytest.raises(ValueError, match="an entity is listed twice; an object is listed twice"):
        render(twice)


def test_a_naive_time_is_not_written() -> None:
    with pytest.raises(ValueError, match="created_at"):
        render(replace(FIRST, created_at=datetime(2026, 1, 1)))


def test_the_published_schema_takes_what_is_written_and_nothing_that_is_damaged() -> None:
    # It has no type information.
    jsonschema: Any = import_module("jsonschema")
    validator = jsonschema.Draft202012Validator(json.loads(json_schema()))
    jsonschema.Draft202012Validator.check_schema(validator.schema)
    for manifest in (FIRST, SECOND):
        assert list(validator.iter_errors(json.loads(render(manifest)))) == []
    for damaged in (
        changed("surprise", 1),
        changed("entities.0.code", ""),
        changed("entities.0.rows", -1),
        changed("entities.0.parts.0.sha256", "A" * 64),
        changed("entities.0.window.snapshot", "1:2"),
    ):
        assert list(validator.iter_errors(json.loads(damaged)))
    assert json_schema() == (Path(__file__).parents[3] / "docs/manifest.schema.json").read_text(encoding="utf-8")
