"""Snowflake. Objects are read through a stage of yours, which holds the credentials."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from exportd.consumer.loaders.dialect import Dialect, escaped_literal
from exportd.manifest.document import ManifestEntity, ManifestField
from exportd.model.schedule import ExportFormat
from exportd.stores.location import Location

_CSV = (
    "TYPE = CSV COMPRESSION = GZIP SKIP_HEADER = 1 FIELD_OPTIONALLY_ENCLOSED_BY = '\"' ESCAPE_UNENCLOSED_FIELD = NONE "
    "NULL_IF = () EMPTY_FIELD_AS_NULL = TRUE"
)
# One cell per line, so that no parser touches it before we do.
_LINES = (
    "TYPE = CSV COMPRESSION = GZIP FIELD_DELIMITER = NONE ESCAPE_UNENCLOSED_FIELD = NONE NULL_IF = () "
    "EMPTY_FIELD_AS_NULL = FALSE"
)


class Snowflake(Dialect):
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
        source, options = "@exportd", _CSV
        if file_format is ExportFormat.JSONL:
            options = _LINES
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
