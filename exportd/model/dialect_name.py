"""The databases that scripts can be written for. Apart, for the command line knows them at its start. Pure."""

from enum import StrEnum


class DialectName(StrEnum):
    """The databases that scripts can be written for."""

    DUCKDB = "duckdb"
    POSTGRESQL = "postgresql"
    SNOWFLAKE = "snowflake"
    BIGQUERY = "bigquery"
    REDSHIFT = "redshift"
    CLICKHOUSE = "clickhouse"
