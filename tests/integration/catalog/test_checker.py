import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from exportd.catalog.checker import check, problems_by_entity, resolve
from exportd.catalog.document import Catalog, loads
from exportd.catalog.table_reader import tables_without_tenant_index
from exportd.database import queries
from exportd.model.entity import EntityCode, Field, TableName
from exportd.model.errors import ExportdError, SettingsError
from tests.fixtures.postgres import Database

pytestmark = pytest.mark.every_postgres

TABLES = """
CREATE SCHEMA other;
CREATE DOMAIN short AS varchar(10) NOT NULL;
CREATE DOMAIN shorter AS short;
CREATE TYPE color AS ENUM ('red');
CREATE TABLE accounts (
    id uuid PRIMARY KEY,
    organization_id text NOT NULL,
    name text,
    version integer NOT NULL,
    price numeric,
    is_open boolean,
    meta jsonb,
    created_at timestamptz,
    tags text[],
    color color,
    code shorter
);
CREATE TABLE other.regions (country text, code shorter, place point NOT NULL, meta json NOT NULL, deleted boolean,
    PRIMARY KEY (country, code));
"""

ACCOUNTS = """
[[entity]]
code = "ACCOUNTS"
label = "Accounts"
type_token = "account"
table = "public.accounts"
key = ["id"]
tenant = "organization_id"
"""


@pytest.fixture
async def connection(empty_database: Database) -> "asyncpg.Connection[asyncpg.Record]":
    connection = await empty_database.connect()
    await connection.execute(TABLES)
    return connection


Connection = asyncpg.Connection


def entity(table: str, *, key: str = '["id"]', tenant: str = "false", fields: str = "") -> Catalog:
    text = f'[[entity]]\ncode = "X"\nlabel = "X"\ntype_token = "x"\ntable = "{table}"\nkey = {key}\ntenant = {tenant}\n'
    return loads(text + (f"fields = [{fields}]\n" if fields else ""), name="entities.toml")


async def sentences(catalog: Catalog, connection: "Connection[asyncpg.Record]") -> list[str]:
    return [str(problem) for problem in await check(catalog, connection)]


async def sentence(catalog: Catalog, connection: "Connection[asyncpg.Record]") -> str:
    [one] = await sentences(catalog, connection)
    return one


async def test_a_catalog_that_fits_has_no_problems(connection: "Connection[asyncpg.Record]") -> None:
    catalog = loads(
        ACCOUNTS
        + """\
fields = [
  { name = "id", type = "string", format = "uuid" },
  { name = "version", type = "integer" },
  { name = "price", type = "float" },
  { name = "isOpen", type = "boolean" },
  { name = "meta", type = "json" },
  { name = "createdAt", type = "string", format = "date-time" },
  { name = "tags", type = "string" },
  { name = "color", type = "string" },
  { name = "code", type = "string" },
  { name = "shout", expression = "upper(name) || '!'", type = "string" },
  { name = "cents", expression = "(price * 100)::bigint", type = "integer" },
  "organizationId",
]
""",
        name="entities.toml",
    )
    assert await sentences(catalog, connection) == []
    assert await sentences(loads(ACCOUNTS, name="entities.toml"), connection) == []


async def test_a_missing_table_says_which_was_meant(connection: "Connection[asyncpg.Record]") -> None:
    assert await sentence(entity("public.acounts"), connection) == (
        "entities.toml:5: X: there is no table public.acounts; did you mean public.accounts?"
    )
    assert "did you mean other.regions?" in await sentence(entity("public.regions"), connection)
    assert "check the name and the database" in await sentence(entity("nowhere.something"), connection)


async def test_the_time_of_the_last_change_is_compared_with_its_column(
    connection: "Connection[asyncpg.Record]",
) -> None:
    await connection.execute("CREATE DOMAIN moment AS timestamptz; ALTER TABLE accounts ADD COLUMN changed moment")
    assert await sentences(loads(ACCOUNTS + 'modified = "changed"\n', name="entities.toml"), connection) == []
    assert await sentence(loads(ACCOUNTS + 'modified = "version"\n', name="entities.toml"), connection) == (
        "entities.toml:9: ACCOUNTS: version has the type integer; "
        "name a timestamptz, timestamp or date, or leave it out"
    )


