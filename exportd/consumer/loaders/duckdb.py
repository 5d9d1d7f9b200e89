"""DuckDB. Its types would round numbers and know no time before Christ, so that everything but booleans is text.

JSONL is read by ``exportd replay`` in another way, for DuckDB's own JSON reader rounds numbers of more than 15 digits.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from exportd.consumer.loaders.dialect import Dialect, doubled_literal, url_of
from exportd.manifest.document import ManifestEntity
from exportd.model.schedule import ExportFormat
from exportd.stores.location import Location

MAX_RECORD_BYTES = 64_000_000
"""DuckDB allocates a few buffers of this size, and refuses a longer record. Smaller files need smaller buffers."""

_MIN_RECORD_BYTES = 2_000_000


class DuckDb(Dialect):
    text = "VARCHAR"
    casts: ClassVar[Mapping[str, str]] = {
        "integer": "TRY_CAST({} AS HUGEINT)",
        "float": "TRY_CAST({} AS DOUBLE)",
        "date": "TRY_CAST({} AS DATE)",
        "date-time": "TRY_CAST({} AS TIMESTAMPTZ)",
        "uuid": "TRY_CAST({} AS UUID)",
    }
    remarks = (
        "For s3:// and gs://: INSTALL httpfs; LOAD httpfs; and CREATE SECRET with your credentials.",
        "DuckDB's JSON reader rounds numbers of more than 15 digits: export CSV where that matters, or use",
        "`exportd replay`, which does not.",
    )

    def stage(
        self, entity: ManifestEntity, file_format: ExportFormat, location: Location, keys: Sequence[str]
    ) -> Iterator[str]:
        if not keys:
            yield f"CREATE OR REPLACE TEMP TABLE {self.staging(entity)} (\n    {self.definitions(entity.fields)}\n)"
            return
        files = ", ".join(doubled_literal(url_of(location, key)) for key in keys)
        source = csv_source(entity, files) if file_format is ExportFormat.CSV else _json_source(self, entity, files)
        yield f"CREATE OR REPLACE TEMP TABLE {self.staging(entity)} AS\nSELECT * FROM {source}"


def csv_source(entity: ManifestEntity, files: str) -> str:
    """The records of CSV files, a list of literals: an empty cell is NULL, ``""`` an empty text."""
    max_bytes = _record_bytes(entity)
    return (
        f"read_csv([{files}], auto_detect = false, header = true, compression = 'gzip', delim = ',', quote = '\"',\n"
        "    escape = '\"', new_line = '\\n', nullstr = '', allow_quoted_nulls = false, strict_mode = true,\n"
        f"    max_line_size = {max_bytes}, buffer_size = {max_bytes}, columns = {_struct(DuckDb(), entity)})"
    )


def _json_source(dialect: DuckDb, entity: ManifestEntity, files: str) -> str:
    return (
        f"read_json([{files}], auto_detect = false, format = 'newline_delimited', compression = 'gzip',\n"
        f"    maximum_object_size = {_record_bytes(entity)}, columns = {_struct(dialect, entity)})"
    )


def _record_bytes(entity: ManifestEntity) -> int:
    # Twice the content, because a file may have been rewritten as CSV, where quotes are doubled.
    content_bytes = 2 * max((part.content_bytes for part in entity.parts), default=0)
    return min(MAX_RECORD_BYTES, max(_MIN_RECORD_BYTES, content_bytes))


def _struct(dialect: DuckDb, entity: ManifestEntity) -> str:
    types = ", ".join(
        f"{doubled_literal(field.name)}: {doubled_literal(dialect.column_type(field))}" for field in entity.fields
    )
    return "{" + types + "}"
