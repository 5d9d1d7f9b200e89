"""The warehouses that are cloud services: BigQuery, Redshift, Snowflake. The tests cannot run their scripts.

BigQuery and Redshift read from the buckets of their own clouds; Snowflake reads through a stage of yours.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from exportd.consumer.loaders.dialect import (
    Dialect,
    backquoted,
    doubled_literal,
    escaped_literal,
    fields_of,
    key_of,
)
from exportd.manifest.document import ManifestEntity, ManifestField
from exportd.model.entity import DELETED_FIELD
from exportd.model.schedule import ExportFormat
from exportd.stores.location import Location

_SNOWFLAKE_CSV = (
    "TYPE = CSV COMPRESSION = GZIP SKIP_HEADER = 1 FIELD_OPTIONALLY_ENCLOSED_BY = '\"' ESCAPE_UNENCLOSED_FIELD = NONE "
    "NULL_IF = () EMPTY_FIELD_AS_NULL = TRUE"
)
# One cell per line, so that no parser touches it before we do.
_SNOWFLAKE_LINES = (
    "TYPE = CSV COMPRESSION = GZIP FIELD_DELIMITER = NONE ESCAPE_UNENCLOSED_FIELD = NONE NULL_IF = () "
    "EMPTY_FIELD_AS_NULL = FALSE"
)


class BigQuery(Dialect):
    """Staging tables are real ones, removed at the end."""

    text = "STRING"
    was_run = False
    boolean = "BOOL"
    begin = ()
    end = ()
    casts: ClassVar[Mapping[str, str]] = {
        "integer": "SAFE_CAST({} AS BIGNUMERIC)",
        "float": "SAFE_CAST({} AS FLOAT64)",
        "json": "SAFE.PARSE_JSON({}, wide_number_mode => 'round')",
        "date": "SAFE_CAST({} AS DATE)",
        "date-time": "SAFE_CAST({} AS TIMESTAMP)",
    }
    remarks = (
        "Run it with a default dataset: bq query --use_legacy_sql=false --dataset_id=… < FILE",
        "Objects that are not in Google Cloud Storage have to be copied there first, under the same keys.",
        "From CSV, BigQuery may not tell an empty text from NULL: export JSONL where that matters.",
    )

    def identifier(self, name: str) -> str:
        return backquoted(name)

    def stage(
        self, entity: ManifestEntity, file_format: ExportFormat, location: Location, keys: Sequence[str]
    ) -> Iterator[str]:
        uris = ", ".join(escaped_literal(f"gs://{location.root}/{key}") for key in keys)
        staging = self.staging(entity)
        if not keys:
            yield f"CREATE OR REPLACE TABLE {staging} (\n    {self.definitions(entity.fields)}\n)"
            return
        if file_format is ExportFormat.CSV:
            yield (
                f"LOAD DATA OVERWRITE {staging} (\n    {self.definitions(entity.fields)}\n)\n"
                f"FROM FILES (format = 'CSV', uris = [{uris}], skip_leading_rows = 1, allow_quoted_newlines = true)"
            )
            return
        # Whole lines: BigQuery's JSON reader would round numbers.
        lines = self.identifier(f"{entity.code}_lines")
        yield (
            f"LOAD DATA OVERWRITE {lines} (line STRING)\n"
            f"FROM FILES (format = 'CSV', uris = [{uris}], field_delimiter = '\\x02', quote = '')"
        )
        values = ",\n    ".join(f"{self._value(field)} AS {self.identifier(field.name)}" for field in entity.fields)
        yield f"CREATE OR REPLACE TABLE {staging} AS\nSELECT\n    {values}\nFROM {lines}"
        yield f"DROP TABLE {lines}"

    def upsert(self, entity: ManifestEntity) -> Iterator[str]:
        names = [self.identifier(name) for name in key_of(entity)]
        same = " AND ".join(f"held.{name} = staged.{name}" for name in names)
        yield "BEGIN TRANSACTION"
        yield (
            f"DELETE FROM {self.table(entity)} AS held\n"
            f"WHERE EXISTS (SELECT 1 FROM {self.staging(entity)} AS staged WHERE {same})"
        )
        yield self.insert(entity)
        yield "COMMIT TRANSACTION"

    def _value(self, field: ManifestField) -> str:
        path = escaped_literal(f'$."{field.name}"')
        if field.name == DELETED_FIELD or field.type == "boolean":
            return f"CAST(JSON_VALUE(line, {path}) AS BOOL)"
        if field.type == "json":
            return f"NULLIF(JSON_QUERY(line, {path}), 'null')"
        # JSON_VALUE gives no objects and lists, JSON_QUERY gives texts with their quotes.
        return f"COALESCE(JSON_VALUE(line, {path}), NULLIF(JSON_QUERY(line, {path}), 'null'))"


class Redshift(Dialect):
    """Texts of more than 65,535 bytes do not fit; COPY says so."""

    text = "VARCHAR(65535)"
    was_run = False
    casts: ClassVar[Mapping[str, str]] = {
        "integer": "TRY_CAST({} AS DECIMAL(38, 0))",
        "float": "TRY_CAST({} AS DOUBLE PRECISION)",
        "date": "TRY_CAST({} AS DATE)",
        "date-time": "TRY_CAST({} AS TIMESTAMPTZ)",
    }
    begin = ("SET enable_case_sensitive_identifier TO true", "BEGIN")
    remarks = (
        "Redshift takes its credentials from the role that is its default: otherwise replace IAM_ROLE default.",
        "Objects that are not in S3 have to be copied there first, under the same keys.",
        "From CSV, Redshift does not tell an empty text from NULL: export JSONL where that matters.",
        "SET enable_case_sensitive_identifier TO true keeps names of fields apart that differ by case only.",
    )

    def stage(
        self, entity: ManifestEntity, file_format: ExportFormat, location: Location, keys: Sequence[str]
    ) -> Iterator[str]:
        staging = self.staging(entity)
        yield f"CREATE TEMP TABLE {staging} (\n    {self.definitions(entity.fields)}\n)"
        options = "CSV IGNOREHEADER 1" if file_format is ExportFormat.CSV else "FORMAT JSON 'auto'"
        for key in keys:
            url = doubled_literal(f"s3://{location.root}/{key}")
            yield f"COPY {staging} FROM {url}\nIAM_ROLE default {options} GZIP COMPUPDATE OFF"

    def replace(self, entity: ManifestEntity) -> Iterator[str]:
        yield f"DROP TABLE IF EXISTS {self.table(entity)}"
        yield f"CREATE TABLE {self.table(entity)} (\n    {self.definitions(fields_of(entity))}\n)"
        yield self.insert(entity)

    def view(self, entity: ManifestEntity) -> Iterator[str]:
        # Not bound to the table: a full run drops that.
        yield from (f"{statement}\nWITH NO SCHEMA BINDING" for statement in super().view(entity))


class Snowflake(Dialect):
    """The stage holds the credentials."""

    text = "VARCHAR"
    was_run = False
    # A statement that makes a table ends a transaction here: each entity gets one of its own.
    begin = ()
    end = ()
    casts: ClassVar[Mapping[str, str]] = {
        "integer": "TRY_TO_NUMBER({}, 38, 0)",
        "float": "TRY_TO_DOUBLE({})",
        "json": "TRY_PARSE_JSON({})",
        "date": "TRY_TO_DATE({})",
        "date-time": "TRY_TO_TIMESTAMP_TZ({})",
    }
    remarks = (
        "Make the stage once: CREATE STAGE exportd URL = 's3://bucket/' STORAGE_INTEGRATION = …; its URL is the",
        "bucket, without a prefix. A directory's files are put there first: PUT file://… @exportd/…",
        "Snowflake rounds numbers inside of JSON: export CSV where more than 38 digits matter.",
    )

    def stage(
        self, entity: ManifestEntity, file_format: ExportFormat, location: Location, keys: Sequence[str]
    ) -> Iterator[str]:
        del location  # the stage knows it
        staging = self.staging(entity)
        columns = self.definitions(entity.fields)
        yield f"CREATE OR REPLACE TEMPORARY TABLE {staging} (\n    {columns}\n)"
        if not keys:
            return
        files = ", ".join(escaped_literal(key) for key in keys)
        source, options = "@exportd", _SNOWFLAKE_CSV
        if file_format is ExportFormat.JSONL:
            options = _SNOWFLAKE_LINES
            values = ", ".join(self._value(field) for field in entity.fields)
            source = f"(SELECT {values} FROM @exportd)"
        yield (
            f"COPY INTO {staging} FROM {source}\nFILES = ({files})\nFILE_FORMAT = ({options})\n"
            "ON_ERROR = ABORT_STATEMENT"
        )

    def _value(self, field: ManifestField) -> str:
        value = f"PARSE_JSON($1):{self.identifier(field.name)}"
        # A text in a JSON field keeps its quotes.
        return f"NULLIF(TO_JSON({value}), 'null')" if field.type == "json" else f"{value}::{self.column_type(field)}"

    def upsert(self, entity: ManifestEntity) -> Iterator[str]:
        yield "BEGIN"
        yield from super().upsert(entity)
        yield "COMMIT"
