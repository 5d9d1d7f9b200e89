"""Rows, keys and tenants that are too large for one value of Postgres. No write of them fails because of capture."""

from collections.abc import Sequence

import pytest

from exportd.model.errors import FullReason
from exportd.model.extraction import Mode
from tests.integration.capture.source_database import OTHER, CapturedTable, SourceDatabase

pytestmark = pytest.mark.every_postgres

MB = 1024 * 1024
# As bytea their text takes twice the space: more than 1 GB.
GIANT = f"convert_to(repeat('a', 540 * {MB}), 'UTF8')"
COLUMNS = "id int PRIMARY KEY, organization_id text, note text"


async def op(captured: CapturedTable) -> str:
    """The ops in the log, in order."""
    query = f"SELECT coalesce(string_agg(op::text, '' ORDER BY op::text), '') FROM {captured.log}"
    return str(await captured.source.app.fetchval(query))


REMOVALS: Sequence[tuple[str, str]] = (
    ("DELETE FROM things WHERE id = 1", "T"),
    ("UPDATE things SET id = 3 WHERE id = 1", "TU"),
    ("UPDATE things SET organization_id = 'other' WHERE id = 1", "TU"),
    ("TRUNCATE things", "DT"),
)


async def test_a_row_whose_text_exceeds_the_limit_can_be_removed(source: SourceDatabase) -> None:
    things = await source.capture("things", f"{COLUMNS}, giant bytea", tenant="organization_id")
    await source.app.execute(
        f"INSERT INTO things VALUES (2, 'other', 'x'); INSERT INTO things SELECT 1, 'acme', 'x', {GIANT}"
    )
    await things.forget_log()
    for write, left in REMOVALS:
        attempt = source.app.transaction()  # taken back: making such a row takes seconds
        await attempt.start()
        await source.app.execute(write)
        assert await op(things) == left, write
        assert await source.app.fetchval(f"SELECT bool_and(tenant = 'acme') FROM {things.log} WHERE op = 'T'"), (
            "only its own organization's next run is full"
        )
        await attempt.rollback()


async def test_a_row_that_cannot_even_be_put_together_can_be_removed(source: SourceDatabase) -> None:
    """Its columns together exceed 1 GB: it cannot be passed to any function."""
    things = await source.capture("things", f"{COLUMNS}, one bytea, two bytea")
    await source.app.execute("""
        ALTER TABLE things ALTER one SET STORAGE EXTERNAL, ALTER two SET STORAGE EXTERNAL;
        INSERT INTO things SELECT 1, 'acme', 'x', convert_to(repeat('a', 600000000), 'UTF8');
        UPDATE things SET two = one""")
    await things.forget_log()
    await source.app.execute("""INSERT INTO things VALUES (3, 'acme', 'x'); UPDATE things SET note = 'y';
        UPDATE things SET id = id + 10; DELETE FROM things WHERE id = 13; TRUNCATE things""")
    assert await op(things) == "DDITTUU", "of the small row there are images"


async def test_a_large_row_that_has_an_image_is_told_as_deleted(source: SourceDatabase) -> None:
    """Compressed or not, of plain and of nested types."""
    things = await source.capture(
        "things", f"{COLUMNS}, words text[], document jsonb, number numeric[]", tenant="organization_id"
    )
    await source.app.execute(f"""
        ALTER TABLE things ALTER words SET STORAGE EXTERNAL;
        INSERT INTO things VALUES
        (1, 'acme', repeat('"\\', 3 * {MB}), '{{a,"b\\"c"}}', to_jsonb(repeat('v', 100000)), '{{1,1.50}}'),
        (2, 'acme', 'short', array_fill(repeat('"', 1000), ARRAY[100]), '{{"a": 1.50}}',
            array_fill(1e100, ARRAY[5000])),
        (3, 'acme', (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 20000) AS n), NULL, NULL, NULL)""")
    await things.export()
    whole = await source.app.fetch("SELECT note FROM things ORDER BY id")
    await source.app.execute("DELETE FROM things")
    export = await things.export()
    assert (export.mode, export.keys) == (Mode.INCREMENTAL, ([], [(1,), (2,), (3,)]))
    assert [export.deleted[(number,)]["note"] for number in (1, 2, 3)] == [row["note"] for row in whole]
    assert export.deleted[(2,)]["words"] == ['"' * 1000] * 100


async def test_a_few_bytes_may_print_more_than_a_gigabyte(source: SourceDatabase) -> None:
    things = await source.capture("things", f"{COLUMNS}, numbers numeric[]")
    await source.app.execute("INSERT INTO things SELECT 1, 'acme', 'x', array_fill('1e131071'::numeric, ARRAY[10000])")
    assert await source.app.fetchval("SELECT pg_column_size(numbers) < 20000 FROM things")
    await things.forget_log()
    await source.app.execute("DELETE FROM things")
    assert await op(things) == "T"


LONG_KEYS: Sequence[tuple[str, str]] = (
    ("text", "repeat(md5(n::text), 6000)"),  # 192 kB, of which an index holds the compressed form
    ("varchar", "repeat(md5(n::text), 6000)"),
    ("citext", "repeat(md5(n::text), 600)"),
    ("bytea", "convert_to(repeat(md5(n::text), 6000), 'UTF8')"),
    ("jsonb", "to_jsonb(repeat(md5(n::text), 6000))"),
)


