"""Whose rights count: the application needs none of ours, and no other role gets ours."""

import anyio
import pytest

from exportd.capture.installer import CaptureInstaller
from exportd.database.connector import Connector
from exportd.database.migrator import migrate
from exportd.database.quoting import identifier
from exportd.model.entity import Entity, EntityCode, Field, TableName
from exportd.model.errors import FullReason, PermanentError, Reason
from tests.fixtures.postgres import Database
from tests.integration.capture.source_database import SourceDatabase

pytestmark = pytest.mark.every_postgres


async def role_of(source: SourceDatabase, *grants: str) -> str:
    role = f"role_of_{source.schema}"
    await source.app.execute(f"CREATE ROLE {role} LOGIN; GRANT USAGE, CREATE ON SCHEMA {source.schema} TO {role}")
    for grant in grants:
        await source.app.execute(f"GRANT {grant} TO {role}")
    return role


async def test_the_application_needs_no_right_on_our_schema(source: SourceDatabase) -> None:
    things = await source.capture("things", "id int PRIMARY KEY, organization_id text", tenant="organization_id")
    role = await role_of(source, "INSERT, SELECT, UPDATE, DELETE, TRUNCATE ON things")
    assert not await source.app.fetchval("SELECT has_schema_privilege($1, 'exportd', 'USAGE')", role)
    session = await source.session(user=role)
    await session.execute("""
        INSERT INTO things VALUES (1, 'acme'); INSERT INTO things SELECT i, 'acme' FROM generate_series(2, 5) AS i;
        UPDATE things SET id = 10 WHERE id = 1; UPDATE things SET organization_id = 'acme';
        DELETE FROM things WHERE id = 2; TRUNCATE things""")
    assert {op for op, _ in await things.ops()} == {"I", "U", "D"}
    assert len((await things.export()).deleted) == 0, "a first run names no deletions"
    await session.execute("INSERT INTO things VALUES (7, 'acme')")
    assert (await things.export()).keys == ([(7,)], [])


# Everything that a trigger function of ours might look up by a bare name, as traps that tell who walked into them.
TRAPS = """
CREATE TABLE caught (who text, what text);
GRANT ALL ON caught TO PUBLIC;
CREATE FUNCTION spring(what text) RETURNS boolean LANGUAGE plpgsql AS
    'BEGIN INSERT INTO {schema}.caught VALUES (current_user, what); RETURN true; END';
CREATE FUNCTION same(anyelement, anyelement) RETURNS boolean LANGUAGE sql AS
    $$ SELECT {schema}.spring('=') AND $1 OPERATOR(pg_catalog.=) $2 $$;
CREATE FUNCTION same_array(anyarray, anyarray) RETURNS boolean LANGUAGE sql AS
    $$ SELECT {schema}.spring('=[]') AND $1 OPERATOR(pg_catalog.=) $2 $$;
CREATE FUNCTION same_text(text, text) RETURNS boolean LANGUAGE sql AS
    $$ SELECT {schema}.spring('= text') AND $1 OPERATOR(pg_catalog.=) $2 $$;
CREATE FUNCTION later(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql AS $$ SELECT {schema}.spring('>') $$;
CREATE FUNCTION part(bigint, integer) RETURNS bigint LANGUAGE sql AS $$ SELECT {schema}.spring('/')::int::bigint $$;
CREATE FUNCTION joined(text, text) RETURNS text LANGUAGE sql AS $$ SELECT {schema}.spring('||')::text $$;
CREATE OPERATOR = (LEFTARG = anyelement, RIGHTARG = anyelement, FUNCTION = same);
CREATE OPERATOR = (LEFTARG = anyarray, RIGHTARG = anyarray, FUNCTION = same_array);
CREATE OPERATOR = (LEFTARG = text, RIGHTARG = text, FUNCTION = same_text);
CREATE OPERATOR <> (LEFTARG = text, RIGHTARG = text, FUNCTION = same_text);
CREATE OPERATOR > (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = later);
CREATE OPERATOR / (LEFTARG = bigint, RIGHTARG = integer, FUNCTION = part);
CREATE OPERATOR || (LEFTARG = text, RIGHTARG = text, FUNCTION = joined);
CREATE FUNCTION gather(anyarray, anyelement) RETURNS anyarray LANGUAGE sql AS
    $$ SELECT array_append($1, $2) WHERE {schema}.spring('array_agg') $$;
CREATE AGGREGATE array_agg(anyelement) (SFUNC = gather, STYPE = anyarray);
CREATE FUNCTION nextval(regclass) RETURNS bigint LANGUAGE sql AS $$ SELECT {schema}.spring('nextval')::int::bigint $$;
CREATE FUNCTION now() RETURNS timestamptz LANGUAGE sql AS
    $$ SELECT pg_catalog.now() WHERE {schema}.spring('now') $$;
CREATE FUNCTION concat(VARIADIC text[]) RETURNS text LANGUAGE sql AS $$ SELECT {schema}.spring('concat')::text $$;
CREATE FUNCTION current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT {schema}.spring('setting')::text $$;
CREATE FUNCTION pg_notify(text, text) RETURNS void LANGUAGE sql AS $$ SELECT {schema}.spring('notify') $$;
CREATE FUNCTION pg_sequence_last_value(regclass) RETURNS bigint LANGUAGE sql AS
    $$ SELECT {schema}.spring('last value')::int::bigint $$;
CREATE FUNCTION date_part(text, timestamptz) RETURNS float8 LANGUAGE sql AS
    $$ SELECT {schema}.spring('date_part')::int::float8 $$;
CREATE DOMAIN "char" AS pg_catalog."char" CHECK ({schema}.spring('type "char"'));
CREATE DOMAIN bool AS pg_catalog.bool CHECK ({schema}.spring('type bool'));
CREATE DOMAIN text AS pg_catalog.text CHECK ({schema}.spring('type text'));
CREATE DOMAIN uuid AS pg_catalog.uuid CHECK ({schema}.spring('type uuid'));
CREATE DOMAIN regclass AS pg_catalog.regclass CHECK ({schema}.spring('type regclass'));
CREATE TABLE new_rows (id uuid, organization_id pg_catalog.text, note pg_catalog.text);
CREATE TABLE old_rows (LIKE new_rows);
CREATE TEMP TABLE new_rows (LIKE {schema}.new_rows);
CREATE TEMP TABLE old_rows (LIKE {schema}.new_rows);
CREATE TEMP SEQUENCE doorbell;
CREATE FUNCTION as_text({schema}.things) RETURNS pg_catalog.text LANGUAGE sql AS
    $$ SELECT {schema}.spring('cast')::pg_catalog.text $$;
CREATE CAST ({schema}.things AS pg_catalog.text) WITH FUNCTION as_text({schema}.things);
CREATE FUNCTION from_text(pg_catalog.text) RETURNS {schema}.things LANGUAGE sql AS
    $$ SELECT NULL::{schema}.things WHERE {schema}.spring('cast back') $$;
CREATE CAST (pg_catalog.text AS {schema}.things) WITH FUNCTION from_text(pg_catalog.text);
"""


