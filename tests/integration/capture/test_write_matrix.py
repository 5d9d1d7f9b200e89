"""No write of the application fails because of capture: the same writes on a captured table and on a bare one.

Kinds of write, sizes, settings of the session, and limits of role and database are multiplied with each other. The
outcome must never differ: both succeed, or both fail with the same error.
"""

from collections.abc import Mapping

import asyncpg
import pytest

from exportd.database.connector import Connection
from exportd.database.quoting import identifier
from exportd.model.entity import CaptureLevel
from tests.integration.capture.source_database import SourceDatabase

pytestmark = pytest.mark.every_postgres

SIZES: Mapping[str, tuple[int, str, str]] = {
    # rows, note, document
    "few": (3, "'x' || n", "to_jsonb(n)"),
    "many": (10_500, "'x' || n", "NULL"),
    "some": (700, "'x' || n", "NULL"),
    "wide": (3, "repeat(md5(n::text), 20000)", "jsonb_build_object('k', repeat(md5(n::text), 20000))"),
    "compressed": (3, "repeat('\"', 2000000)", "to_jsonb(array_fill(1e1000, ARRAY[2000]))"),
}

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


async def twins(source: SourceDatabase, size: str, level: CaptureLevel) -> None:
    """The tables bare and captured, with the same rows."""
    rows, note, document = SIZES[size]
    for name in "bare", "captured":
        await source.app.execute(f"""
            CREATE TABLE {name} (id int, code text, tenant text, note text, document jsonb, PRIMARY KEY (id, code));
            INSERT INTO {name} SELECT n, 'c' || n, 'acme', {note}, {document} FROM generate_series(1, {rows}) AS n""")
    await source.capture("captured", key=("id", "code"), tenant="tenant", level=level)


async def compare(source: SourceDatabase, session: Connection) -> None:
    differing = {}
    for name, write in WRITES.items():
        outcomes = [
            await outcome(session, write.format(t=f"{source.schema}.{table}")) for table in ("bare", "captured")
        ]
        if outcomes[0] != outcomes[1]:
            differing[name] = outcomes
    assert differing == {}


@pytest.mark.parametrize(
    ("size", "level"), [(size, level) for size in SIZES for level in CaptureLevel if (size, level) != ("many", "row")]
)
async def test_settings_of_the_session_make_no_difference(
    source: SourceDatabase, size: str, level: CaptureLevel
) -> None:
    await twins(source, size, level)
    # Many rows take their time: only settings that have to do with how many there are.
    names = SETTINGS if size != "many" else ("little memory", "odd plans")
    for name in names:
        session = await source.session()
        await session.execute(SETTINGS[name] or "SELECT")
        await compare(source, session)


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("size", [size for size in SIZES if size != "many"])
async def test_limits_make_no_difference_to_row_triggers(source: SourceDatabase, size: str, limit: str) -> None:
    """Statement triggers need temporary files for what exceeds work_mem; `exportd check` says so."""
    await twins(source, size, CaptureLevel.ROW)
    role = f"limited_{source.schema}"
    database = identifier(await source.app.fetchval("SELECT current_database()"))
    await source.app.execute(f"CREATE ROLE {role} LOGIN; GRANT ALL ON SCHEMA {source.schema} TO {role}")
    await source.app.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {source.schema} TO {role}")
    await source.app.execute(LIMITS[limit].format(role=role, database=database))
    session = await source.session(user=role)
    await compare(source, session)