async def test_every_problem_of_every_entity_is_found_at_once(connection: "Connection[asyncpg.Record]") -> None:
    catalog = loads(
        ACCOUNTS.replace('"id"', '"name"').replace("organization_id", "org")
        + """\
fields = [
  { name = "name", type = "integer" },
  { name = "nothing" },
  { name = "createdAt", type = "string", format = "date" },
  { name = "one", expression = "nam || 'x'", type = "string" },
  { name = "two", expression = "count(*)", type = "integer" },
  { name = "three", expression = "version + 1", type = "string" },
]
[[entity]]
code = "OTHERS"
label = "Others"
type_token = "other"
table = "public.others"
key = ["id"]
tenant = false
""",
        name="entities.toml",
    )
    assert await sentences(catalog, connection) == [
        "entities.toml:7: ACCOUNTS: the key column name may be null; choose another key, or "
        'ALTER TABLE "public"."accounts" ALTER COLUMN "name" SET NOT NULL',
        "entities.toml:7: ACCOUNTS: nothing makes name unique; accounts_pkey is unique on id: take that as key",
        "entities.toml:8: ACCOUNTS: public.accounts has no column org; the columns are id, organization_id, name, "
        "version, price, is_open, meta, created_at, tags, color, code (or tenant = false: all organizations read all "
        "rows)",
        'entities.toml:10: ACCOUNTS: name: the column name has the type text; write type = "string"',
        "entities.toml:11: ACCOUNTS: nothing: public.accounts has no column nothing; the columns are id, "
        "organization_id, name, version, price, is_open, meta, created_at, tags, color, code",
        "entities.toml:12: ACCOUNTS: createdAt: the column created_at has the type timestamp with time zone; "
        'write format = "date-time"',
        'entities.toml:13: ACCOUNTS: one: the database refuses it: column "nam" does not exist '
        '(Perhaps you meant to reference the column "name".)',
        "entities.toml:14: ACCOUNTS: two: the database refuses it: aggregate functions are not allowed in WHERE",
        'entities.toml:15: ACCOUNTS: three: the expression gives int4; write type = "integer"',
        "entities.toml:21: OTHERS: there is no table public.others; check the name and the database of the DSN",
    ]


