"""Keys and tenants of every type, and names that would break what is not quoted."""

import asyncpg
import pytest

from exportd.database.quoting import identifier
from exportd.model.errors import PermanentError
from exportd.model.extraction import Mode
from tests.integration.capture.source_database import CapturedTable, SourceDatabase

pytestmark = pytest.mark.every_postgres

TYPES = {
    "bigint": "n",
    "numeric": "n + 0.50",
    "uuid": "('00000000-0000-0000-0000-00000000000' || n)::uuid",
    "text": "E'a\\\\\"'',b\\n' || n",
    "varchar(12)": "'v' || n",
    "char(6)": "'c' || n",
    "name": "('n' || n)::name",
    '"char"': "(n || '')::\"char\"",
    "citext": "'C' || n",
    "timestamptz": "timestamptz '2020-01-01 00:00:00.123456+00' + n * interval '1 day'",
    "mood": "(ARRAY['happy', 'so so', '\"sad\"'])[n]::mood",
    "code": "'k' || n",
    "folded": "'f' || n",
    "int4range": "int4range(n, n + 5)",
    'text COLLATE "C"': "'t' || n",
    "text COLLATE nocase": "'t' || n",
}


async def create_types(source: SourceDatabase) -> bool:
    """Whether nocase ignores case: only where Postgres is built with ICU may a collation do so."""
    ignores_case = True
    try:
        collation = "(provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        await source.app.execute(f"CREATE COLLATION nocase {collation}")
    except asyncpg.FeatureNotSupportedError:
        ignores_case = False
        await source.app.execute('CREATE COLLATION nocase FROM "C"')
    await source.app.execute("""
        CREATE TYPE mood AS ENUM ('happy', 'so so', '"sad"');
        CREATE DOMAIN code AS varchar(9) CHECK (VALUE <> '');
        CREATE DOMAIN folded AS text COLLATE nocase NOT NULL""")
    return ignores_case


@pytest.mark.parametrize("key_type", TYPES)
async def test_a_key_may_have_any_type(source: SourceDatabase, key_type: str) -> None:
    value = TYPES[key_type]
    await create_types(source)
    columns = f"id {key_type} PRIMARY KEY, organization_id citext, note text"
    things = await source.capture("things", columns, tenant="organization_id")
    await source.app.execute(f"INSERT INTO things SELECT {value}, 'acme', 'x' FROM generate_series(1, 3) AS n")
    assert len((await things.export()).present) == 3
    assert await things.findings() == ""
    one = f"(SELECT {value} FROM (VALUES (1)) AS v (n))"
    await source.app.execute(f"UPDATE things SET note = 'one' WHERE id = {one}")
    await source.app.execute("UPDATE things SET note = 'all'")
    await source.app.execute(f"DELETE FROM things WHERE id = {one}")
    export = await things.export()
    assert (len(export.present), len(export.deleted)) == (2, 1)
    assert await source.app.fetchval(f"SELECT count(*) FROM {things.log} WHERE op = 'T'") == 0


async def test_keys_that_their_type_calls_equal_are_two_to_readers_of_text(source: SourceDatabase) -> None:
    for key_type in ("citext", "text COLLATE nocase", "folded") if await create_types(source) else ("citext",):
        await source.app.execute("DROP TABLE IF EXISTS people")
        people = await source.capture("people", f"name {key_type} PRIMARY KEY, note text", key=("name",))
        await source.app.execute("INSERT INTO people VALUES ('bob', '1'), ('eve', '2'), ('ann', '3')")
        await people.export()
        await source.app.execute("UPDATE people SET name = 'Bob' WHERE name = 'bob'")
        assert (await people.export()).keys == ([("Bob",)], [("bob",)])
        await source.app.execute("UPDATE people SET name = upper(name::text)")
        assert (await people.export()).keys == ([("ANN",), ("BOB",), ("EVE",)], [("Bob",), ("ann",), ("eve",)])
        await source.app.execute(
            "UPDATE people SET name = 'bOB' WHERE name = 'bob'; DELETE FROM people WHERE name = 'bob'"
        )
        assert (await people.export()).keys == ([], [("BOB",), ("bOB",)])