async def test_nothing_in_the_writers_path_runs_with_our_rights(source: SourceDatabase) -> None:
    """The attacker owns the table, and every name that could be looked up elsewhere leads to a trap."""
    role = await role_of(source)
    attacker = await source.session(user=role)
    await attacker.execute("CREATE TABLE things (id uuid PRIMARY KEY, organization_id text, note text)")
    things = await source.capture("things", tenant="organization_id")
    await things.export()
    for trap in TRAPS.format(schema=source.schema).removesuffix(";\n").split(";\n"):
        await attacker.execute(trap)
    await attacker.execute(f"SET search_path = {source.schema}, pg_temp, pg_catalog")
    ids = [f"00000000-0000-0000-0000-00000000000{n}" for n in range(7)]
    values = ", ".join(f"('{id_}'::pg_catalog.uuid, 'acme'::pg_catalog.text)" for id_ in ids[1:5])
    await source.app.execute("SELECT setval('exportd.doorbell', extract(epoch FROM now())::bigint + 3600)")
    try:
        for statement in (
            f"INSERT INTO {source.schema}.things VALUES {values}",
            f"UPDATE things SET id = '{ids[6]}' WHERE id OPERATOR(pg_catalog.=) '{ids[1]}'",
            "UPDATE things SET note = 'x'",
            f"UPDATE things SET id = '{ids[5]}', note = 'y' WHERE id OPERATOR(pg_catalog.=) '{ids[2]}'",
            f"""UPDATE things SET note = 'z', id = CASE WHEN id OPERATOR(pg_catalog.=) '{ids[4]}' THEN '{ids[2]}'
                ELSE id END WHERE id OPERATOR(pg_catalog.=) ANY ('{{{ids[4]},{ids[5]}}}')""",
            f"DELETE FROM things WHERE id OPERATOR(pg_catalog.=) '{ids[3]}'",
            f"INSERT INTO things VALUES ('{ids[0]}', 'acme')",
        ):
            await attacker.execute(statement)
        export = await things.export()
        assert export.keys == ([(ids[0],), (ids[2],), (ids[5],), (ids[6],)], [(ids[1],), (ids[3],), (ids[4],)])
        await attacker.execute("TRUNCATE things")
        assert len((await things.export()).deleted) == 4
        # Records whose key or tenant is unknown take other ways through the functions.
        await attacker.execute("ALTER TABLE things ALTER id TYPE pg_catalog.text, ALTER organization_id TYPE varchar")
        await attacker.execute(
            "INSERT INTO things VALUES ('a', 'acme'), ('b', 'acme');"
            "UPDATE things SET id = id OPERATOR(pg_catalog.||) 'c'"
        )
        await attacker.execute("ALTER TABLE things RENAME id TO code; DELETE FROM things; TRUNCATE things")
    finally:
        await source.app.execute("SELECT setval('exportd.doorbell', 0)")
    caught = await source.app.fetch(f"SELECT DISTINCT who, what FROM {source.schema}.caught")
    assert {row["what"] for row in caught if row["who"] != role} == set()
    assert await attacker.fetchval("SELECT as_text(t) FROM (SELECT NULL::things AS t) AS x") is not None
    assert await source.app.fetchval(f"SELECT count(*) FROM {source.schema}.caught WHERE who = '{role}'"), (
        "the traps work"
    )


