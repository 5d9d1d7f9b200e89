"""The demo's proof against runs that the tests write, and beside a comparer that shares no code with it."""

import gzip
from pathlib import Path
from uuid import uuid4

import pytest

from exportd.catalog import document
from exportd.catalog.document import Catalog
from exportd.database.connector import Connector
from exportd.demo.proof import RecordDifference, compare, verify_exports
from exportd.model.entity import EntityCode
from exportd.model.errors import PermanentError
from exportd.model.schedule import ExportFormat
from tests.fixtures import independent_comparer
from tests.fixtures.delivered_runs import ACME, SHIPPED, DeliveredRuns, delivered_runs
from tests.fixtures.postgres import Database

CODES = ("PRODUCTS", "ACCOUNTS")
CATALOG = Catalog({EntityCode(code): SHIPPED.get(EntityCode(code)) for code in CODES})


@pytest.fixture
def rebuilt(tmp_path: Path) -> Path:
    folder = tmp_path / "rebuilt"
    folder.mkdir()
    return folder


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    folder = tmp_path / "exports"
    folder.mkdir()
    return folder


async def differences(runs: DeliveredRuns, rebuilt: Path) -> list[RecordDifference]:
    """What the proof finds; the independent comparer has to find the same records."""
    into = rebuilt / f"{uuid4()}.duckdb"
    found = await compare(runs.connection, runs.catalog, runs.directory, ACME, into=into)
    expected = await independent_comparer.compare(runs.connection, runs.catalog, runs.directory, ACME)
    assert sorted((one.entity, one.key) for one in found) == sorted((other.entity, other.key) for other in expected)
    return found


@pytest.mark.every_postgres
@pytest.mark.parametrize("file_format", list(ExportFormat))
async def test_complete_exports_of_all_entities_are_whole_and_equal_to_the_tables(
    empty_database: Database, exports: Path, rebuilt: Path, file_format: ExportFormat
) -> None:
    runs = await delivered_runs(empty_database, exports, file_format=file_format)
    await runs.run(list(SHIPPED.entities), parts=3)
    assert (await verify_exports(exports)).findings == ()
    assert await differences(runs, rebuilt) == []
    await runs.connection.close()


@pytest.mark.parametrize("file_format", list(ExportFormat))
async def test_increments_are_applied_in_their_order(
    empty_database: Database, exports: Path, rebuilt: Path, file_format: ExportFormat
) -> None:
    runs = await delivered_runs(empty_database, exports, catalog=CATALOG, file_format=file_format)
    connection = runs.connection
    await runs.run(CODES)
    for name in ("first", ' sec"ond,\\N', ""):
        await connection.execute("UPDATE public.accounts SET name = $1", name)
        await runs.run(["ACCOUNTS"], changed="true")
    assert await differences(runs, rebuilt) == []
    key = await connection.fetchval("SELECT max(id::text) FROM public.accounts WHERE organization_id = $1", ACME)
    gone = b"".join(await runs.copied("ACCOUNTS", f"t.id = '{key}'", deleted=True))
    await connection.execute("DELETE FROM public.accounts WHERE id = $1::text::uuid", key)
    assert [str(difference) for difference in await differences(runs, rebuilt)] == [
        f"ACCOUNTS {key} was exported but is not in the table"
    ]
    await runs.run(["ACCOUNTS"], changed="false", deletions=gone)
    assert (await verify_exports(exports)).findings == ()
    assert await differences(runs, rebuilt) == []
    await connection.close()


async def test_differences_are_named_with_their_fields(empty_database: Database, exports: Path, rebuilt: Path) -> None:
    runs = await delivered_runs(empty_database, exports, catalog=CATALOG)
    connection = runs.connection
    query = "SELECT id FROM public.accounts WHERE organization_id = $1 ORDER BY id LIMIT 3"
    keys = [row[0] for row in await connection.fetch(query, ACME)]
    order_number = "UPDATE public.accounts SET purchase_order_number = $2 WHERE id = $1"
    owner = "UPDATE public.accounts SET organization_id = $2 WHERE id = $1"
    await connection.execute(order_number, keys[0], None)
    await connection.execute(owner, keys[1], "org-other")
    await runs.run(CODES)
    await connection.execute(order_number, keys[0], "")
    await connection.execute(owner, keys[1], ACME)
    await connection.execute(owner, keys[2], "org-other")
    assert [str(difference) for difference in await differences(runs, rebuilt)] == [
        f"ACCOUNTS {keys[0]} differs: purchaseOrderNumber was exported as None and is ''",
        f"ACCOUNTS {keys[1]} is in the table but was not exported",
        f"ACCOUNTS {keys[2]} was exported but is not in the table",
    ]
    await connection.close()


async def test_a_record_that_one_run_exports_twice_is_a_difference(
    empty_database: Database, exports: Path, rebuilt: Path
) -> None:
    runs = await delivered_runs(empty_database, exports, catalog=CATALOG)
    await runs.run(CODES)
    key = await runs.connection.fetchval("SELECT max(id::text) FROM public.accounts WHERE organization_id = $1", ACME)
    await runs.run(["ACCOUNTS"], changed=f"t.id = '{key}'", repeated=True)
    assert [str(difference) for difference in await differences(runs, rebuilt)] == [
        f"ACCOUNTS {key} was exported more than once"
    ]
    await runs.connection.close()


async def test_an_entity_that_was_not_exported_is_a_difference(
    empty_database: Database, exports: Path, rebuilt: Path
) -> None:
    runs = await delivered_runs(empty_database, exports, catalog=CATALOG)
    await runs.run(["ACCOUNTS"])
    found = await compare(runs.connection, CATALOG, exports, ACME, into=rebuilt / "t.duckdb")
    assert [str(difference) for difference in found] == ["PRODUCTS was not exported"]
    await runs.connection.close()


async def test_an_altered_file_is_found_and_not_compared(
    empty_database: Database, exports: Path, rebuilt: Path
) -> None:
    runs = await delivered_runs(empty_database, exports, catalog=CATALOG)
    file = await runs.run(["ACCOUNTS"])
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()).replace(b"EUR", b"USD"), mtime=0))
    assert len((await verify_exports(exports)).findings) == 1
    with pytest.raises(PermanentError, match="SHA-256 differs"):
        await compare(runs.connection, CATALOG, exports, ACME, into=rebuilt / "t.duckdb")
    await runs.connection.close()


FLOATS = """
[[entity]]
code = "FLOATS"
label = "Floats"
type_token = "float"
table = "public.floats"
key = ["id"]
tenant = false
fields = ["id", "value"]
"""


async def test_a_type_that_is_not_compared_exactly_is_refused(
    empty_database: Database, exports: Path, rebuilt: Path
) -> None:
    plain = await empty_database.connect()
    await plain.execute("CREATE TABLE public.floats (id bigint PRIMARY KEY, value float8)")
    connection = await Connector(empty_database.dsn).export_connection()
    runs = DeliveredRuns(connection, document.loads(FLOATS, name="test"), exports)
    await runs.run(["FLOATS"])
    with pytest.raises(PermanentError, match="FLOATS cannot be proved equal: value has the type float8"):
        await compare(connection, runs.catalog, exports, ACME, into=rebuilt / "t.duckdb")
    await connection.close()