@pytest.mark.parametrize(
    ("sql", "table", "said"),
    [
        ("CREATE VIEW x AS SELECT 1 AS id", "public.x", "public.x is a view"),
        ("CREATE MATERIALIZED VIEW x AS SELECT 1 AS id", "public.x", "public.x is a materialized view"),
        (
            "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; "
            "CREATE FOREIGN TABLE x (id int NOT NULL) SERVER s",
            "public.x",
            "public.x is a foreign table",
        ),
        ("CREATE UNLOGGED TABLE x (id int PRIMARY KEY)", "public.x", "public.x is unlogged and empty after a crash"),
        ("CREATE SEQUENCE x", "public.x", "there is no table public.x"),
        ("CREATE TYPE x AS (id int)", "public.x", "there is no table public.x"),
        ("SELECT 1", "pg_catalog.pg_class", "pg_catalog.pg_class belongs to the system"),
        ("SELECT 1", "information_schema.tables", "information_schema.tables belongs to the system"),
        (
            "CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id); "
            "CREATE TABLE mid PARTITION OF root FOR VALUES FROM (0) TO (9) PARTITION BY RANGE (id); "
            "CREATE TABLE x PARTITION OF mid FOR VALUES FROM (0) TO (5)",
            "public.x",
            "public.x is a partition; name the whole table, public.root",
        ),
        (
            "CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id); "
            "CREATE TABLE x PARTITION OF root FOR VALUES FROM (0) TO (9) PARTITION BY RANGE (id)",
            "public.x",
            "public.x is a partition; name the whole table, public.root",
        ),
        (
            "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE x (PRIMARY KEY (id)) INHERITS (a)",
            "public.x",
            "public.x inherits from public.a; name the table at the top",
        ),
        (
            "CREATE TABLE x (id int PRIMARY KEY); CREATE TABLE b (id int); CREATE TABLE c () INHERITS (x, b)",
            "public.x",
            "its child public.c inherits from another table too",
        ),
        (
            "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; "
            "CREATE TABLE x (id int NOT NULL) PARTITION BY RANGE (id);"
            "CREATE FOREIGN TABLE far PARTITION OF x FOR VALUES FROM (0) TO (9) SERVER s",
            "public.x",
            "its part public.far is a foreign table",
        ),
        (
            "CREATE TABLE x (id int PRIMARY KEY) PARTITION BY RANGE (id);"
            "CREATE UNLOGGED TABLE part PARTITION OF x FOR VALUES FROM (0) TO (9)",
            "public.x",
            "its part public.part is unlogged",
        ),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
async def test_what_is_no_table_of_records(
    connection: "Connection[asyncpg.Record]", sql: str, table: str, said: str
) -> None:
    await connection.execute(sql)
    assert any(said in sentence for sentence in await sentences(entity(table), connection))


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE x (id int PRIMARY KEY) PARTITION BY RANGE (id); "
        "CREATE TABLE p PARTITION OF x FOR VALUES FROM (0) TO (9) PARTITION BY RANGE (id); "
        "CREATE TABLE q PARTITION OF p FOR VALUES FROM (0) TO (5)",
        "CREATE TABLE x (id int PRIMARY KEY); CREATE TABLE c (extra int) INHERITS (x); CREATE TABLE d () INHERITS (c)",
        "CREATE TABLE x (id int NOT NULL UNIQUE)",
        "CREATE TABLE x (id int NOT NULL); CREATE UNIQUE INDEX ON x (id) INCLUDE (id)",
        "CREATE TABLE x (id int4range PRIMARY KEY)",
        "CREATE TABLE x (id int[] PRIMARY KEY)",
        "CREATE TABLE x (id int PRIMARY KEY DEFERRABLE)",
        "CREATE TABLE x (id int NOT NULL UNIQUE DEFERRABLE INITIALLY DEFERRED)",
        "CREATE TABLE x (id color PRIMARY KEY)",
        "CREATE TABLE x (id shorter PRIMARY KEY)",
        "CREATE TABLE x (id varchar(5) PRIMARY KEY)",
        'CREATE TABLE x (id "char" PRIMARY KEY)',
        "CREATE TABLE x (id cidr PRIMARY KEY)",
    ],
)
async def test_tables_and_keys_that_are_good(connection: "Connection[asyncpg.Record]", sql: str) -> None:
    await connection.execute(sql)
    assert await sentences(entity("public.x"), connection) == []


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("CREATE TABLE x (id int UNIQUE)", "the key column id may be null"),
        ("CREATE TABLE x (id int NOT NULL)", "nothing makes id unique; ALTER TABLE"),
        ("CREATE TABLE x (id int NOT NULL); CREATE INDEX ON x (id)", "nothing makes id unique"),
        ("CREATE TABLE x (id int NOT NULL, b int NOT NULL, UNIQUE (id, b))", "x_id_b_key is unique on id, b"),
        (
            "CREATE TABLE x (id int NOT NULL); CREATE UNIQUE INDEX part ON x (id) WHERE id > 0",
            "the unique index part on id covers a part of the rows only",
        ),
        ("CREATE TABLE x (id text NOT NULL); CREATE UNIQUE INDEX ON x (lower(id))", "nothing makes id unique"),
        (
            "CREATE TABLE x (id int4range NOT NULL, EXCLUDE USING gist (id WITH =))",
            "nothing makes id unique",
        ),
        ("CREATE TABLE x (id point NOT NULL)", "the key column id has the type point, which cannot be compared"),
        ("CREATE TABLE x (id json NOT NULL)", "the key column id has the type json, which cannot be compared"),
        ("CREATE TABLE x (id json[] NOT NULL)", "the key column id has the type json[], which cannot be compared"),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else None,
)
async def test_keys_that_do_not_identify(connection: "Connection[asyncpg.Record]", sql: str, said: str) -> None:
    await connection.execute(sql)
    found = await sentences(entity("public.x"), connection)
    assert any(said in sentence for sentence in found), found


async def test_an_index_that_failed_to_build_is_no_key(connection: "Connection[asyncpg.Record]") -> None:
    await connection.execute("CREATE TABLE x (id int NOT NULL); INSERT INTO x VALUES (1), (1)")
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute("CREATE UNIQUE INDEX CONCURRENTLY broken ON x (id)")
    assert "the unique index broken on id is not valid" in await sentence(entity("public.x"), connection)


