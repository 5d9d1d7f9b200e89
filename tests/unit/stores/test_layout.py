"""Keys are those of the documented layout, and can be read back."""

from datetime import date, datetime, timedelta, timezone
from pathlib import PurePosixPath
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.model.entity import OrganizationId
from exportd.model.job import JobId
from exportd.model.schedule import ExportFormat
from exportd.stores.layout import (
    Layout,
    ManifestName,
    ObjectKey,
    ObjectName,
    PartitionOrder,
    ScriptName,
    build,
    check_key,
    content_type,
    file_name,
    key_of_file,
    metadata_of,
    organization_folder,
    parse,
)

JOB = JobId(UUID("3f0c6d5e-0000-4000-8000-000000000001"))
ACCOUNTS = ObjectName(OrganizationId("org-1"), date(2026, 3, 9), 4, "account", JOB, 1, ExportFormat.CSV)


@pytest.mark.parametrize(
    ("layout", "key"),
    [
        (
            Layout("m3"),
            f"m3/orgId=org-1/date=2026-03-09/hour=04/type=account/{JOB}_account.csv.gz",
        ),
        (
            Layout("/m3/exports/", PartitionOrder.TYPE_FIRST),
            f"m3/exports/orgId=org-1/type=account/date=2026-03-09/hour=04/{JOB}_account.csv.gz",
        ),
        (Layout(), f"orgId=org-1/date=2026-03-09/hour=04/type=account/{JOB}_account.csv.gz"),
    ],
)
def test_a_part_lies_where_the_layout_says(layout: Layout, key: str) -> None:
    assert build(ACCOUNTS, layout) == key


def test_further_parts_are_numbered() -> None:
    second = ObjectName(ACCOUNTS.organization, ACCOUNTS.day, ACCOUNTS.hour, "account", JOB, 2, ExportFormat.JSONL)
    assert build(second, Layout()).endswith(f"/{JOB}_account.0002.jsonl.gz")


def test_a_loader_script_lies_beside_the_manifests() -> None:
    name = ScriptName(OrganizationId("org-1"), JOB, "duckdb")
    key = build(name, Layout("m3"))
    assert key == f"m3/orgId=org-1/_loaders/{JOB}.duckdb.sql"
    assert parse(key, Layout("m3")) == name


def test_a_manifest_lies_beside_the_data_of_its_organization() -> None:
    name = ManifestName(OrganizationId("org-1"), JOB)
    assert build(name, Layout("m3")) == f"m3/orgId=org-1/_manifests/{JOB}.json"


def test_date_and_hour_are_those_in_utc() -> None:
    due_at = datetime(2026, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    file = file_name(JOB, "account", 1, ExportFormat.CSV)
    name = parse(key_of_file(file, OrganizationId("org-1"), due_at, Layout()), Layout())
    assert isinstance(name, ObjectName)
    assert (name.day, name.hour) == (date(2025, 12, 31), 23)


ORGANIZATIONS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("/.%= \\\0~"), min_size=1).map(
    OrganizationId
)
JOBS = st.uuids().map(JobId)
OBJECTS = st.builds(
    ObjectName,
    organization=ORGANIZATIONS,
    day=st.dates(),
    hour=st.integers(0, 23),
    type_token=st.from_regex(r"[a-z0-9]+", fullmatch=True),
    job=JOBS,
    number=st.integers(1, 20_000),
    file_format=st.sampled_from(ExportFormat),
)
NAMES = st.one_of(OBJECTS, st.builds(ManifestName, organization=ORGANIZATIONS, job=JOBS))
PREFIXES = st.lists(
    st.text(st.sampled_from("ab.=-é+("), min_size=1).filter(lambda segment: segment not in {".", ".."}),
    max_size=3,
).map("/".join)
LAYOUTS = st.builds(Layout, prefix=PREFIXES, order=st.sampled_from(PartitionOrder))


@given(NAMES, LAYOUTS)
def test_every_key_is_read_back(name: ObjectName | ManifestName, layout: Layout) -> None:
    assert parse(build(name, layout), layout) == name


@given(NAMES, LAYOUTS)
def test_no_organization_can_leave_its_folder(name: ObjectName | ManifestName, layout: Layout) -> None:
    key = build(name, layout)
    check_key(key)
    folder = organization_folder(name.organization, layout)
    assert key.startswith(folder)
    depth = len(PurePosixPath(layout.prefix).parts) if layout.prefix else 0
    assert len(key.split("/")) == depth + (5 if isinstance(name, ObjectName) else 3)


@given(OBJECTS, OBJECTS, LAYOUTS)
def test_different_names_have_different_keys(one: ObjectName, other: ObjectName, layout: Layout) -> None:
    assert (build(one, layout) == build(other, layout)) == (one == other)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "orgId=o",
        f"other/orgId=org-1/_manifests/{JOB}.json",
        f"orgId=org-1/_manifests/{JOB}.json",
        f"m3/orgId=org-1/_manifests/{str(JOB).upper()}.json",
        f"m3/orgId=%6Frg-1/_manifests/{JOB}.json",
        f"m3/orgId=org-1/_manifests/{JOB}.json/x",
        f"m3/orgId=org-1/date=2026-02-30/hour=04/type=account/{JOB}_account.csv.gz",
        f"m3/orgId=org-1/date=2026-03-09/hour=24/type=account/{JOB}_account.csv.gz",
        f"m3/orgId=org-1/date=2026-03-09/hour=04/type=meter/{JOB}_account.csv.gz",
        f"m3/orgId=org-1/date=2026-03-09/hour=04/type=account/{JOB}_account.0001.csv.gz",
        f"m3/orgId=org-1/date=2026-03-09/hour=04/type=account/{JOB}_account.00002.csv.gz",
        f"m3/orgId=org-1/date=2026-03-09/hour=04/type=account/{JOB}_account.parquet",
        f"m3/orgId=org-1/type=account/date=2026-03-09/hour=04/{JOB}_account.csv.gz",
    ],
)
def test_other_keys_are_not_ours(key: str) -> None:
    assert parse(key, Layout("m3")) is None


@pytest.mark.parametrize("prefix", ["..", "a/../b", "a//b", "./a", "a\nb", "a\0", "a\udc80"])
def test_a_prefix_must_be_a_plain_path(prefix: str) -> None:
    with pytest.raises(ValueError, match="is not a key"):
        Layout(prefix)


def test_an_organization_needs_an_id() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        organization_folder(OrganizationId(""), Layout())


def test_an_object_says_whose_it_is_and_what_it_holds() -> None:
    job = "0195a1b2-0000-7000-8000-000000000001"
    part = ObjectKey(f"p/orgId=a/type=account/{job}_account.0002.csv.gz")
    assert metadata_of(part) == {"exportd-job": job}
    assert metadata_of(ObjectKey(f"orgId=a/_manifests/{job}.json"), b"{}\n") == {
        "exportd-job": job,
        "exportd-sha256": "ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356",
    }
    assert metadata_of(ObjectKey("orgId=a/probe")) == {}
    assert [content_type(ObjectKey(f"a.{end}")) for end in ("csv.gz", "json", "duckdb.sql", "x")] == [
        *("application/gzip", "application/json", "application/sql", "application/octet-stream")
    ]
