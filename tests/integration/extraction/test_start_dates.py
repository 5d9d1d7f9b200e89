"""Exports from a start date on, compared with what Python says of the same rows."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from random import Random

import pytest

from exportd.catalog.document import Catalog
from exportd.extraction.copier import Copier, CopyTask
from exportd.extraction.previewer import Figure, Previewer
from exportd.extraction.snapshot_reader import Reader
from exportd.jobs.job_table import JobTable
from exportd.model.clock import SystemClock
from exportd.model.errors import FullReason, PermanentError, Reason
from exportd.model.extraction import Mode
from exportd.model.schedule import ExportFormat
from exportd.settings.schema import LimitSettings
from tests.fixtures.file_parsers import csv_rows
from tests.integration.capture.source_database import ACME, CapturedTable, SourceDatabase, a_job

pytestmark = pytest.mark.every_postgres

START = datetime(2026, 3, 9, 0, 30, 0, 123457, tzinfo=UTC)
"""Another day in most time zones, and with microseconds."""

MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Reading:
    """The ids that an export from ``START`` on has, and the queries that it ran."""

    ids: list[int]
    queries: list[str]


async def read(things: CapturedTable, *, streams: int = 1) -> Reading:
    """The rows of ACME by a job with the start date."""
    source, code = things.source, things.entity.code
    content: list[bytes] = []
    tasks: list[CopyTask] = []

    async def sink(chunk: bytes) -> None:
        content.append(chunk)

    async def done(task: CopyTask, _: int) -> None:
        tasks.append(task)

    job = replace(a_job([code], file_format=ExportFormat.CSV), start_date=START)
    copier = Copier(source.connector, LimitSettings(streams=streams, stream_threshold=1))
    async with source.opener.open(Reader(job, [things.entity])) as snapshot:
        window = snapshot.windows[code]
        assert (window.mode, window.full_reason, window.previous) == (Mode.INCREMENTAL, None, None)
        await copier.copy(snapshot, ExportFormat.CSV, lambda _: sink, done)
    assert not any(task.deletions for task in tasks)
    rows = csv_rows(b"".join(content))
    assert {row[-1] for row in rows} <= {"false"}
    return Reading(sorted(int(str(row[0])) for row in rows), [task.statement for task in tasks])


async def capture(source: SourceDatabase, type_: str, values: Iterable[str | None]) -> CapturedTable:
    """A table whose row number n has the n-th value, and one of another organization besides."""
    things = await source.capture("things", f"id int PRIMARY KEY, org text, changed {type_}", tenant="org")
    rows = [(number, ACME, value) for number, value in enumerate(values)]
    await source.app.executemany("INSERT INTO things VALUES ($1, $2, $3::text::" + type_ + ")", rows)
    await source.app.execute("INSERT INTO things SELECT -1 - id, 'other', changed FROM things")
    return things.with_entity(replace(things.entity, modified="changed"))


def around(random: Random) -> list[datetime]:
    """The instant, what is just before and after it, and others up to two days away."""
    near = [START + offset * MICROSECOND for offset in (-2, -1, 0, 1, 2, -457, -456)]
    return near + [START + random.randint(-172_800_000_000, 172_800_000_000) * MICROSECOND for _ in range(300)]


async def test_a_preview_counts_what_the_export_holds_or_says_that_it_estimates(source: SourceDatabase) -> None:
    times = [START + offset * MICROSECOND for offset in range(-50, 30)]
    things = await capture(source, "timestamptz", [*(time.isoformat() for time in times), None])
    await source.app.execute("ANALYZE things")
    code, catalog = things.entity.code, Catalog({things.entity.code: things.entity})
    async with source.connector.pool(1) as pool:
        looks = (Previewer(catalog, source.connector, JobTable(pool), SystemClock(), counting_s=s) for s in (60, 0))
        counted, hurried = [await look.preview_export(ACME, [code], ExportFormat.CSV, START) for look in looks]
        complete = await Previewer(catalog, source.connector, JobTable(pool), SystemClock()).preview_export(
            ACME, [code], ExportFormat.JSONL, None
        )
    (found,) = counted.entities
    assert (found.mode, found.rows, found.deleted_rows) == (Mode.INCREMENTAL, len((await read(things)).ids), 0)
    assert found.rows == 31
    assert Figure.ROWS not in found.estimated
    assert Figure.ROWS in hurried.entities[0].estimated
    assert hurried.entities[0].rows >= found.rows
    (whole,) = complete.entities
    assert (whole.mode, whole.full_reason, whole.rows) == (Mode.FULL, FullReason.AD_HOC, len(times) + 1)


@pytest.mark.parametrize("type_", ["timestamptz", "timestamp", "moment"])
async def test_it_has_what_was_modified_at_the_instant_or_later(source: SourceDatabase, type_: str) -> None:
    await source.app.execute("CREATE DOMAIN moment AS timestamptz")
    times = around(Random(type_))
    zone = "" if type_ == "timestamp" else "+00"
    spelled = [f"{time.replace(tzinfo=None).isoformat()}{zone}" for time in times]
    things = await capture(source, type_, [*spelled, None, "infinity", "-infinity"])
    expected = [number for number, time in enumerate(times) if time >= START] + [len(times), len(times) + 1]
    assert (await read(things)).ids == expected

    # By an index, and by several streams of one table.
    await source.app.execute("CREATE INDEX ON things (changed); ANALYZE things")
    by_streams = await read(things, streams=2)
    assert by_streams.ids == expected
    assert len(by_streams.queries) == 2


async def test_a_day_is_exported_whole(source: SourceDatabase) -> None:
    days = [date(2026, 3, 9) + timedelta(days=number) for number in range(-3, 4)]
    things = await capture(source, "date", [*map(str, days), None, "infinity", "-infinity"])
    assert (await read(things)).ids == [3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("type_", ["timestamptz", "timestamp", "date"])
async def test_the_settings_of_a_session_do_not_matter(source: SourceDatabase, type_: str) -> None:
    things = await capture(source, type_, [f"2026-03-{day:02} 00:30:00.123457+00" for day in range(1, 20)])
    reading = await read(things)
    assert len(reading.ids) == 11
    (query,) = reading.queries
    for zone in ("Asia/Kathmandu", "America/Los_Angeles"):
        await source.app.execute(f"SET timezone = '{zone}'; SET datestyle = 'German, DMY'")
        rows = await source.app.fetch(query)
        assert sorted(row["id"] for row in rows) == reading.ids


async def test_deleted_records_are_not_named(source: SourceDatabase) -> None:
    things = await capture(source, "timestamptz", [START.isoformat()] * 4)
    await things.run()
    await source.app.execute("DELETE FROM things WHERE id = 2")
    assert (await read(things)).ids == [0, 1, 3]


async def test_without_a_column_of_the_last_change_it_is_refused(source: SourceDatabase) -> None:
    things = await capture(source, "timestamptz", [START.isoformat()])
    plain = things.with_entity(replace(things.entity, modified=None))
    with pytest.raises(PermanentError, match=f"Entity {things.entity.code}: the catalog names no column") as none:
        await read(plain)
    await source.app.execute("ALTER TABLE things ALTER changed TYPE text")
    with pytest.raises(PermanentError, match="has no column changed that holds times") as other:
        await read(things)
    assert {none.value.reason, other.value.reason} == {Reason.CATALOG_MISMATCH}