async def test_our_trigger_functions_cannot_be_used_for_a_table_of_ones_own(source: SourceDatabase) -> None:
    """Not even by a role that has USAGE of our schema."""
    things = await source.capture("things", "id int PRIMARY KEY")
    role = await role_of(source)
    await source.app.execute(f"GRANT USAGE ON SCHEMA exportd TO {role}")
    names = await source.app.fetch(
        "SELECT proname, has_function_privilege($1, oid, 'EXECUTE') AS may FROM pg_proc"
        " WHERE pronamespace = 'exportd'::regnamespace AND prosecdef AND proname LIKE $2",
        role,
        f"log\\_{things.entity.code.lower()}\\_%",
    )
    assert len(names) == 5
    assert not any(row["may"] for row in names)


@pytest.fixture
async def modest(empty_database: Database) -> tuple[Database, str, Entity]:
    """A database whose tables belong to one role, and whose exports are made by another: no superuser anywhere."""
    owner, exporter = f"owner_{empty_database.name}", f"exporter_{empty_database.name}"
    admin = await empty_database.connect()
    await admin.execute(f"""
        CREATE ROLE {owner} LOGIN; CREATE ROLE {exporter} LOGIN;
        GRANT CREATE ON DATABASE {identifier(empty_database.name)} TO {exporter};
        CREATE SCHEMA app AUTHORIZATION {owner}; SET ROLE {owner};
        CREATE TABLE app.things (id int PRIMARY KEY, note text); INSERT INTO app.things VALUES (1, 'x'), (2, 'y');
        RESET ROLE""")
    connection = await empty_database.connect(user=exporter)
    await migrate(connection)
    fields = (Field("id", column="id"), Field("note", column="note"))
    entity = Entity(EntityCode("THINGS"), "things", "t", TableName("app", "things"), ("id",), None, fields)
    return empty_database, exporter, entity


async def test_a_role_that_may_not_create_triggers_is_told_so(modest: tuple[Database, str, Entity]) -> None:
    database, exporter, entity = modest
    installer = CaptureInstaller(Connector(database.server.dsn(database.name, user=exporter)), pause=anyio.sleep)
    with pytest.raises(PermanentError, match=r"permission denied.*Grant the right to the daemon's role") as caught:
        await installer.install([entity])
    assert caught.value.reason is Reason.PRIVILEGE_MISSING
    triggers = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'app.things'::regclass"
    assert await (await database.connect()).fetchval(triggers) == 0


async def test_a_truncate_goes_through_when_our_right_to_read_was_taken_away(
    modest: tuple[Database, str, Entity],
) -> None:
    database, exporter, entity = modest
    owner = exporter.replace("exporter", "owner")
    admin = await database.connect()
    await admin.execute(f"GRANT {owner} TO {exporter}")
    installer = CaptureInstaller(Connector(database.server.dsn(database.name, user=exporter)), pause=anyio.sleep)
    await installer.install([entity])
    app = await database.connect(user=owner)
    ops = "SELECT array_agg(op::text ORDER BY op::text) FROM exportd.log_things"
    await app.execute("DELETE FROM app.things WHERE id = 1; TRUNCATE app.things")
    assert await admin.fetchval(ops) == ["D", "D"]
    await admin.execute(f"DELETE FROM exportd.log_things; REVOKE {owner} FROM {exporter}")
    await app.execute(
        "INSERT INTO app.things VALUES (3); UPDATE app.things SET id = 4; DELETE FROM app.things; TRUNCATE app.things"
    )
    assert await admin.fetchval(ops) == ["D", "D", "I", "T", "U"]
    await admin.execute(f"DELETE FROM exportd.log_things; GRANT {owner} TO {exporter}")
    await app.execute("ALTER TABLE app.things ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; TRUNCATE app.things")
    assert await admin.fetchval(ops) == ["T"], "a policy may have hidden rows from us"


async def test_a_t_marker_without_tenant_concerns_every_organization(source: SourceDatabase) -> None:
    things = await source.capture("things", "id int PRIMARY KEY, organization_id text", tenant="organization_id")
    await things.export()
    await source.app.execute(f"INSERT INTO {things.log} (op) VALUES ('T')")
    assert (await things.export()).reason is FullReason.CHANGES_UNKNOWN
    assert (await things.export()).reason is None
