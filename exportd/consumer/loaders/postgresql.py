"""PostgreSQL."""

import shlex
from collections.abc import Iterator, Sequence

from exportd.consumer.loaders.dialect import Dialect, doubled_literal, fields_of, reader_of, url_of
from exportd.database import quoting
from exportd.manifest.document import ManifestEntity, ManifestField
from exportd.model.schedule import ExportFormat
from exportd.settings.destination_schema import Scheme
from exportd.stores.location import Location

_TYPES = {"boolean": "boolean", "integer": "numeric", "float": "numeric", "json": "json"}
_FORMATS = {"uuid": "uuid", "date": "date", "date-time": "timestamptz"}
_READ = {Scheme.S3: "aws s3 cp --only-show-errors", Scheme.GCS: "gcloud storage cat"}


class PostgreSql(Dialect):
    """Through psql: the types hold everything that was exported from them. Files are read where psql runs."""

    text = "text"
    boolean = "boolean"
    begin = ("\\set ON_ERROR_STOP on", "BEGIN", "SET LOCAL TimeZone = 'UTC'", "SET LOCAL DateStyle = 'ISO, YMD'")
    remarks = (
        "Run it with psql (not with other clients): psql -X -f FILE postgresql://…",
        "Objects of buckets are read by the AWS or Google Cloud command line of the host where psql runs.",
        "Times without a zone become times in UTC.",
        "psql before version 18 ends a CSV file at a line of a text that is \\. alone: use psql 18, or export JSONL.",
        "From JSONL, a JSON value that holds \\u0000 stops the load, for no text of Postgres can hold it: export CSV.",
    )

    def column_type(self, field: ManifestField) -> str:
        return _TYPES.get(field.type) or _FORMATS.get(field.format or "", self.text)

    def stage(
        self, entity: ManifestEntity, file_format: ExportFormat, location: Location, keys: Sequence[str]
    ) -> Iterator[str]:
        staging = self.staging(entity)
        if file_format is ExportFormat.CSV:
            yield f"CREATE TEMP TABLE {staging} (\n    {self.definitions(entity.fields)}\n)"
            for key in keys:
                yield f"\\copy {staging} FROM PROGRAM {_command(location, key)} WITH (FORMAT csv, HEADER)"
            return
        lines = self.identifier(f"{entity.code}_lines")
        yield f"CREATE TEMP TABLE {lines} (line json)"
        for key in keys:
            # Delimiter and quote are characters that JSON cannot hold, so that each line is one cell.
            yield (
                f"\\copy {lines} FROM PROGRAM {_command(location, key)} "
                "WITH (FORMAT csv, DELIMITER E'\\x02', QUOTE E'\\x01')"
            )
        values = ",\n    ".join(
            f"{_json_value(field)}::{self.column_type(field)} AS {self.identifier(field.name)}"
            for field in entity.fields
        )
        yield f"CREATE TEMP TABLE {staging} AS\nSELECT\n    {values}\nFROM {lines}"
        yield f"DROP TABLE {lines}"

    def replace(self, entity: ManifestEntity) -> Iterator[str]:
        yield f"DROP TABLE IF EXISTS {self.table(entity)}"
        yield f"CREATE TABLE {self.table(entity)} (\n    {self.definitions(fields_of(entity))}\n)"
        yield self.insert(entity)
        if set(entity.key) <= {field.name for field in entity.fields} and entity.key:
            key = ", ".join(self.identifier(name) for name in entity.key)
            yield f"ALTER TABLE {self.table(entity)} ADD PRIMARY KEY ({key})"


def _json_value(field: ManifestField) -> str:
    name = quoting.literal(field.name)
    if field.type == "json":
        return f"(CASE WHEN json_typeof(line -> {name}) <> 'null' THEN line -> {name} END)"
    return f"(line ->> {name})"


def _command(location: Location, key: str) -> str:
    """A shell command that writes an object's content to standard output, as a literal of psql."""
    url = shlex.quote(url_of(location, key))
    if location.scheme is Scheme.DIRECTORY:
        return doubled_literal(f"gzip -dc < {url}")
    to_stdout = " -" if location.scheme is Scheme.S3 else ""
    return doubled_literal(f"{reader_of(_READ, location, 'psql')} {url}{to_stdout} | gzip -dc")
