"""Why a run is full, and what is no reason for it."""

from dataclasses import replace

import pytest

from exportd.extraction.snapshot_reader import OpenSnapshot, Reader
from exportd.model.entity import Field
from exportd.model.errors import FullReason, PermanentError, Reason
from exportd.model.extraction import Mode
from exportd.model.schedule import DestinationCode
from tests.integration.capture.source_database import ACME, CapturedTable, SourceDatabase, a_job

TABLES = """
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TYPE address AS (street text, city text);
CREATE TABLE things (id int PRIMARY KEY, organization_id text, note text, mood mood, addresses address[], spare int);
INSERT INTO things SELECT i, 'acme', 'n' || i, 'good', ARRAY[ROW('a', 'b')]::address[] FROM generate_series(1, 3) AS i
"""


@pytest.fixture
async def things(source: SourceDatabase) -> CapturedTable:
    """Exported once, with one change waiting."""
    await source.app.execute(TABLES)
    fields = ("id", "organization_id", "note", "mood", "addresses")
    captured = await source.capture("things", tenant="organization_id", fields=fields)
    assert (await captured.export()).reason is FullReason.FIRST_RUN
    await source.app.execute("UPDATE things SET note = 'x' WHERE id = 1")
    return captured


REASONS = {
    "the triggers were off for a moment": (
        "ALTER TABLE things DISABLE TRIGGER ALL; ALTER TABLE things ENABLE TRIGGER ALL",
        FullReason.CAPTURE_CHANGED,
    ),
    "a child table came with a row": (
        "CREATE TABLE child () INHERITS (things); INSERT INTO child VALUES (7, 'acme')",
        FullReason.PARTITIONS_CHANGED,
    ),
    "a column has another type": ("ALTER TABLE things ALTER note TYPE varchar", FullReason.COLUMNS_CHANGED),
    "a column was rewritten in its own type": (
        "ALTER TABLE things ALTER note TYPE text USING upper(note)",
        FullReason.COLUMNS_CHANGED,
    ),
    "a column is another of the same name": (
        "ALTER TABLE things DROP note, ADD note text DEFAULT 'new'",
        FullReason.COLUMNS_CHANGED,
    ),
    "a label was renamed": ("ALTER TYPE mood RENAME VALUE 'good' TO 'great'", FullReason.COLUMNS_CHANGED),
    "a composite type was changed": ("ALTER TYPE address ADD ATTRIBUTE zip text", FullReason.COLUMNS_CHANGED),
    "another column came and a row went": (
        "ALTER TABLE things ADD added int; DELETE FROM things WHERE id = 2",
        FullReason.COLUMNS_CHANGED,
    ),
    "the type that it has, computed anew, and a grant": (
        "ALTER TABLE things ALTER note TYPE text USING upper(note); GRANT SELECT (note) ON things TO PUBLIC",
        FullReason.COLUMNS_CHANGED,
    ),
    "the log says that it does not know": ("INSERT INTO {log} (op) VALUES ('T')", FullReason.CHANGES_UNKNOWN),
}


@pytest.mark.every_postgres
@pytest.mark.parametrize("event", REASONS)
async def test_what_makes_a_run_full(things: CapturedTable, event: str) -> None:
    statement, reason = REASONS[event]
    await things.source.app.execute(statement.format(log=things.log))
    await things.install()
    export = await things.export()
    assert (export.mode, export.reason) == (Mode.FULL, reason)
    await things.source.app.execute("UPDATE things SET mood = 'bad' WHERE id = 1; DELETE FROM things WHERE id = 3")
    export = await things.export()
    assert (export.mode, export.keys) == (Mode.INCREMENTAL, ([(1,)], [(3,)]))