async def test_a_not_null_that_was_never_validated_is_none(connection: "Connection[asyncpg.Record]") -> None:
    if connection.get_server_version().major < 18:
        return  # NOT NULL … NOT VALID came with Postgres 18
    await connection.execute("CREATE TABLE x (id int UNIQUE); INSERT INTO x VALUES (NULL)")
    await connection.execute("ALTER TABLE x ADD CONSTRAINT n NOT NULL id NOT VALID")
    assert "the key column id may be null" in await sentence(entity("public.x"), connection)


async def test_a_tenant_must_be_comparable(connection: "Connection[asyncpg.Record]") -> None:
    catalog = entity("other.regions", key='["country", "code"]', tenant='"place"', fields='"country", "code"')
    assert await sentence(catalog, connection) == (
        "entities.toml:7: X: place has the type point, which cannot be compared"
    )


async def test_virtual_generated_columns_are_refused_and_stored_ones_are_not(
    connection: "Connection[asyncpg.Record]",
) -> None:
    await connection.execute("CREATE TABLE x (id int PRIMARY KEY, n int, s int GENERATED ALWAYS AS (n + 1) STORED)")
    assert await sentences(entity("public.x", fields='"id", "s"'), connection) == []
    if connection.get_server_version().major < 18:
        return
    await connection.execute("ALTER TABLE x ADD COLUMN v int GENERATED ALWAYS AS (n * 2) VIRTUAL")
    assert await sentences(
        entity("public.x", fields='"id", "v", { name = "w", expression = "v + 1" }'), connection
    ) == [
        "entities.toml:8: X: v: v is a virtual generated column, which deleted rows do not have; "
        'write its expression (n * 2): expression = "…" in place of column',
        "entities.toml:8: X: w: v is a virtual generated column, which deleted rows do not have; "
        "write its expression (n * 2) in place of v",
    ]
    whole = entity("public.x")
    assert await sentences(whole, connection) == []
    resolved = await resolve(whole, connection)
    assert resolved.get(EntityCode("X")).fields[-1] == Field("v", expression="(n * 2)", type="integer")
    assert await sentences(resolved, connection) == []


async def test_a_column_named_deleted_must_be_renamed(connection: "Connection[asyncpg.Record]") -> None:
    found = await sentence(entity("other.regions", key='["country", "code"]'), connection)
    assert "the table has a column deleted, and every record a field deleted; list the fields" in found


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("sum(version)", "aggregate functions are not allowed in WHERE"),
        ("row_number() OVER ()", "window functions are not allowed in WHERE"),
        ("unnest(tags)", "set-returning functions are not allowed in WHERE"),
        ("accounts.name", 'missing FROM-clause entry for table "accounts"'),
        ("public.accounts.name", "invalid reference to FROM-clause entry"),
        ("accounts::text", 'column "accounts" does not exist'),
        ("helper(name)", "function helper(text) does not exist"),
        ("name +", "syntax error"),
        ("random()", "random() is volatile: a record must stay the same"),
        ("gen_random_uuid()", "gen_random_uuid() is volatile: a record must stay the same"),
        ("name = 1", "operator does not exist: text = integer"),
    ],
)
async def test_expressions_that_cannot_be_used(
    connection: "Connection[asyncpg.Record]", expression: str, said: str
) -> None:
    await connection.execute("CREATE FUNCTION helper(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1'")
    catalog = entity("public.accounts", fields=f'"id", {{ name = "x", expression = "{expression}" }}')
    found = await sentence(catalog, connection)
    assert found.startswith("entities.toml:8: X: x: ")
    assert said in found


async def test_functions_of_the_application_are_reached_by_their_schema(
    connection: "Connection[asyncpg.Record]",
) -> None:
    await connection.execute("CREATE FUNCTION helper(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1'")
    catalog = entity(
        "public.accounts", fields='"id", { name = "x", expression = "public.helper(name)", type = "json" }'
    )
    assert await sentences(catalog, connection) == []


