"""The tables of a consumer's DuckDB file, in the form of the sample application's contents."""

from pathlib import Path

import duckdb

from tests.acceptance.sample_application import Contents


def contents_of(path: Path) -> Contents:
    """Its tables by entity and key, every value as text."""
    found: Contents = {}
    with duckdb.connect(str(path), read_only=True) as connection:
        for (entity,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
            rows = connection.execute(f'SELECT COLUMNS(*)::VARCHAR FROM "{entity}"')
            names = [column[0] for column in rows.description or ()]
            found[entity] = {(row[0],): dict(zip(names, row, strict=True)) for row in rows.fetchall()}
    return found
