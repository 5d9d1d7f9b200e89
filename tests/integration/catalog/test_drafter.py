import asyncpg
import pytest

from exportd.catalog.checker import check
from exportd.catalog.document import loads
from exportd.catalog.drafter import draft
from exportd.model.entity import EntityCode, TableName
from exportd.model.errors import SettingsError
from tests.fixtures.postgres import Database

pytestmark = pytest.mark.every_postgres

TABLES = """
CREATE SCHEMA billing;
CREATE TABLE accounts (
    id uuid PRIMARY KEY,
    organization_id text,
    parent_account_id uuid REFERENCES accounts,
    dt_created timestamptz,
    updated_at timestamp,
    custom_fields jsonb
);
CREATE TABLE billing.bill_line_items (
    organization_id text NOT NULL,
    id bigint,
    account_id uuid NOT NULL REFERENCES accounts,
    amount numeric NOT NULL,
    PRIMARY KEY (organization_id, id)
);
CREATE TABLE regions (code text PRIMARY KEY, name text);
CREATE TABLE measurements (id int, organization_id text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE measurements_1 PARTITION OF measurements FOR VALUES FROM (0) TO (10);
CREATE TABLE vehicles (id int PRIMARY KEY, organization_id text);
CREATE TABLE cars (doors int, PRIMARY KEY (id)) INHERITS (vehicles);
CREATE TABLE logins (at timestamptz, organization_id text);
CREATE UNLOGGED TABLE sessions (id int PRIMARY KEY, organization_id text);
CREATE VIEW names AS SELECT name FROM regions;
CREATE TABLE "Odd Ones" ("Id" int PRIMARY KEY, organization_id text, "a ""quoted"" name" text);
"""


@pytest.fixture
async def connection(database: Database) -> "asyncpg.Connection[asyncpg.Record]":
    """With the schema exportd in it, whose tables are not the application's."""
    connection = await database.connect()
    await connection.execute(TABLES)
    return connection


async def test_a_draft_passes_the_checks_as_it_is(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    catalog = loads(await draft(connection), name="draft.toml")
    assert await check(catalog, connection) == []
    assert {entity.table for entity in catalog.entities.values()} == {
        TableName("billing", "bill_line_items"),
        TableName("public", "Odd Ones"),
        TableName("public", "accounts"),
        TableName("public", "measurements"),
        TableName("public", "regions"),
        TableName("public", "vehicles"),
    }
    assert all(entity.tenant is None for entity in catalog.entities.values())
    assert {code for code, entity in catalog.entities.items() if entity.modified == "updated_at"} == {"ACCOUNTS"}
    items = catalog.get(EntityCode("BILL_LINE_ITEMS"))
    assert items.key == ("organization_id", "id")
    assert items.type_token == "billlineitem"
    assert [(field.name, field.type, field.reference) for field in items.fields] == [
        ("organizationId", "string", None),
        ("id", "integer", None),
        ("accountId", "string", "ACCOUNTS"),
        ("amount", "float", None),
    ]
    [parent] = [field for field in catalog.get(EntityCode("ACCOUNTS")).fields if field.reference]
    assert (parent.name, parent.format, parent.reference) == ("parentAccountId", "uuid", "ACCOUNTS")


async def test_with_a_tenant_column_tables_that_lack_it_are_left_out(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    text = await draft(connection, tenant_column="organization_id")
    catalog = loads(text, name="draft.toml")
    assert await check(catalog, connection) == []
    assert {entity.tenant for entity in catalog.entities.values()} == {"organization_id"}
    assert EntityCode("REGIONS") not in catalog.entities
    assert "# public.regions: has no column organization_id" in text
    assert "# Rows whose organization_id is null belong to no organization" in text
    assert "# public.logins: has no primary key" in text
    assert "# public.sessions: public.sessions is unlogged" in text
    assert "exportd.job" not in text
    assert "measurements_1" not in text
    assert "cars" not in text


async def test_only_the_schemas_asked_for_are_drafted(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    catalog = loads(await draft(connection, schemas=["billing"]), name="draft.toml")
    [entity] = catalog.entities.values()
    assert entity.table == TableName("billing", "bill_line_items")
    assert all(field.reference is None for field in entity.fields)


async def test_an_empty_database_gives_a_draft_without_entities(empty_database: Database) -> None:
    text = await draft(await empty_database.connect())
    assert "[[entity]]" not in text
    assert text.startswith("# A draft by `exportd catalog draft`")


async def test_virtual_generated_columns_are_drafted_as_expressions(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    if connection.get_server_version().major < 18:
        return  # they came with Postgres 18
    await connection.execute(
        "ALTER TABLE regions ADD COLUMN shout text GENERATED ALWAYS AS (upper(name) || '\"\\') VIRTUAL"
    )
    catalog = loads(await draft(connection, schemas=["public"]), name="draft.toml")
    shout = catalog.get(EntityCode("REGIONS")).fields[-1]
    assert shout.name == "shout"
    assert shout.expression == "(upper(name) || '\"\\'::text)"
    assert await check(catalog, connection) == []


async def test_the_tenants_own_table_gives_each_tenant_its_own_row(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    await connection.execute(
        "CREATE SCHEMA core; CREATE TABLE core.organizations (id text PRIMARY KEY, name text);"
        "ALTER TABLE public.accounts ADD FOREIGN KEY (organization_id) REFERENCES core.organizations;"
        "ALTER TABLE billing.bill_line_items ADD FOREIGN KEY (organization_id) REFERENCES core.organizations"
    )
    catalog = loads(await draft(connection, tenant_column="organization_id"), name="draft.toml")
    assert await check(catalog, connection) == []
    assert catalog.get(EntityCode("ORGANIZATIONS")).tenant == "id"
    assert catalog.get(EntityCode("ACCOUNTS")).tenant == "organization_id"
    assert EntityCode("REGIONS") not in catalog.entities


async def test_all_schemas_are_looked_into_unless_some_are_named(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    everywhere = loads(await draft(connection), name="draft.toml")
    assert {entity.table.schema for entity in everywhere.entities.values()} == {"public", "billing"}
    named = loads(await draft(connection, schemas=["billing"]), name="draft.toml")
    assert [entity.table for entity in named.entities.values()] == [TableName("billing", "bill_line_items")]


async def test_a_schema_or_column_that_is_not_there_is_a_sentence(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    with pytest.raises(SettingsError) as unknown_schema:
        await draft(connection, schemas=["publik", "billing"])
    assert unknown_schema.value.sentence == "--schema: the database has no schema publik; did you mean public?"
    with pytest.raises(SettingsError) as unknown_column:
        await draft(connection, tenant_column="organisation_id")
    assert "no table has a column organisation_id; did you mean organization_id?" in unknown_column.value.sentence
