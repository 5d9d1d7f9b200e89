"""ClickHouse. It has no transactions over several statements: should a script break off, run it again."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from exportd.consumer.loaders.dialect import Dialect, backquoted, escaped_literal, fields_of, key_of, reader_of, url_of
from exportd.manifest.document import ManifestEntity
from exportd.model.schedule import ExportFormat
from exportd.settings.destination_schema import Scheme
from exportd.stores.location import Location

_FUNCTIONS = {Scheme.DIRECTORY: "file", Scheme.S3: "s3", Scheme.GCS: "gcs"}
# Without the third, blanks around a text that has no quotes are dropped, and a text of blanks becomes NULL.
_CSV = (
    "format_csv_null_representation = '', input_format_csv_empty_as_default = 0, input_format_csv_trim_whitespaces = 0"
)
_JSON = (
    "input_format_json_read_numbers_as_strings = 1, input_format_json_read_objects_as_strings = 1, "
    "input_format_json_read_arrays_as_strings = 1, input_format_json_read_bools_as_strings = 1"
)


class ClickHouse(Dialect):
    text = "Nullable(String)"
    boolean = "Nullable(Bool)"
    begin = ()
    end = ()
    casts: ClassVar[Mapping[str, str]] = {
        "integer": "toInt256OrNull({})",
        "float": "toFloat64OrNull({})",
        "date": "toDate32OrNull({})",
        "date-time": "parseDateTime64BestEffortOrNull({}, 6, 'UTC')",
        "uuid": "toUUIDOrNull({})",
    }
    remarks = (
        "Run it with clickhouse-client --multiquery. Files of a directory are read below the server's user_files_path.",
        "From JSONL, a JSON field that holds a mere text loses its quotes: export CSV where that matters.",
        "Credentials of buckets come from the server's configuration or environment.",
    )

    def identifier(self, name: str) -> str:
        return backquoted(name)

    def stage(
        self, entity: ManifestEntity, file_format: ExportFormat, location: Location, keys: Sequence[str]
    ) -> Iterator[str]:
        staging = self.staging(entity)
        yield f"CREATE OR REPLACE TABLE {staging} (\n    {self.definitions(entity.fields)}\n) ENGINE = Log"
        is_csv = file_format is ExportFormat.CSV
        name, settings = ("CSVWithNames", _CSV) if is_csv else ("JSONEachRow", _JSON)
        columns = ", ".join(f"{self.identifier(field.name)} {self.column_type(field)}" for field in entity.fields)
        function = reader_of(_FUNCTIONS, location, "ClickHouse")
        for key in keys:
            texts = ", ".join(map(escaped_literal, (url_of(location, key), name, columns, "gzip")))
            yield f"INSERT INTO {staging} SELECT * FROM {function}({texts})\nSETTINGS {settings}"

    def create(self, entity: ManifestEntity) -> Iterator[str]:
        yield f"CREATE TABLE IF NOT EXISTS {self._definition(entity)}"

    def replace(self, entity: ManifestEntity) -> Iterator[str]:
        yield (
            f"CREATE OR REPLACE TABLE {self._definition(entity)} AS\n"
            f"SELECT {self.columns(entity)} FROM {self.staging(entity)} WHERE {self._lives()}"
        )

    def upsert(self, entity: ManifestEntity) -> Iterator[str]:
        key = ", ".join(self.identifier(name) for name in key_of(entity))
        yield f"DELETE FROM {self.table(entity)}\nWHERE ({key}) IN (SELECT {key} FROM {self.staging(entity)})"
        yield self.insert(entity)

    def _definition(self, entity: ManifestEntity) -> str:
        key = ", ".join(self.identifier(name) for name in key_of(entity))
        return (
            f"{self.table(entity)} (\n    {self.definitions(fields_of(entity))}\n)\n"
            f"ENGINE = MergeTree ORDER BY ({key}) SETTINGS allow_nullable_key = 1"
        )
