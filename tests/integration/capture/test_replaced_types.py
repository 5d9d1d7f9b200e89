"""The application replaces and drops types of its keys and tenants, as migration tools do. We are not in the way."""

from dataclasses import dataclass

import pytest

from exportd.model.errors import FullReason
from exportd.model.extraction import Mode
from tests.integration.capture.source_database import SourceDatabase, bare_log

pytestmark = pytest.mark.every_postgres


@dataclass(frozen=True)
class Replacement:
    """A type, two of its values, how it is replaced, and what makes it be gone."""

    name: str
    create: str
    values: tuple[str, str]
    replace: str


ENUM = "CREATE TYPE kind AS ENUM ('bill', 'order', 'old')"
REPLACEMENTS = (
    # Prisma and Rails: a new type, the columns are moved to it, the old one is dropped.
    Replacement(
        "enum",
        ENUM,
        ("bill", "order"),
        """CREATE TYPE kind_new AS ENUM ('order', 'bill', 'new');
           ALTER TABLE things ALTER kind TYPE kind_new USING kind::text::kind_new;
           ALTER TYPE kind RENAME TO kind_old; ALTER TYPE kind_new RENAME TO kind; DROP TYPE kind_old""",
    ),
    # Alembic: by way of text.
    Replacement(
        "enum by text",
        ENUM,
        ("bill", "order"),
        """ALTER TABLE things ALTER kind TYPE text; DROP TYPE kind; CREATE TYPE kind AS ENUM ('bill', 'order');
           ALTER TABLE things ALTER kind TYPE kind USING kind::kind""",
    ),
    Replacement(
        "domain over an enum",
        "CREATE TYPE kind_ AS ENUM ('bill', 'order'); CREATE DOMAIN kind AS kind_",
        ("bill", "order"),
        "ALTER TABLE things ALTER kind TYPE text; DROP DOMAIN kind; DROP TYPE kind_",
    ),
    Replacement(
        "domain",
        "CREATE DOMAIN kind AS text",
        ("bill", "order"),
        "ALTER TABLE things ALTER kind TYPE text; DROP DOMAIN kind",
    ),
    Replacement(
        "composite",
        "CREATE TYPE kind AS (one int, at timestamptz)",
        ("(1,2020-01-01 00:00:00+00)", "(2,)"),
        "ALTER TABLE things ALTER kind TYPE text USING kind::text; DROP TYPE kind",
    ),
    Replacement(
        "range",
        "CREATE TYPE kind AS RANGE (subtype = timestamp)",
        ("[2020-01-01,2020-03-01)", "[2021-01-01,2021-03-01)"),
        "ALTER TABLE things ALTER kind TYPE text USING kind::text; DROP TYPE kind",
    ),
)


@pytest.mark.parametrize("replacement", REPLACEMENTS, ids=lambda replacement: replacement.name)
@pytest.mark.parametrize("role", ["key", "tenant"])
async def test_a_type_can_be_replaced_and_dropped(source: SourceDatabase, replacement: Replacement, role: str) -> None:
    one, two = replacement.values
    await source.app.execute(replacement.create)
    await source.app.execute(
        "CREATE TABLE things (kind kind, id int, organization_id text, note text, PRIMARY KEY (kind, id))"
    )
    key, tenant = (("kind", "id"), "organization_id") if role == "key" else (("id",), "kind")
    things = await source.capture("things", key=key, tenant=tenant)
    await source.app.execute(
        f"INSERT INTO things SELECT '{one}', n, 'acme', 'x' FROM generate_series(1, 3) AS n;"
        f"INSERT INTO things SELECT '{two}', n, 'acme', 'x' FROM generate_series(11, 13) AS n"
    )
    await source.app.execute(replacement.replace)
    await source.app.execute("UPDATE things SET note = 'y'; DELETE FROM things WHERE id = 1")
    await things.install()
    assert await things.findings() == ""


