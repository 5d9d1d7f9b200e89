"""BigQuery, which reads from Google Cloud Storage. Staging tables are real ones, removed at the end."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from exportd.consumer.loaders.dialect import Dialect, backquoted, escaped_literal, key_of
from exportd.manifest.document import ManifestEntity, ManifestField
from exportd.model.entity import DELETED_FIELD
from exportd.model.schedule import ExportFormat
from exportd.stores.location import Location


class BigQuery(Dialect):
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
