"""A deleted record reads like the live one did, byte for byte, by whichever role and statement it was deleted."""

import pytest

from exportd.database.connector import Connection
from exportd.model.schedule import ExportFormat
from tests.fixtures.file_parsers import csv_texts
from tests.fixtures.snapshot_exports import Exported
from tests.integration.fidelity.conftest import Awkward
from tests.integration.fidelity.values import ROWS

pytestmark = [pytest.mark.every_postgres, pytest.mark.slow]

# What a session may set, and would be seen in the text of its values or in what its operators mean.
_HOSTILE = {
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "timezone": "Asia/Kolkata",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "lc_monetary": "C.utf8",
    "xmlbinary": "hex",
    "xmloption": "document",
    "array_nulls": "off",
    "quote_all_identifiers": "on",
    "standard_conforming_strings": "off",
    "escape_string_warning": "off",
    "session_replication_role": "replica",
    "client_min_messages": "debug5",
    "transform_null_equals": "on",
    "default_transaction_isolation": "read committed",
    "plan_cache_mode": "force_generic_plan",
}
_HOSTILE_SCHEMA = """
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.no(anyelement, anyelement) RETURNS boolean LANGUAGE sql AS 'SELECT false';
CREATE FUNCTION hostile.no(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT false';
CREATE FUNCTION hostile.no(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT false';
CREATE OPERATOR hostile.= (LEFTARG = int, RIGHTARG = int, FUNCTION = hostile.no);
CREATE OPERATOR hostile.<> (LEFTARG = int, RIGHTARG = int, FUNCTION = hostile.no);
CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.no);
CREATE OPERATOR hostile.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.no);
CREATE OPERATOR hostile.= (LEFTARG = anyelement, RIGHTARG = anyelement, FUNCTION = hostile.no);
CREATE FUNCTION hostile.nextval(regclass) RETURNS bigint LANGUAGE sql AS 'SELECT 1 / 0::bigint';
CREATE FUNCTION hostile.current_setting(text) RETURNS text LANGUAGE sql AS $$SELECT 'hostile'$$;
CREATE FUNCTION hostile.row_image(anyelement) RETURNS text LANGUAGE sql AS $$SELECT 'hostile'$$;
CREATE FUNCTION hostile.replace(text, text, text) RETURNS text LANGUAGE sql AS $$SELECT 'hostile'$$;
CREATE DOMAIN hostile.text AS pg_catalog.int4;
CREATE DOMAIN hostile.timestamptz AS pg_catalog.int4;
"""

_EQUALS = "OPERATOR(pg_catalog.=)"

REMOVALS = {
    "all at once": ["DELETE FROM public.awkward"],
    "one by one": [f"DELETE FROM public.awkward WHERE id {_EQUALS} {row}" for row in range(ROWS + 1)],
    "moved one by one": [
        f"UPDATE public.awkward SET id = id OPERATOR(pg_catalog.+) 1000 WHERE id {_EQUALS} {row}"
        for row in range(ROWS + 1)
    ],
    "moved to other keys": ["UPDATE public.awkward SET id = id OPERATOR(pg_catalog.+) 1000"],
    "moved to another organization": ["UPDATE public.awkward SET organization = 'other'"],
    "truncated": ["TRUNCATE public.awkward"],
    "in a cursor": [
        """DO $$DECLARE found record; rows CURSOR FOR SELECT id FROM public.awkward FOR UPDATE; BEGIN
        FOR found IN rows LOOP DELETE FROM public.awkward WHERE CURRENT OF rows; END LOOP; END$$"""
    ],
    "merged away": ["MERGE INTO public.awkward AS t USING (SELECT) AS s ON true WHEN MATCHED THEN DELETE"],
}

_FROM_THE_PARTITION = {
    "from the partition": ["DELETE FROM public.awkward_all"],
    "moved in the partition": ["UPDATE public.awkward_all SET id = id OPERATOR(pg_catalog.+) 1000"],
    "partition truncated": ["TRUNCATE public.awkward_all"],
}


async def test_a_deleted_record_is_the_live_one_but_for_its_marker(awkward: Awkward) -> None:
    hostile = await awkward.database.connect()
    await hostile.execute(_HOSTILE_SCHEMA)
    await _set(hostile, {**_HOSTILE, "search_path": "hostile, pg_catalog"})
    partitioned = await awkward.judge.fetchval("SELECT to_regclass('public.awkward_all') IS NOT NULL")
    schedules = {chosen: awkward.schedule() for chosen in ExportFormat}
    for removal, statements in {**REMOVALS, **(_FROM_THE_PARTITION if partitioned else {})}.items():
        live = {}
        for chosen, schedule in schedules.items():
            exported = (await awkward.exporter.run(schedule, chosen))["AWKWARD"]
            live[chosen] = _records(exported, deleted=False)
            assert len(live[chosen]) == ROWS + 1
        for statement in statements:
            await hostile.execute(statement)
        for chosen, schedule in schedules.items():
            exported = (await awkward.exporter.run(schedule, chosen))["AWKWARD"]
            assert exported.window.full_reason is None
            assert _records(exported, deleted=True) == live[chosen], f"{removal}, {chosen}"
        await awkward.refill(big=False)


async def _set(connection: Connection, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        await connection.execute(f"SELECT set_config('{name}', '{value}', false)")


def _records(exported: Exported, *, deleted: bool) -> list[str]:
    """The records that are (not) deletions, as they are spelled, without their marker; sorted."""
    marker = str(deleted).lower()
    if exported.file_format is ExportFormat.CSV:
        texts, end = csv_texts(exported.content), f",{marker}\n"
    else:
        texts, end = [f"{line}\n" for line in exported.content.decode().split("\n")[:-1]], f',"deleted":{marker}}}\n'
    return sorted(text.removesuffix(end) for text in texts if text.endswith(end))


async def test_settings_of_the_database_do_not_reach_the_files(awkward: Awkward) -> None:
    """They would change what is written, or how a deleted record's image is read back."""
    schedules = {chosen: awkward.schedule() for chosen in ExportFormat}
    before = {
        chosen: _records((await awkward.exporter.run(schedule, chosen))["AWKWARD"], deleted=False)
        for chosen, schedule in schedules.items()
    }
    await awkward.judge.execute(_HOSTILE_SCHEMA)
    for name, value in {**_HOSTILE, "search_path": "hostile, public"}.items():
        values = ", ".join(f"'{part}'" for part in value.split(", "))
        await awkward.judge.execute(f"ALTER DATABASE {awkward.database.name} SET {name} = {values}")
    for chosen in ExportFormat:
        again = (await awkward.exporter.run(awkward.schedule(), chosen))["AWKWARD"]
        assert _records(again, deleted=False) == before[chosen]
    await awkward.judge.execute("DELETE FROM public.awkward")
    for chosen, schedule in schedules.items():
        exported = (await awkward.exporter.run(schedule, chosen))["AWKWARD"]
        assert _records(exported, deleted=True) == before[chosen]