async def test_missing_rights_say_what_to_grant(
    connection: "Connection[asyncpg.Record]", empty_database: Database
) -> None:
    await connection.execute(
        """
        CREATE ROLE reader LOGIN;
        CREATE TABLE other.secret (id int PRIMARY KEY);
        CREATE TABLE guarded (id int PRIMARY KEY);
        ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
        GRANT SELECT ON guarded TO reader;
        GRANT SELECT (id) ON accounts TO reader;
        """
    )
    try:
        reader = await empty_database.connect(user="reader")
        assert await sentences(entity("other.secret"), reader) == [
            'entities.toml:5: X: may not be reached by reader; GRANT USAGE ON SCHEMA "other" TO "reader"',
            'entities.toml:5: X: may not be read by reader; GRANT SELECT ON "other"."secret" TO "reader"',
        ]
        assert 'GRANT SELECT ON "public"."accounts"' in await sentence(entity("public.accounts"), reader)
        assert "row level security of public.guarded hides rows from reader" in await sentence(
            entity("public.guarded"), reader
        )
        await reader.execute("SET row_security = off")
        assert "row level security" in await sentence(entity("public.guarded"), reader)
        assert await sentences(entity("public.guarded"), connection) == []
    finally:
        await connection.execute("DROP OWNED BY reader; REVOKE ALL ON ALL TABLES IN SCHEMA public FROM reader")
        await reader.close()
        await connection.execute("DROP ROLE reader")


async def test_names_with_quotes_capitals_and_dots_are_themselves(connection: "Connection[asyncpg.Record]") -> None:
    await connection.execute(
        'CREATE SCHEMA "My.Schema"; CREATE TABLE "My.Schema"."T""x" ("Id" int PRIMARY KEY, "a b" text, "ü" text)'
    )
    text = (
        "[[entity]]\ncode = 'X'\nlabel = 'X'\ntype_token = 'x'\ntable = '\"My.Schema\".\"T\"\"x\"'\nkey = ['Id']\n"
        "tenant = 'a b'\nfields = [{ name = 'Id', column = 'Id' }, { name = 'u', expression = 'lower(\"ü\")' }]\n"
    )
    assert await sentences(loads(text, name="entities.toml"), connection) == []


async def test_the_search_path_of_the_connection_does_not_matter(connection: "Connection[asyncpg.Record]") -> None:
    await connection.execute("CREATE FUNCTION other.lower(text) RETURNS int LANGUAGE sql AS 'SELECT 1'")
    await connection.execute("SET search_path TO other, public, pg_catalog")
    catalog = entity("public.accounts", fields='"id", { name = "x", expression = "lower(name)", type = "string" }')
    assert await sentences(catalog, connection) == []
    assert await connection.fetchval("SHOW search_path") == "other, public, pg_catalog"


async def test_checking_takes_two_round_trips_whatever_the_number_of_entities(
    connection: "Connection[asyncpg.Record]",
) -> None:
    text = ""
    for number in range(20):
        await connection.execute(f"CREATE TABLE t{number} (id int PRIMARY KEY, name text)")
        text += (
            f'[[entity]]\ncode = "T{number}"\nlabel = "T"\ntype_token = "t{number}"\ntable = "public.t{number}"\n'
            'key = ["id"]\ntenant = false\n'
        )
    queries: list[str] = []
    connection.add_query_logger(lambda record: queries.append(record.query))
    assert await sentences(loads(text, name="entities.toml"), connection) == []
    assert len([query for query in queries if "pg_class" in query]) == 1
    assert len(queries) <= 4  # BEGIN, search_path, the tables, COMMIT


async def test_open_fields_and_types_are_taken_from_the_database(connection: "Connection[asyncpg.Record]") -> None:
    text = (
        ACCOUNTS
        + """\
fields = [
  "id",
  "version",
  { name = "meta" },
  { name = "createdAt" },
  { name = "cents", expression = "(price * 100)::bigint" },
  { name = "name", type = "json" },
]
[[entity]]
code = "REGIONS"
label = "Regions"
type_token = "region"
table = "other.regions"
key = ["country", "code"]
tenant = false
"""
    )
    catalog = await resolve(loads(text, name="entities.toml"), connection)
    assert catalog.open_types == frozenset()
    assert catalog.get(EntityCode("ACCOUNTS")).fields == (
        Field("id", column="id", format="uuid"),
        Field("version", column="version", type="integer"),
        Field("meta", column="meta", type="json"),
        Field("createdAt", column="created_at", format="date-time"),
        Field("cents", expression="(price * 100)::bigint", type="integer"),
        Field("name", column="name", type="json"),
    )
    assert [field.name for field in catalog.get(EntityCode("REGIONS")).fields] == [
        "country",
        "code",
        "place",
        "meta",
        "deleted2",
    ]
    assert await resolve(catalog, connection) is catalog