async def test_keys_of_several_columns_one_of_them_the_tenant(source: SourceDatabase) -> None:
    things = await source.capture(
        "things",
        "organization_id varchar(20), day date, n int, note text, PRIMARY KEY (organization_id, day, n)",
        key=("organization_id", "day", "n"),
        tenant="organization_id",
    )
    await source.app.execute(
        "INSERT INTO things SELECT o, date '2020-01-01' + n, n"
        " FROM generate_series(1, 3) AS n, unnest(ARRAY['acme', 'other']) AS o"
    )
    await things.export()
    await source.app.execute(
        "UPDATE things SET n = 7 WHERE n = 1; DELETE FROM things WHERE n = 2; UPDATE things SET note = 'x' WHERE n = 3"
    )
    present, deleted = (await things.export()).keys
    assert present == [("acme", "2020-01-02", 7), ("acme", "2020-01-04", 3)]
    assert deleted == [("acme", "2020-01-02", 1), ("acme", "2020-01-03", 2)]


NAMES = [
    'say "hi"',
    "it's 100% $exportd$ $1",
    "{relation}",
    "{0} %s %I",
    "select",
    "UPPER and Space",
    "back\\slash",
    "$statement$; DROP TABLE x; --",
    "ünï\ncode\t漢字",
]


@pytest.mark.parametrize("name", NAMES)
async def test_names_are_that_name_and_nothing_else(source: SourceDatabase, name: str) -> None:
    quoted, tenant = identifier(name), identifier("t " + name)
    await source.app.execute(f"""
        CREATE TABLE {quoted} ({quoted} int PRIMARY KEY, {tenant} text, note text) PARTITION BY RANGE ({quoted});
        CREATE TABLE p (note text, {quoted} int NOT NULL, {tenant} text);
        ALTER TABLE {quoted} ATTACH PARTITION p DEFAULT""")
    captured = await source.capture(name, key=(name,), tenant="t " + name)
    await source.app.execute(f"INSERT INTO {quoted} SELECT generate_series(1, 4), 'acme', 'x'")
    await captured.export()
    await source.app.execute(f"DELETE FROM p WHERE {quoted} = 3")
    await source.app.execute(
        f"UPDATE p SET note = 'y' WHERE {quoted} = 1; UPDATE {quoted} SET {quoted} = 9 WHERE {quoted} = 2"
    )
    assert (await captured.export()).keys == ([(1,), (9,)], [(2,), (3,)])
    await source.app.execute(f"TRUNCATE {quoted}")
    assert (await captured.export()).keys == ([], [(1,), (4,), (9,)])


OUR_WORDS = [
    "found", "new", "old", "tg_op", "tg_relid", "sqlstate", "written", "present", "absent", "fetched", "row",
    "known", "position", "key_1", "tenant", "has_tenant", "image", "record", "t", "l", "k", "last", "read_back",
    "seq", "xid", "op", "n", "o", "r",
]  # fmt: skip


async def test_columns_may_have_the_names_that_we_use_ourselves(source: SourceDatabase) -> None:
    columns = ", ".join(f'"{word}" text' for word in OUR_WORDS)
    words: list[CapturedTable] = []
    for number, word in enumerate(["found", "written", "record"]):
        await source.app.execute(f'CREATE TABLE words_{number} ({columns}, PRIMARY KEY ("{word}"))')
        words.append(await source.capture(f"words_{number}", key=(word,), tenant="tg_op"))
    values = ", ".join("'acme'" if word == "tg_op" else f"'{word} ' || i" for word in OUR_WORDS)
    for number, captured in enumerate(words):
        await source.app.execute(f"INSERT INTO words_{number} SELECT {values} FROM generate_series(1, 4) AS i")
        assert len((await captured.export()).present) == 4
        key = captured.entity.key[0]
        statements = f"""UPDATE words_{number} SET "image" = 'x' WHERE "{key}" = '{key} 1';
            UPDATE words_{number} SET "{key}" = 'moved' WHERE "{key}" = '{key} 2';
            DELETE FROM words_{number} WHERE "{key}" = '{key} 3'"""
        await source.app.execute(statements)
        export = await captured.export()
        assert export.keys == (sorted([("moved",), (f"{key} 1",)]), [(f"{key} 2",), (f"{key} 3",)])
        assert export.deleted[(f"{key} 3",)] == {
            **{word: "acme" if word == "tg_op" else f"{word} 3" for word in OUR_WORDS},
            "deleted": True,
        }
        await source.app.execute(f"TRUNCATE words_{number}")
        assert len((await captured.export()).deleted) == 3