async def test_changes_of_such_keys_are_exact(source: SourceDatabase) -> None:
    """In any session's spelling: the keys are logged as exports read them."""
    await source.app.execute(f"""{ENUM}; CREATE TYPE period AS RANGE (subtype = timestamptz)""")
    things = await source.capture(
        "things",
        "kind kind, period period, name citext, note text, PRIMARY KEY (kind, period, name)",
        key=("kind", "period", "name"),
    )
    await source.app.execute("SET datestyle = 'SQL, DMY'; SET timezone = 'Asia/Kolkata'")
    await source.app.execute("""INSERT INTO things
        SELECT 'bill', period(timestamptz '2020-02-03', timestamptz '2020-02-03' + n * interval '1 day'), 'N' || n, 'x'
        FROM generate_series(1, 4) AS n""")
    await things.export()
    await source.app.execute("SET datestyle = 'German'; SET timezone = 'America/New_York'")
    await source.app.execute("""UPDATE things SET note = 'y' WHERE name = 'n1';
        UPDATE things SET kind = 'order' WHERE name = 'n2'; DELETE FROM things WHERE name = 'n3';
        UPDATE things SET name = 'n4' WHERE name = 'n4'""")
    export = await things.export()
    assert export.mode is Mode.INCREMENTAL
    assert sorted((key[0], key[2]) for key in export.present) == [("bill", "N1"), ("bill", "n4"), ("order", "N2")]
    assert sorted((key[0], key[2]) for key in export.deleted) == [("bill", "N2"), ("bill", "N3"), ("bill", "N4")]
    await source.app.execute("ALTER TYPE kind RENAME VALUE 'old' TO 'older'")
    await source.app.execute("DELETE FROM things; INSERT INTO things SELECT 'older', 'empty', 'last', ''")
    assert (await things.export()).reason in {None, FullReason.COLUMNS_CHANGED}


async def test_an_extension_can_be_dropped(source: SourceDatabase) -> None:
    await source.app.execute("CREATE EXTENSION ltree")
    things = await source.capture(
        "things", "id ltree PRIMARY KEY, organization_id ltree, note text", tenant="organization_id"
    )
    await source.app.execute(
        "INSERT INTO things VALUES ('a.b', 'acme', 'x'), ('a.c', 'acme', 'x'), ('d', 'other', 'x')"
    )
    await things.export()
    await source.app.execute("UPDATE things SET note = 'y' WHERE id = 'a.b'; DELETE FROM things WHERE id = 'a.c'")
    assert (await things.export()).keys == ([("a.b",)], [("a.c",)])
    await source.app.execute("""ALTER TABLE things ALTER id TYPE text, ALTER organization_id TYPE text;
        DROP EXTENSION ltree; DELETE FROM things""")


async def test_a_log_of_an_older_version_is_made_anew(source: SourceDatabase) -> None:
    """It had the key in its own type, and functions for that type."""
    await source.app.execute(ENUM)
    things = await source.capture("things", "id kind PRIMARY KEY, note text")
    log, stem = things.log, f"exportd.{bare_log(things)}"
    await source.app.execute(f"""
        ALTER TABLE {log} ALTER key_1 TYPE kind[] USING key_1::kind[];
        DROP FUNCTION {stem}_key_1(exportd.absent, exportd.absent, bigint);
        DROP FUNCTION {stem}_key_1(anyelement, anyelement, integer);
        CREATE FUNCTION {stem}_key_1(kind, kind, bigint) RETURNS kind LANGUAGE sql IMMUTABLE AS 'SELECT $1';
        CREATE FUNCTION {stem}_key_1(anyelement, anyelement, integer) RETURNS kind LANGUAGE sql IMMUTABLE AS
            'SELECT NULL::{source.schema}.kind'""")
    await source.app.execute("INSERT INTO things VALUES ('bill', 'x')")
    assert "columns are not those" in await things.findings()
    await things.install()
    assert await things.findings() == ""
    await source.app.execute("ALTER TABLE things ALTER id TYPE text; DROP TYPE kind")
