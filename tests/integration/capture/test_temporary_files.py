"""temp_file_limit: what it means for captured tables, what check says of it, and the capture that needs no files."""

from dataclasses import replace

import asyncpg
import pytest

from exportd.database.connector import Connection
from exportd.database.quoting import identifier
from exportd.database.setup_checker import temp_file_warnings
from exportd.model.entity import CaptureLevel
from exportd.model.extraction import Mode
from tests.integration.capture.source_database import SourceDatabase

pytestmark = pytest.mark.every_postgres


async def limited(source: SourceDatabase) -> Connection:
    """A session of an application whose role has a limit of 2 MB."""
    role = f"limited_{source.schema}"
    await source.app.execute(f"""CREATE ROLE {role} LOGIN; ALTER ROLE {role} SET temp_file_limit = '2MB';
        ALTER ROLE {role} SET work_mem = '64kB'; GRANT ALL ON SCHEMA {source.schema} TO {role};
        GRANT ALL ON ALL TABLES IN SCHEMA {source.schema} TO {role}""")
    return await source.session(user=role)


async def test_large_statements_need_no_temporary_files_with_row_triggers(source: SourceDatabase) -> None:
    things = await source.capture("things", "id int PRIMARY KEY, note text", level=CaptureLevel.ROW)
    application = await limited(source)
    note = "repeat('x', 290)"
    await application.execute(f"INSERT INTO things SELECT n, {note} FROM generate_series(1, 5000) AS n")
    await things.export()
    await application.execute("UPDATE things SET note = note || 'y'")
    await application.execute(
        "UPDATE things SET id = -id WHERE id < 100; DELETE FROM things WHERE id BETWEEN 100 AND 199"
    )
    export = await things.export()
    assert (export.mode, len(export.present), len(export.deleted)) == (Mode.INCREMENTAL, 4900, 199)
    await application.execute("TRUNCATE things")
    assert len((await things.export()).deleted) == 4900


async def test_check_says_what_statements_the_limits_allow(source: SourceDatabase) -> None:
    things = await source.capture("things", "id int PRIMARY KEY, note text")
    application = await limited(source)
    await application.execute("INSERT INTO things SELECT n, repeat('x', 290) FROM generate_series(1, 3000) AS n")
    with pytest.raises(asyncpg.PostgresError, match="temporary file size exceeds"):
        await application.execute("UPDATE things SET note = note || 'y'; UPDATE things SET note = repeat('z', 1000)")
    database = identifier(await source.app.fetchval("SELECT current_database()"))
    await source.app.execute(f"ALTER DATABASE {database} SET temp_file_limit = 10240")
    try:
        said = await temp_file_warnings(source.app, [things.entity])
        said = [sentence for sentence in said if "the role" not in sentence or source.schema in sentence]
        assert [sentence.split(":")[0] for sentence in said] == [
            "temp_file_limit of the database is 10.5 MB",
            f"temp_file_limit of the role limited_{source.schema} is 2.1 MB",
        ]
        assert "an UPDATE more than 1.0 MB" in said[1]
        assert await temp_file_warnings(source.app, [replace(things.entity, capture=CaptureLevel.ROW)]) == []
    finally:
        await source.app.execute(f"ALTER DATABASE {database} RESET temp_file_limit")
