"""No write of the application fails because of capture: the same writes on a captured table and on a bare one.

Kinds of write, sizes, settings of the session, and limits of role and database are multiplied with each other. The
outcome must never differ: both succeed, or both fail with the same error.

A trigger of rows plans its statements for each row, which takes a millisecond. So "many" rows are few here, but large
enough for more than 64 kB, and an array holds fewer keys than that. With ``THOUSANDS`` it holds as many as ever.
"""

from collections.abc import Mapping

import asyncpg
import pytest

from exportd.capture import trigger_functions
from exportd.database.connector import Connection
from exportd.database.quoting import identifier
from exportd.model.entity import CaptureLevel
from tests.integration.capture.source_database import SourceDatabase

pytestmark = pytest.mark.every_postgres

SIZES: Mapping[str, tuple[int, str, str]] = {
    # rows, note, document
    "few": (3, "'x' || n", "to_jsonb(n)"),
    "many": (110, "repeat('x', 700) || n", "NULL"),
    "wide": (3, "repeat(md5(n::text), 20000)", "jsonb_build_object('k', repeat(md5(n::text), 20000))"),
    "compressed": (3, "repeat('\"', 2000000)", "to_jsonb(array_fill(1e1000, ARRAY[2000]))"),
}
THOUSANDS = (10_500, "'x' || n", "NULL")
KEYS_PER_ROW = 100

WRITES: Mapping[str, str] = {
    "insert": "INSERT INTO {t} SELECT n + 100000, md5(n::text), 'acme', 'y', NULL FROM generate_series(1, 3) AS n",
    "insert of all again": "INSERT INTO {t} SELECT id + 200000, code, tenant, note, document FROM {t}",
    "upsert": """INSERT INTO {t} SELECT id, code, tenant, 'y', document FROM {t}
        ON CONFLICT (id, code) DO UPDATE SET note = 'z'""",
    "update of one": "UPDATE {t} SET note = note || 'y' WHERE id = 1",
    "update of all": "UPDATE {t} SET note = note || 'y'",
    "key of one": "UPDATE {t} SET code = code || 'k' WHERE id = 1",
    "keys of all": "UPDATE {t} SET id = -id",
    "tenants of all": "UPDATE {t} SET tenant = CASE WHEN id % 2 = 0 THEN 'other' END",
    "long key": "UPDATE {t} SET code = repeat('k', 100000) WHERE id = 2",
    "long tenant": "UPDATE {t} SET tenant = repeat(md5('t'), 200) WHERE id = 2",
    "key that no index takes": """UPDATE {t}
        SET code = (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 900) AS n)""",
    "twins": "UPDATE {t} SET id = 1, code = 'same'",
    "null as key": "UPDATE {t} SET code = NULL WHERE id = 1",
    "delete of one": "DELETE FROM {t} WHERE id = 3",
    "merge": """MERGE INTO {t} AS t USING (VALUES (1), (2), (900001)) AS s (id) ON t.id = s.id
        WHEN MATCHED AND s.id = 1 THEN DELETE WHEN MATCHED THEN UPDATE SET note = 'm'
        WHEN NOT MATCHED THEN INSERT VALUES (s.id, 'c', 'acme', 'm', NULL)""",
    "delete of all": "DELETE FROM {t}",
    "truncate": "TRUNCATE {t}",
}

SETTINGS: Mapping[str, str] = {
    "as usual": "",
    "strict plpgsql": "SET plpgsql.extra_errors = 'all'; SET plpgsql.variable_conflict = 'error'",
    "replica": "SET session_replication_role = replica",
    "old strings": "SET standard_conforming_strings = off; SET backslash_quote = off; SET escape_string_warning = on",
    "odd output": """SET datestyle = 'German'; SET bytea_output = 'escape'; SET extra_float_digits = -10;
        SET quote_all_identifiers = on; SET lc_monetary = 'C'; SET xmlbinary = 'hex'""",
    "odd meaning": "SET transform_null_equals = on; SET array_nulls = off; SET row_security = off",
    "no path": "SET search_path = ''",
    "odd plans": """SET enable_hashjoin = off; SET enable_hashagg = off; SET enable_mergejoin = off;
        SET plan_cache_mode = force_generic_plan; SET constraint_exclusion = on; SET jit_above_cost = 0""",
    "sorted plans": """SET enable_hashjoin = off; SET enable_hashagg = off; SET enable_nestloop = off;
        SET plan_cache_mode = force_generic_plan; SET constraint_exclusion = on; SET jit_above_cost = 0""",
    "little memory": "SET work_mem = '64kB'; SET hash_mem_multiplier = 1",
    "repeatable read": "SET default_transaction_isolation = 'repeatable read'",
    "serializable": "SET default_transaction_isolation = 'serializable'",
}

