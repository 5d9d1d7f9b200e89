"""The replay against files that are written here, with the exporter's spelling of values but none of its machinery."""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from exportd.catalog import document
from exportd.catalog.document import Catalog
from exportd.catalog.shape_reader import read_shapes
from exportd.database.connector import Connection, Connector
from exportd.demo.generator import fill
from exportd.demo.installer import create_tables
from exportd.demo.replay import Difference, DifferenceKind, compare
from exportd.extraction.projection import column_types, csv_header, select_list
from exportd.extraction.statement import copy_options
from exportd.manifest.document import (
    Manifest,
    ManifestEntity,
    ManifestField,
    ManifestPart,
    ManifestSchedule,
    ManifestWindow,
    Predecessor,
    parse,
    render,
    sha256_of,
)
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import PermanentError
from exportd.model.extraction import Mode
from exportd.model.job import JobId
from exportd.model.reason import FullReason
from exportd.model.schedule import ExportFormat, ScheduleId
from exportd.stores.layout import Layout, ManifestName, build
from tests.fixtures.postgres import Database

SHIPPED = document.load(Path(__file__).parents[3] / "config" / "entities.toml")
ACME = OrganizationId("org-acme")
ACCOUNTS = EntityCode("ACCOUNTS")


@dataclass
class Warehouse:
    """Writes runs of a schedule into a directory."""

    connection: Connection
    catalog: Catalog
    directory: Path
    file_format: ExportFormat = ExportFormat.CSV
    schedule: ManifestSchedule = field(default_factory=lambda: ManifestSchedule(id=ScheduleId(uuid4()), code="nightly"))
    _predecessor: Predecessor | None = None
    _snapshot: str | None = None
    _runs: int = 0

    async def run(
        self, codes: Sequence[str], *, changed: str | None = None, deletions: bytes = b"", parts: int = 1
    ) -> Path:
        """A run of these entities: full, or what the condition ``changed`` finds and some lines of deletions."""
        self._runs += 1
        job = JobId(uuid4())
        snapshot = f"{self._runs}:{self._runs}:"
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=self._runs)
        entities = []
        for code in codes:
            entity = self.catalog.get(EntityCode(code))
            lines = (await self.copied(code, changed)) + deletions.splitlines(keepends=True)
            cut = [len(lines) * number // parts for number in range(parts + 1)]
            header = csv_header(entity) if self.file_format is ExportFormat.CSV else b""
            files = []
            for number in range(parts):
                rows = lines[cut[number] : cut[number + 1]]
                path = self.directory / f"{job}_{code}_{number}.gz"
                path.write_bytes(gzip.compress(header + b"".join(rows), mtime=0))
                files.append(
                    ManifestPart(key=path.name, rows=len(rows), content_bytes=0, size_bytes=0, sha256="0" * 64)
                )
            entities.append(
                ManifestEntity(
                    code=entity.code,
                    type=entity.type_token,
                    mode=Mode.FULL if changed is None else Mode.INCREMENTAL,
                    full_reason=FullReason.FIRST_RUN if changed is None else None,
                    window=ManifestWindow(
                        previous=None if changed is None else self._snapshot, snapshot=snapshot, lsn="0/0", taken_at=at
                    ),
                    key=entity.key,
                    tenant=entity.tenant,
                    fields=tuple(ManifestField(name=field_name, type="string") for field_name in entity.field_names),
                    rows=len(lines),
                    deleted_rows=len(deletions.splitlines()),
                    parts=tuple(files),
                )
            )
        manifest = Manifest(
            job_id=job,
            organization=ACME,
            schedule=self.schedule,
            due_at=at,
            created_at=at,
            format=self.file_format,
            entities=tuple(entities),
            predecessor=self._predecessor,
        )
        path = self.directory / build(ManifestName(ACME, job), Layout())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(render(manifest))
        self._predecessor, self._snapshot = Predecessor(job_id=job, sha256=sha256_of(render(manifest))), snapshot
        return self.directory / entities[0].parts[0].key

    async def copied(self, code: str, condition: str | None, *, deleted: bool = False) -> list[bytes]:
        """Records as the exporter spells them, one a line (so none with a line break in it)."""
        entity = self.catalog.get(EntityCode(code))
        shape = (await read_shapes(self.connection, [entity]))[entity.code]
        values = select_list(entity, self.file_format, column_types(shape.root), deleted=deleted)
        where = f"t.{entity.tenant} = '{ACME}'" if entity.tenant else "true"
        query = f"SELECT {values} FROM {entity.table} AS t WHERE {where} AND ({condition or 'true'})"
        if self.file_format is ExportFormat.JSONL:
            query = f"SELECT row_to_json(record) FROM ({query}) AS record"
        content, options = BytesIO(), copy_options(self.file_format)
        await self.connection.copy_from_query(
            query, output=content, format="csv", delimiter=options.delimiter, quote=options.quote
        )
        return content.getvalue().splitlines(keepends=True)

    async def compare(self) -> list[Difference]:
        return await compare(self.connection, self.catalog, self.directory, ACME)


async def warehouse(
    database: Database, directory: Path, *, catalog: Catalog = SHIPPED, file_format: ExportFormat = ExportFormat.CSV
) -> Warehouse:
    plain = await database.connect()
    await create_tables(plain)
    await fill(plain, rows=600)
    # Line breaks in texts would make two lines of a record of CSV, which the helper above counts.
    await plain.execute("UPDATE contracts SET description = 'plain'; UPDATE charges SET description = 'plain'")
    connection = await Connector(database.dsn).export_connection()
    return Warehouse(connection, catalog, directory, file_format)


@pytest.mark.parametrize("file_format", list(ExportFormat))
async def test_a_complete_export_of_all_entities_is_equal_to_the_tables(
    empty_database: Database, tmp_path: Path, file_format: ExportFormat
) -> None:
    house = await warehouse(empty_database, tmp_path, file_format=file_format)
    await house.run(list(SHIPPED.entities), parts=3)
    assert await house.compare() == []
    await house.connection.close()


@pytest.mark.parametrize("file_format", list(ExportFormat))
async def test_increments_are_applied_in_their_order(
    empty_database: Database, tmp_path: Path, file_format: ExportFormat
) -> None:
    house = await warehouse(empty_database, tmp_path, file_format=file_format)
    connection = house.connection
    await house.run(["PRODUCTS", "ACCOUNTS"])
    for name in ("first", "second"):
        await connection.execute("UPDATE public.accounts SET name = $1", name)
        await house.run(["ACCOUNTS"], changed="true")
    key = await connection.fetchval("SELECT max(id::text) FROM public.accounts WHERE organization_id = $1", ACME)
    condition = f"t.id = '{key}'"
    gone = b"".join(await house.copied("ACCOUNTS", condition, deleted=True))
    await connection.execute("DELETE FROM public.accounts WHERE id = $1::text::uuid", key)
    assert [(each.kind, each.key) for each in await house.compare()] == [(DifferenceKind.SURPLUS, (key,))]
    await house.run(["ACCOUNTS"], changed="false", deletions=gone)
    assert await house.compare() == []
    await connection.execute("DELETE FROM public.charges; DELETE FROM public.accounts")
    await house.run(["ACCOUNTS"])
    assert await house.compare() == []
    await connection.close()


async def test_differences_are_named_with_their_fields(empty_database: Database, tmp_path: Path) -> None:
    house = await warehouse(empty_database, tmp_path)
    connection = house.connection
    keys = [
        row[0]
        for row in await connection.fetch(
            "SELECT id FROM public.accounts WHERE organization_id = $1 AND name IS NOT NULL ORDER BY id LIMIT 3", ACME
        )
    ]
    await connection.execute("UPDATE public.accounts SET purchase_order_number = NULL WHERE id = $1", keys[0])
    await connection.execute("UPDATE public.accounts SET organization_id = 'org-other' WHERE id = $1", keys[1])
    await house.run(["ACCOUNTS"])
    await connection.execute("UPDATE public.accounts SET purchase_order_number = '' WHERE id = $1", keys[0])
    await connection.execute("UPDATE public.accounts SET organization_id = $2 WHERE id = $1", keys[1], ACME)
    await connection.execute("UPDATE public.accounts SET organization_id = 'org-other' WHERE id = $1", keys[2])
    found = await house.compare()
    assert {(each.kind, each.key[0]) for each in found} == {
        (DifferenceKind.UNEQUAL, str(keys[0])),
        (DifferenceKind.MISSING, str(keys[1])),
        (DifferenceKind.SURPLUS, str(keys[2])),
    }
    unequal = next(each for each in found if each.kind is DifferenceKind.UNEQUAL)
    assert unequal.fields == {"purchaseOrderNumber": (None, "")}
    assert str(unequal) == f"ACCOUNTS {keys[0]} unequal: purchaseOrderNumber was exported as None and is ''"
    await connection.close()


async def test_a_record_that_comes_twice_in_a_run_is_named(empty_database: Database, tmp_path: Path) -> None:
    house = await warehouse(empty_database, tmp_path)
    await house.run(["ACCOUNTS"], changed=None)
    key = await house.connection.fetchval("SELECT id FROM public.accounts WHERE organization_id = $1", ACME)
    twice = await house.copied("ACCOUNTS", f"t.id = '{key}'") * 2
    file = await house.run(["ACCOUNTS"], changed="false", deletions=b"".join(twice))
    rewrite_manifest(file, tmp_path, deleted_rows=0)
    assert [(each.kind, each.key) for each in await house.compare()] == [(DifferenceKind.REPEATED, (str(key),))]
    await house.connection.close()


def rewrite_manifest(file: Path, directory: Path, *, deleted_rows: int) -> None:
    """Makes the last manifest say another number of deletions."""
    path = directory / build(ManifestName(ACME, JobId(UUID(file.name[:36]))), Layout())
    manifest = parse(path.read_bytes())
    entities = tuple(replace(entity, deleted_rows=deleted_rows) for entity in manifest.entities)
    path.write_bytes(render(replace(manifest, entities=entities)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no gzip", "Not a gzipped file"),
        (gzip.compress(b""), "its header is not"),
        (gzip.compress(b"id,wrong\n"), "its header is not"),
        (gzip.compress(csv_header(SHIPPED.get(ACCOUNTS))), "the manifest says"),
        (gzip.compress(csv_header(SHIPPED.get(ACCOUNTS)) + b"a,b\n"), "2 cells instead of 19"),
        (gzip.compress(csv_header(SHIPPED.get(ACCOUNTS)))[:-9], "cannot be read"),
    ],
)
async def test_a_damaged_file_is_told_from_a_difference(
    empty_database: Database, tmp_path: Path, content: bytes, words: str
) -> None:
    house = await warehouse(empty_database, tmp_path)
    file = await house.run(["ACCOUNTS"])
    file.write_bytes(content)
    with pytest.raises(PermanentError, match=words):
        await house.compare()
    await house.connection.close()


async def test_a_missing_manifest_is_told_from_a_difference(empty_database: Database, tmp_path: Path) -> None:
    house = await warehouse(empty_database, tmp_path)
    with pytest.raises(PermanentError, match="does not hold a single schedule; there are: none"):
        await house.compare()
    file = await house.run(["ACCOUNTS"])
    await house.run(["ACCOUNTS"], changed="false")
    (tmp_path / build(ManifestName(ACME, JobId(UUID(file.name[:36]))), Layout())).unlink()
    with pytest.raises(PermanentError, match="not here"):
        await house.compare()
    await house.connection.close()


async def test_of_several_schedules_one_must_be_named(empty_database: Database, tmp_path: Path) -> None:
    house = await warehouse(empty_database, tmp_path)
    await house.run(["ACCOUNTS"])
    other = Warehouse(
        house.connection, SHIPPED, tmp_path, schedule=ManifestSchedule(id=ScheduleId(uuid4()), code="weekly")
    )
    await other.run(["PRODUCTS"])
    with pytest.raises(PermanentError, match="there are: nightly, weekly"):
        await house.compare()
    assert await compare(house.connection, SHIPPED, tmp_path, ACME, schedule="weekly") == []
    await house.connection.close()


AWKWARD = """
CREATE TYPE public.mood AS ENUM ('fine', 'so, so');
CREATE TYPE public.pair AS (a integer, b text);
CREATE DOMAIN public.instant AS timestamptz;
CREATE TABLE public.awkward (
    id bigint, part text, flag boolean, small smallint, real_number real, double_number double precision,
    money_value money, amount numeric, padded char(5), bytes bytea, day date, clock time, zoned_clock timetz,
    at timestamp, zoned_at timestamptz, domain_at public.instant, span interval, network inet, raw json,
    document jsonb, words text[], grid integer[], whens timestamptz[], state public.mood, two public.pair,
    reach int4range, bits bit varying, place point, key uuid,
    PRIMARY KEY (id, part)
);
INSERT INTO public.awkward VALUES
    (1, 'a,b', true, 1, 0.1, 1e300,
     12.30, 'NaN', 'ab', '\\xdead00', '0044-03-15 BC', '12:30', '12:30+05:30',
     'infinity', '0044-03-15 12:00 BC', '-infinity', '1 year -3 days 04:05:06.789', '10.0.0.1',
     '{"b": 1, "a": [1.50, -0]}',
     '"text"', ARRAY['x', 'a "b", c', NULL, ''], '{{1,2},{3,4}}', ARRAY[timestamptz '2026-01-01 00:00:00.5+02'],
     'so, so', ROW(NULL, 'x "y"'),
     '[1,5)', B'101', '(1.5,2)', '11111111-2222-3333-4444-555555555555'),
    (2, '', false, -1, 'Infinity', '-0',
     -0.5, 12345678901234567890.123400, '', '', 'infinity', '24:00', '00:00-12',
     '2026-01-01 00:00:00.000001', '2026-06-01 12:00:00.120+02', now(), '-1 microsecond', '10.0.0.0/8', '[]',
     'null', '{}', '{}', '{}', 'fine', ROW(1, NULL),
     'empty', B'', '(0,0)', NULL);
INSERT INTO public.awkward (id, part) VALUES (3, ' \\. ');
"""

AWKWARD_CATALOG = """
[[entity]]
code = "AWKWARD"
label = "Awkward"
type_token = "awkward"
table = "public.awkward"
key = ["id", "part"]
tenant = false
fields = [
    "id", "part", "flag", "small", "real_number", "double_number", "money_value", "amount", "padded", "bytes", "day",
    "clock", "zoned_clock", "at", "zoned_at", "domain_at", "span", "network", "raw", "document", "words", "grid",
    "whens", "state", "two", "reach", "bits", "place", "key",
]
"""


@pytest.mark.every_postgres
@pytest.mark.parametrize("file_format", list(ExportFormat))
async def test_values_of_every_type_are_compared_in_the_spelling_of_the_exporter(
    empty_database: Database, tmp_path: Path, file_format: ExportFormat
) -> None:
    plain = await empty_database.connect()
    await plain.execute("SET datestyle = ISO; SET intervalstyle = postgres")
    await plain.execute(AWKWARD)
    connection = await Connector(empty_database.dsn).export_connection()
    house = Warehouse(connection, document.loads(AWKWARD_CATALOG, name="test"), tmp_path, file_format)
    await house.run(["AWKWARD"])
    assert [str(each) for each in await house.compare()] == []
    await connection.execute("UPDATE public.awkward SET bits = '1' WHERE id = 3")
    found = await house.compare()
    assert [each.key for each in found] == [("3", " \\. ")]
    await connection.close()
