"""The databases that loading scripts are written for; here, so that the command line imports no script. Pure."""

from enum import StrEnum


class DialectName(StrEnum):
    """The databases that loading scripts are written for."""

    DUCKDB = "duckdb"
    POSTGRESQL = "postgresql"
    SNOWFLAKE = "snowflake"
    BIGQUERY = "bigquery"
    REDSHIFT = "redshift"
    CLICKHOUSE = "clickhouse"