@pytest.mark.parametrize(("key_type", "key"), LONG_KEYS, ids=[key_type for key_type, _ in LONG_KEYS])
async def test_a_long_key_has_a_row_of_the_log_for_itself(source: SourceDatabase, key_type: str, key: str) -> None:
    """Or 10,000 of them, which a statement may well touch, would not go into one array."""
    things = await source.capture("things", f"id {key_type} PRIMARY KEY, n int, note text")
    await source.app.execute(f"INSERT INTO things SELECT {key}, n, 'x' FROM generate_series(1, 20) AS n")
    await things.export()
    await things.forget_log()
    await source.app.execute("UPDATE things SET note = 'y'")
    assert await op(things) == "U" * 20
    assert len((await things.export()).present) == 20
    await things.forget_log()
    await source.app.execute("UPDATE things SET note = 'z' WHERE n < 4; DELETE FROM things WHERE n < 3")
    assert await op(things) == "DDUUU"
    export = await things.export()
    assert (export.mode, len(export.present), len(export.deleted)) == (Mode.INCREMENTAL, 1, 2)


async def test_a_key_that_is_too_long_for_the_log_is_unknown(source: SourceDatabase) -> None:
    """No index holds it, so nothing makes it unique any more; writing it must go on all the same."""
    things = await source.capture("things", "id text PRIMARY KEY, note text")
    await source.app.execute("INSERT INTO things VALUES ('short', 'x'), ('other', 'x')")
    await things.export()
    await source.app.execute("ALTER TABLE things DROP CONSTRAINT things_pkey, ALTER id SET STORAGE EXTERNAL")
    long = f"repeat('k', 200 * {MB})"
    await source.app.execute(f"UPDATE things SET id = {long} WHERE id = 'short'")
    await things.forget_log()
    for write in (
        "UPDATE things SET note = 'y' WHERE id <> 'other'",
        "UPDATE things SET note = 'y'",
        "UPDATE things SET id = 'again' WHERE id <> 'other'",
        f"UPDATE things SET id = {long} WHERE id = 'again'",
        "DELETE FROM things WHERE id <> 'other'",
        f"INSERT INTO things VALUES ({long}, 'x')",
        f"INSERT INTO things VALUES ({long}, 'x'), ('third', 'x')",
        "TRUNCATE things",
    ):
        await source.app.execute(write)
        assert "T" in await op(things), write
        await things.forget_log()


@pytest.mark.parametrize("tenant_type", ["text", "varchar", "citext", "numeric", "jsonb", "bytea"])
async def test_a_tenant_may_be_longer_than_an_index_entry(source: SourceDatabase, tenant_type: str) -> None:
    """It is no organization's. The log has an index on it, which takes some 2,700 bytes."""
    things = await source.capture(
        "things", f"id int PRIMARY KEY, organization_id {tenant_type}, note text", tenant="organization_id"
    )
    digits = "(SELECT string_agg(translate(md5(n::text), 'abcdef', '123456'), '') FROM generate_series(1, 1000) AS n)"
    value = {
        "jsonb": f"to_jsonb({digits})",
        "bytea": f"convert_to({digits}, 'UTF8')",
        "text": digits,
        "varchar": digits,
        "citext": digits,
        "numeric": f"{digits}::numeric",
    }[tenant_type]
    short = {"jsonb": "'\"acme\"'", "numeric": "7"}.get(tenant_type, "'acme'")
    await source.app.execute(f"""
        INSERT INTO things SELECT n, {value}, 'x' FROM generate_series(1, 3) AS n;
        INSERT INTO things VALUES (4, {short}, 'x');
        UPDATE things SET note = 'y'; UPDATE things SET note = 'y' WHERE id = 1;
        UPDATE things SET organization_id = {short} WHERE id = 2;
        UPDATE things SET organization_id = {value} WHERE id = 2;
        DELETE FROM things WHERE id = 1; TRUNCATE things""")
    assert "T" not in await op(things)


async def test_a_tenant_of_the_greatest_length_is_one(source: SourceDatabase) -> None:
    """Also where it is stored compressed, as in a wide row."""
    tenant = "x" * 100
    columns = ", ".join(f"c{number} text" for number in range(40))
    things = await source.capture("things", f"{COLUMNS}, {columns}", tenant="organization_id")
    values = ", ".join(["md5('a')"] * 40)
    await source.app.execute(f"""ALTER TABLE things ALTER organization_id SET STORAGE MAIN;
        INSERT INTO things SELECT 1, '{tenant}', repeat('n', 90), {values}""")
    await source.app.execute("UPDATE things SET note = 'y'; DELETE FROM things")
    assert await source.app.fetchval(f"SELECT count(*) FROM {things.log} WHERE tenant = '{tenant}'") == 3


async def test_a_marker_of_one_organization_leaves_the_others_incremental(source: SourceDatabase) -> None:
    things = await source.capture("things", f"{COLUMNS}, numbers numeric[]", tenant="organization_id")
    await source.app.execute("""INSERT INTO things SELECT 1, 'acme', 'x', array_fill('1e131071'::numeric, ARRAY[10000]);
        INSERT INTO things VALUES (2, 'acme', 'x'), (3, 'other', 'x')""")
    await source.app.execute("DELETE FROM things WHERE id = 1")
    await things.export(OTHER)
    await things.export()
    await source.app.execute("INSERT INTO things SELECT 1, 'acme', 'x', array_fill('1e131071'::numeric, ARRAY[10000])")
    await source.app.execute("DELETE FROM things")
    assert (await things.export(OTHER)).keys == ([], [(3,)])
    export = await things.export()
    assert (export.reason, export.present) == (FullReason.CHANGES_UNKNOWN, {})