async def test_an_entity_code_may_end_like_a_part_of_another_entitys_capture(source: SourceDatabase) -> None:
    await source.app.execute("CREATE TABLE one (id int PRIMARY KEY); CREATE TABLE two (id int PRIMARY KEY)")
    stem = f"S{source.schema.upper()}"
    ends = ("", "_SEQ", "_INSERT", "_DELETE_1F")
    captured = [await source.capture("one" if end else "two", code=stem + end) for end in ends]
    await source.app.execute("INSERT INTO one VALUES (1); INSERT INTO two VALUES (2)")
    for captured_table in captured:
        assert await captured_table.findings() == ""
        assert len(await captured_table.ops()) == 1
    await source.installer.uninstall([f"log_{stem.lower()}"])
    for captured_table in captured[1:]:
        assert await captured_table.findings() == ""


async def test_an_array_as_tenant_is_refused_with_a_sentence(source: SourceDatabase) -> None:
    with pytest.raises(PermanentError, match="is an array, which holds no single organization"):
        await source.capture("things", "id int PRIMARY KEY, tenants text[]", tenant="tenants")


@pytest.mark.parametrize("key_type", ["int[]", "mood[]", "timestamptz[]"])
async def test_a_key_may_be_an_array(source: SourceDatabase, key_type: str) -> None:
    await create_types(source)
    values = {
        "int[]": ("{1,2}", "{1}", "{}", "{{1},{2}}"),
        "mood[]": ("{happy,happy}", '{"so so"}', "{}", '{"\\"sad\\""}'),
        "timestamptz[]": ("{2020-02-03 04:05:06+00,infinity}", "{2021-01-01 00:00+00}", "{}", "{NULL}"),
    }[key_type]
    await source.app.execute("SET datestyle = 'German'; SET timezone = 'America/New_York'")
    things = await source.capture("things", f"id {key_type} PRIMARY KEY, name text, note text")
    for name, value in zip("abcd", values, strict=True):
        await source.app.execute(f"INSERT INTO things VALUES ($1::text::{key_type}, $2, 'x')", value, name)
    assert len((await things.export()).present) == 4
    await source.app.execute("""UPDATE things SET note = 'y' WHERE name = 'a'; DELETE FROM things WHERE name = 'b';
        UPDATE things SET id = id || id WHERE name = 'd'""")
    export = await things.export()
    assert (export.mode, len(export.present), len(export.deleted)) == (Mode.INCREMENTAL, 2, 2)
    assert {record["name"] for record in export.deleted.values()} == {"b", "d"}


async def test_a_deferrable_key_is_exact_once_committed(source: SourceDatabase) -> None:
    things = await source.capture("things", "id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, note text")
    await source.app.execute("INSERT INTO things VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')")
    await things.export()
    async with source.app.transaction():
        await source.app.execute("UPDATE things SET id = 2 WHERE note = 'a'")  # twins, until the next statement
        await source.app.execute("UPDATE things SET id = 1 WHERE note = 'b'")
        await source.app.execute("INSERT INTO things VALUES (3, 'e')")
        await source.app.execute("DELETE FROM things WHERE note = 'c'; UPDATE things SET id = id + 10 WHERE note = 'd'")
    export = await things.export()
    assert export.keys == ([(1,), (2,), (3,), (14,)], [(4,)])
