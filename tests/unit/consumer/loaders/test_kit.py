"""What holds for the scripts of every database, run or not."""

import re

import pytest

from exportd.consumer.loaders.dialect import backquoted, doubled_literal, escaped_literal
from exportd.consumer.loaders.kit import statements
from exportd.manifest.document import Manifest
from exportd.model.errors import PermanentError
from exportd.model.schedule import DialectName
from exportd.settings.destination_schema import Scheme
from exportd.stores.location import Location, parse_location
from tests.unit.manifest.manifest_examples import dated, entity_of, manifest_of

FULL = manifest_of(1, entity_of(1, None), entity_of(1, None, code="BILLS"))
INCREMENT = manifest_of(2, entity_of(2, 1), after=FULL)

PLACES = {
    DialectName.DUCKDB: "s3://bucket",
    DialectName.POSTGRESQL: "s3://bucket",
    DialectName.SNOWFLAKE: "s3://bucket",
    DialectName.BIGQUERY: "gs://bucket",
    DialectName.REDSHIFT: "s3://bucket",
    DialectName.CLICKHOUSE: "s3://bucket",
}


def place(dialect: DialectName) -> Location:
    return parse_location(PLACES[dialect])


@pytest.mark.parametrize("dialect", list(DialectName))
@pytest.mark.parametrize("manifest", [FULL, INCREMENT], ids=["full", "increment"])
def test_each_object_is_loaded_and_each_entity_merged(dialect: DialectName, manifest: Manifest) -> None:
    script = statements(manifest, dialect, place(dialect))
    for entity in manifest.entities:
        for part in entity.parts:
            assert part.key in script
        assert re.search(rf'INSERT INTO|CREATE OR REPLACE TABLE ["`]{entity.code}["`] ', script)
    assert ("DELETE FROM" in script) is (manifest is INCREMENT)
    assert str(manifest.job_id) in script


@pytest.mark.parametrize("dialect", list(DialectName))
def test_an_export_with_a_start_date_is_merged_into_what_is_there_if_anything_is(dialect: DialectName) -> None:
    script = statements(dated(FULL), dialect, place(dialect))
    made = re.search(r'CREATE TABLE IF NOT EXISTS ["`]ACCOUNTS["`]', script)
    assert made is not None
    assert made.start() < script.index("DELETE FROM")
    assert "-- It holds what was modified at 2026-03-09T04:15:00+00:00 or later, and no deletions" in script
    assert "CREATE TABLE IF NOT EXISTS" not in statements(INCREMENT, dialect, place(dialect))


@pytest.mark.parametrize("dialect", list(DialectName))
def test_an_increment_without_a_key_is_refused(dialect: DialectName) -> None:
    (entity,) = INCREMENT.entities
    hidden = type(entity)(**{slot: getattr(entity, slot) for slot in entity.__slots__} | {"key": ("secretId",)})
    with pytest.raises(PermanentError, match="its key secretId is no field of the export"):
        statements(manifest_of(2, hidden, after=FULL), dialect, place(dialect))


def test_a_copy_is_loaded_from_where_it_lies() -> None:
    script = statements(FULL, DialectName.DUCKDB, parse_location("/srv/copy"), folder="eu/")
    assert "'/srv/copy/eu/ACCOUNTS/1.0002'" in script


def test_names_and_texts_cannot_end_their_quotes() -> None:
    assert backquoted("a`b\\") == "`a\\`b\\\\`"
    assert escaped_literal("it's\\\n") == "'it\\'s\\\\\\n'"
    assert doubled_literal("it's\\") == "'it''s\\'"
    with pytest.raises(ValueError, match="empty"):
        backquoted("")


HOSTILE = (
    *("x\n\\! touch pwned\n", "x\rDROP TABLE a;", "x\u2028\\! true", "x\x1b[2J"),
    *("x*/\nDROP TABLE a;", "x'\n;DROP TABLE a;", 'x"\n;DROP TABLE a;', "x`\n;DROP TABLE a;", "x\\"),
)


@pytest.mark.parametrize("dialect", list(DialectName))
@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_of_a_manifest_is_part_of_no_line_that_begins_with_it(dialect: DialectName, name: str) -> None:
    """A manifest is the work of who may write to the bucket. psql's own commands end with their line."""
    hostile = manifest_of(1, entity_of(1, None, code=name))
    try:
        script = statements(hostile, dialect, place(dialect))
    except PermanentError as error:
        assert dialect is DialectName.POSTGRESQL
        assert "a control character" in error.sentence
        assert any(character < " " or character == "\u2028" for character in name)
        return
    comments = [line for line in script.split("\n") if line.startswith("-- ")]
    assert any(line.startswith("-- x") for line in comments)
    assert all(line.isprintable() for line in comments)
    if dialect is DialectName.POSTGRESQL:
        assert "\x1b" not in script


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\x00b", "a\u2029b"])
def test_a_key_that_would_end_a_command_of_psql_is_refused(name: str) -> None:
    with pytest.raises(PermanentError, match="the rest would be run as SQL"):
        statements(FULL, DialectName.POSTGRESQL, Location(Scheme.DIRECTORY, f"/srv/{name}"))


@pytest.mark.parametrize("dialect", list(DialectName))
def test_a_script_that_was_never_run_says_so_first(dialect: DialectName) -> None:
    first = statements(FULL, dialect, place(dialect)).partition("\n")[0]
    never_run = dialect in {DialectName.SNOWFLAKE, DialectName.BIGQUERY, DialectName.REDSHIFT}
    assert ("have never been run" in first) is never_run
    assert first.startswith("-- ")


def test_what_stops_a_load_into_postgresql_is_said_with_what_to_do() -> None:
    script = statements(FULL, DialectName.POSTGRESQL, place(DialectName.POSTGRESQL))
    assert re.search(r"^-- .*\\\. alone: use psql 18, or export JSONL\.$", script, re.MULTILINE)
    assert re.search(r"^-- .*\\u0000 stops the load.*export CSV\.$", script, re.MULTILINE)