NO_REASONS = {
    "statistics": "ANALYZE things",
    "the table rewritten by maintenance": "VACUUM FULL things",
    "the catalog rewritten by maintenance": "VACUUM (FULL, FREEZE) pg_attribute; VACUUM (FULL, FREEZE) pg_trigger",
    "an index": "CREATE INDEX ON things (note)",
    "a comment and a grant": "COMMENT ON COLUMN things.note IS 'x'; GRANT SELECT ON things TO PUBLIC",
    "a grant on a column": "GRANT SELECT (note), UPDATE (note) ON things TO PUBLIC",
    "another default": "ALTER TABLE things ALTER note SET DEFAULT 'n', ALTER mood SET DEFAULT 'bad'",
    "statistics, storage and options of a column": "ALTER TABLE things ALTER note SET STATISTICS 500,"
    " ALTER note SET STORAGE EXTERNAL, ALTER note SET (n_distinct = 5)",
    "a constraint": "ALTER TABLE things ALTER note SET NOT NULL, ADD CHECK (note <> '')",
    "another owner, of a table with grants on columns": "GRANT SELECT (note) ON things TO PUBLIC;"
    " DO 'BEGIN CREATE ROLE new_owner; EXCEPTION WHEN duplicate_object THEN NULL; END';"
    " ALTER TABLE things OWNER TO new_owner",
    "the type that the column has": "ALTER TABLE things ALTER note TYPE text",
    "another label": "ALTER TYPE mood ADD VALUE 'so so'",
    "another column": "ALTER TABLE things ADD added int DEFAULT 7",
    "a column that is not exported": "ALTER TABLE things ALTER spare TYPE bigint",
    "a child table came without a row": "CREATE TABLE child () INHERITS (things)",
    "a trigger of the application": "CREATE TRIGGER zeros BEFORE UPDATE ON things FOR EACH ROW"
    " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
}


@pytest.mark.parametrize("event", NO_REASONS)
async def test_what_makes_no_run_full(things: CapturedTable, event: str) -> None:
    for statement in NO_REASONS[event].split("; ") if "VACUUM" in NO_REASONS[event] else [NO_REASONS[event]]:
        await things.source.app.execute(statement)
    await things.install()
    export = await things.export()
    assert (export.mode, export.reason, export.keys) == (Mode.INCREMENTAL, None, ([(1,)], []))


async def test_an_expired_position_an_edited_one_and_a_forced_run(things: CapturedTable) -> None:
    position = things.positions()[things.entity.code]
    cluster = dict(position.guards["cluster"])

    def elsewhere(**facts: object) -> dict[str, object]:
        return {**position.guards, "cluster": {**cluster, **facts}}

    future = "900000000000:900000000000:"
    cases = (
        (replace(position, expired=True), FullReason.HORIZON_PASSED),
        (replace(position, guards=elsewhere(system_identifier="1")), FullReason.CLUSTER_CHANGED),
        (replace(position, guards=elsewhere(database_oid=1)), FullReason.CLUSTER_CHANGED),
        (replace(position, guards=elsewhere(timeline="00000009")), FullReason.TIMELINE_CHANGED),
        (replace(position, snapshot=future), FullReason.SNAPSHOT_WENT_BACK),
        (replace(position, guards={"of": "an older version"}), FullReason.CATALOG_CHANGED),
    )
    for edited, reason in cases:
        things.set_position(edited)
        export = await things.export()
        assert (export.mode, export.reason, export.deleted) == (Mode.FULL, reason, {})
    for forced in (FullReason.AD_HOC, FullReason.IMAGES_UNREADABLE):
        assert (await things.export(forced=forced)).reason is forced


async def test_the_catalogs_entry_and_the_destinations_count_too(things: CapturedTable) -> None:
    entity = things.entity
    note = next(field for field in entity.fields if field.name == "note")
    for fields in (
        entity.fields[::-1],
        entity.fields[:3],
        tuple(replace(field, name="remark") if field is note else field for field in entity.fields),
    ):
        things = things.with_entity(replace(entity, fields=fields))
        assert (await things.export()).reason is FullReason.CATALOG_CHANGED
        assert (await things.export()).reason is None
    described = replace(entity, fields=(*fields[:-1], replace(fields[-1], type="integer")), label="other words")
    assert (await things.with_entity(described).export()).reason is None, "a description moves no data"
    lake, swamp = DestinationCode("lake"), DestinationCode("swamp")
    added = FullReason.DESTINATION_ADDED
    for destinations, reason in (((lake,), added), ((lake,), None), ((), None), ((swamp,), added)):
        snapshot, _ = await things.run(destinations=destinations)
        assert snapshot.windows[entity.code].full_reason is reason


