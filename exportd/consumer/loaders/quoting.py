"""Quotes identifiers and literals for databases that have other rules than Postgres. The only place that does. Pure."""

import shlex


def backquoted(name: str) -> str:
    """The name as an identifier of BigQuery and ClickHouse. Raises ValueError for an empty one."""
    if not name:
        raise ValueError("an identifier cannot be empty")
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def escaped_literal(value: str) -> str:
    """The text as a string constant where a backslash escapes: Snowflake, BigQuery, ClickHouse."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def doubled_literal(value: str) -> str:
    """The text as a string constant where a backslash is a character like others: DuckDB, and psql's own commands."""
    return "'" + value.replace("'", "''") + "'"


def shell_word(value: str) -> str:
    """The text as one word of a shell's command."""
    return shlex.quote(value)