LIMITS: Mapping[str, str] = {
    "role": "ALTER ROLE {role} SET temp_file_limit = '64kB'",
    "role in the database": "ALTER ROLE {role} IN DATABASE {database} SET temp_file_limit = 64",
    "role, little memory": "ALTER ROLE {role} SET temp_file_limit = '64kB'; ALTER ROLE {role} SET work_mem = '64kB'",
}


async def outcome(session: Connection, statement: str) -> str:
    """What the application sees: the number of rows, or the error. Rolled back, so that each begins alike."""
    transaction = session.transaction()
    await transaction.start()
    try:
        return await session.execute(statement)
    except asyncpg.PostgresError as error:
        return f"{error.sqlstate} {type(error).__name__}"
    finally:
        await transaction.rollback()


@pytest.fixture
def _short_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigger_functions, "_KEYS_PER_ROW", KEYS_PER_ROW)


async def create_tables(source: SourceDatabase, size: tuple[int, str, str], *levels: CaptureLevel) -> None:
    """The table ``bare``, and one that is called as its level and captured on it, all with the same rows."""
    rows, note, document = size
    for name in "bare", *levels:
        await source.app.execute(f"""
            CREATE TABLE "{name}" (id int, code text, tenant text, note text, document jsonb, PRIMARY KEY (id, code));
            INSERT INTO "{name}" SELECT n, 'c' || n, 'acme', {note}, {document} FROM generate_series(1, {rows}) AS n""")
    for level in levels:
        await source.capture(level, key=("id", "code"), tenant="tenant", level=level)


async def differences(source: SourceDatabase, session: Connection, *levels: CaptureLevel) -> dict[str, dict[str, str]]:
    """By write, the outcomes by table, where they are not all the same."""
    differing = {}
    for name, write in WRITES.items():
        outcomes = {
            table: await outcome(session, write.format(t=f'{source.schema}."{table}"')) for table in ("bare", *levels)
        }
        if len(set(outcomes.values())) > 1:
            differing[name] = outcomes
    return differing


@pytest.mark.usefixtures("_short_arrays")
@pytest.mark.parametrize("size", SIZES)
async def test_settings_of_the_session_make_no_difference(source: SourceDatabase, size: str) -> None:
    await create_tables(source, SIZES[size], *CaptureLevel)
    found = {}
    for name, setting in SETTINGS.items():
        session = await source.session()
        await session.execute(setting or "SELECT")
        found[name] = await differences(source, session, *CaptureLevel)
    assert found == {name: {} for name in SETTINGS}


async def test_thousands_of_rows_in_a_statement_make_no_difference(source: SourceDatabase) -> None:
    """With all settings but those under which it would take minutes: rows one by one, or each with each other."""
    settings = {name: setting for name, setting in SETTINGS.items() if name not in {"replica", "odd plans"}}
    await create_tables(source, THOUSANDS, CaptureLevel.STATEMENT)
    found = {}
    for name, setting in settings.items():
        session = await source.session()
        await session.execute(setting or "SELECT")
        found[name] = await differences(source, session, CaptureLevel.STATEMENT)
    assert found == {name: {} for name in settings}


@pytest.mark.usefixtures("_short_arrays")
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("size", SIZES)
async def test_limits_make_no_difference_to_row_triggers(source: SourceDatabase, size: str, limit: str) -> None:
    """Statement triggers need temporary files for what exceeds work_mem; `exportd check` says so."""
    await create_tables(source, SIZES[size], CaptureLevel.ROW)
    role = f"limited_{source.schema}"
    database = identifier(await source.app.fetchval("SELECT current_database()"))
    await source.app.execute(f"CREATE ROLE {role} LOGIN; GRANT ALL ON SCHEMA {source.schema} TO {role}")
    await source.app.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {source.schema} TO {role}")
    await source.app.execute(LIMITS[limit].format(role=role, database=database))
    session = await source.session(user=role)
    assert await differences(source, session, CaptureLevel.ROW) == {}