async def test_an_entity_added_to_a_schedule_is_full_and_the_others_are_not(things: CapturedTable) -> None:
    source = things.source
    lines = await source.capture("lines", "id int PRIMARY KEY")
    entities = [things.entity, lines.entity]
    job = a_job([entity.code for entity in entities])
    async with source.opener.open(Reader(job, entities, things.positions())) as snapshot:
        reasons = {code: window.full_reason for code, window in snapshot.windows.items()}
    assert reasons == {things.entity.code: None, lines.entity.code: FullReason.ENTITY_ADDED}


async def test_an_expression_makes_every_column_count(source: SourceDatabase) -> None:
    await source.app.execute(TABLES)
    things = await source.capture("things", fields=("id",))
    expressive = replace(
        things.entity, fields=(*things.entity.fields, Field("sum", expression="id + coalesce(spare, 0)"))
    )
    things = things.with_entity(expressive)
    await things.run()
    await source.app.execute("ALTER TABLE things ALTER spare TYPE bigint USING 5")
    snapshot, _ = await things.run()
    assert snapshot.windows[things.entity.code].full_reason is FullReason.COLUMNS_CHANGED


async def test_a_full_run_names_the_deletions_that_the_log_still_holds(things: CapturedTable) -> None:
    app = things.source.app
    await app.execute("DELETE FROM things WHERE id IN (1, 2)")
    await app.execute("ALTER TABLE things DISABLE TRIGGER ALL; ALTER TABLE things ENABLE TRIGGER ALL")
    await things.install()
    export = await things.export()
    assert (export.reason, export.keys) == (FullReason.CAPTURE_CHANGED, ([(3,)], [(1,), (2,)]))


async def test_a_transaction_open_through_several_runs_is_in_the_one_after_its_end(things: CapturedTable) -> None:
    session = await things.source.session()
    transaction = session.transaction()
    await transaction.start()
    await session.execute("UPDATE things SET note = 'slow' WHERE id = 3")
    for number in range(3):
        await things.source.app.execute(f"INSERT INTO things VALUES ({10 + number}, 'acme')")
        assert (await things.export()).keys[0][-1] == (10 + number,)
    await transaction.commit()
    assert (await things.export()).keys == ([(3,)], [])


async def test_what_is_written_after_the_snapshot_waits_for_the_next_run(things: CapturedTable) -> None:
    session = await things.source.session()

    async def write(_: OpenSnapshot) -> None:
        await session.execute("DELETE FROM things WHERE id = 1; INSERT INTO things VALUES (4, 'acme')")

    snapshot, content = await things.run(while_open=write)
    assert snapshot.windows[things.entity.code].mode is Mode.INCREMENTAL
    assert content.count(b"\n") == 1
    assert b'"note":"x"' in content
    export = await things.export(ACME, compare=False)
    assert export.keys == ([(4,)], [(1,)])


async def test_a_position_of_an_earlier_version_goes_on_as_it_did(things: CapturedTable) -> None:
    """It has no layout and no files to compare: a description of a column with a new version makes the run full."""
    position = things.positions()[things.entity.code]
    known = {"cluster", "triggers", "partitions", "columns", "row_shape", "definition", "type_parts"}
    earlier = replace(position, guards={name: fact for name, fact in position.guards.items() if name in known})
    things.set_position(earlier)
    assert (await things.export()).mode is Mode.INCREMENTAL
    things.set_position(earlier)
    await things.source.app.execute("ALTER TABLE things ALTER note SET STATISTICS 500")
    assert (await things.export()).reason is FullReason.COLUMNS_CHANGED