async def test_what_cannot_be_resolved_says_so(connection: "Connection[asyncpg.Record]") -> None:
    with pytest.raises(SettingsError) as caught:
        await resolve(entity("public.acounts"), connection)
    assert "did you mean public.accounts?" in str(caught.value)
    with pytest.raises(SettingsError) as caught:
        await resolve(
            entity("public.accounts", fields='"id", "nam", { name = "x", expression = "nope(id)" }'), connection
        )
    assert [str(problem) for problem in caught.value.problems] == [
        "entities.toml:8: X: nam: public.accounts has no column nam; did you mean name?",
        "entities.toml:8: X: x: the database refuses it: function nope(uuid) does not exist (No function matches the "
        "given name and argument types. You might need to add explicit type casts.)",
    ]


async def test_a_database_that_goes_away_is_an_error_of_its_own(connection: "Connection[asyncpg.Record]") -> None:
    await connection.close()
    with pytest.raises(ExportdError, match="checking the catalog"):
        await check(entity("public.accounts"), connection)


async def test_a_child_with_a_key_of_its_parent(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    await connection.execute(
        "CREATE TABLE parent (id int PRIMARY KEY, organization_id text NOT NULL);"
        " CREATE TABLE child () INHERITS (parent);"
        " INSERT INTO parent VALUES (1, 'a'), (2, 'a'); INSERT INTO child VALUES (3, 'a'), (1, 'b')"
    )
    alone, tenants = entity("public.parent"), entity("public.parent", tenant='"organization_id"')
    (problem,) = await check(alone, connection)
    assert "several rows with the same key" in problem.sentence
    assert await problems_by_entity(alone, connection) == {}, "a daemon reads no row here: its jobs do"
    assert await check(tenants, connection) == []
    await connection.execute("INSERT INTO child VALUES (2, 'a')")
    (problem,) = await check(tenants, connection)
    assert "several rows with the same key" in problem.sentence
    await connection.execute("DELETE FROM child WHERE id < 3")
    assert await check(alone, connection) == []


async def test_large_tables_without_an_index_on_the_tenant_are_named(connection: Connection) -> None:
    """A partitioned table has its size in its partitions; an index that is partial or begins otherwise is no help."""
    await connection.execute("""
        CREATE TABLE bills (id int, "the tenant" text) PARTITION BY RANGE (id);
        CREATE TABLE "bills 1" PARTITION OF bills FOR VALUES FROM (0) TO (100000);
        INSERT INTO bills SELECT n, 'acme' FROM generate_series(1, 1000) AS n;
        ANALYZE bills, "bills 1"
    """)
    catalog = entity("public.bills", tenant='"the tenant"')
    missing = ((TableName("public", "bills"), "the tenant"),)

    async def found(min_bytes: int = 8192) -> tuple[tuple[TableName, str], ...]:
        return await tables_without_tenant_index(connection, catalog.entities.values(), min_bytes=min_bytes)

    assert await found() == missing
    assert await found(min_bytes=1_000_000) == ()
    await connection.execute("""
        CREATE INDEX ON bills (id, "the tenant"); CREATE INDEX ON bills ("the tenant") WHERE id > 5
    """)
    assert await found() == missing
    await connection.execute('CREATE INDEX ON bills ("the tenant", id)')
    assert await found() == ()


async def test_no_part_of_the_look_is_repeated_for_each_table(connection: "Connection[asyncpg.Record]") -> None:
    names = [f"table_{number}" for number in range(30)]
    await connection.execute("".join(f"CREATE TABLE {name} (id uuid PRIMARY KEY, tags text[]);" for name in names))
    statement = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {queries.load('catalog')['describe_tables']}"

    plan = await connection.fetchval(statement, ["public"] * len(names), names)

    grouped = [node for node in _nodes(json.loads(plan)[0]["Plan"]) if "Group Key" in node]
    assert {node["Actual Loops"] for node in grouped} == {1}


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from _nodes(part)