@pytest.mark.every_postgres
async def test_a_composite_type_that_is_a_table_may_get_defaults_and_grants(source: SourceDatabase) -> None:
    await source.app.execute(
        "CREATE TABLE templates (name text); CREATE TABLE things (id int PRIMARY KEY, t templates)"
    )
    things = await source.capture("things")
    await source.app.execute("INSERT INTO things VALUES (1, ROW('a')), (2, ROW('b'))")
    await things.export()
    await source.app.execute(
        "ALTER TABLE templates ALTER name SET DEFAULT 'x'; GRANT SELECT (name) ON templates TO PUBLIC"
    )
    await source.app.execute("DELETE FROM things WHERE id = 1")
    assert (await things.export()).keys == ([], [(1,)])
    await source.app.execute("ALTER TABLE templates RENAME name TO label")
    assert (await things.export()).reason is FullReason.COLUMNS_CHANGED


@pytest.mark.every_postgres
async def test_a_partition_may_be_renamed(source: SourceDatabase) -> None:
    await source.app.execute(
        "CREATE TABLE things (id int PRIMARY KEY, note text) PARTITION BY RANGE (id);"
        " CREATE TABLE low PARTITION OF things FOR VALUES FROM (0) TO (10)"
    )
    things = await source.capture("things")
    await source.app.execute("INSERT INTO things VALUES (1), (2)")
    await things.export()
    await source.app.execute("ALTER TABLE low RENAME TO lower_ones; UPDATE things SET note = 'x' WHERE id = 1")
    await things.install()
    export = await things.export()
    assert (export.reason, export.keys) == (None, ([(1,)], []))


@pytest.mark.every_postgres
async def test_an_unlogged_table_is_full_each_time_and_once_more_when_it_is_logged_again(things: CapturedTable) -> None:
    app = things.source.app
    await app.execute("ALTER TABLE things SET UNLOGGED")
    for _ in range(2):
        assert (await things.export()).reason is FullReason.TABLE_UNLOGGED
    # What a crash does to it.
    await app.execute("SET session_replication_role = replica; DELETE FROM things WHERE id = 2")
    await app.execute("RESET session_replication_role")
    assert (await things.export()).reason is FullReason.TABLE_UNLOGGED
    await app.execute("ALTER TABLE things SET LOGGED")
    assert (await things.export()).reason is FullReason.TABLE_UNLOGGED
    assert (await things.export()).reason is None


@pytest.mark.every_postgres
async def test_a_child_with_a_key_of_its_parent_is_told(source: SourceDatabase) -> None:
    things = await source.capture("things", "id int PRIMARY KEY, note text")
    await source.app.execute("INSERT INTO things VALUES (1, 'parent'), (2, 'x')")
    await things.export()
    await source.app.execute("CREATE TABLE child () INHERITS (things)")
    await source.app.execute("INSERT INTO child VALUES (3, 'child')")
    await things.install()
    assert (await things.export()).mode is Mode.FULL
    await source.app.execute("INSERT INTO child VALUES (1, 'child')")
    with pytest.raises(PermanentError, match=r'same key \("id"\).*inheritance child') as caught:
        await things.export()
    assert caught.value.reason is Reason.KEY_NOT_UNIQUE
    with pytest.raises(PermanentError, match="several rows"):
        await things.export(forced=FullReason.REQUESTED)
    await source.app.execute("DELETE FROM ONLY things WHERE id = 1")
    assert (await things.export()).present[1,]["note"] == "child"


async def test_a_key_that_nothing_makes_unique_any_more_is_looked_at(source: SourceDatabase) -> None:
    things = await source.capture(
        "things", "id int NOT NULL, organization_id text, note text", tenant="organization_id"
    )
    await source.app.execute("CREATE UNIQUE INDEX ones ON things (id)")
    await source.app.execute("INSERT INTO things VALUES (1, 'acme'), (2, 'acme')")
    await things.export()
    await source.app.execute("DROP INDEX ones; INSERT INTO things VALUES (3, 'acme'), (3, 'other')")
    assert (await things.export()).keys == ([(3,)], []), "a consumer has one organization"
    await source.app.execute("INSERT INTO things VALUES (3, 'acme')")
    with pytest.raises(PermanentError, match="several rows"):
        await things.export()
