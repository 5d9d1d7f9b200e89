"""Amazon Redshift, which reads from S3. Texts of more than 65,535 bytes do not fit; COPY says so."""

from collections.abc import Iterator, Sequence

from exportd.consumer.loaders.dialect import Dialect, fields_of
from exportd.consumer.loaders.quoting import doubled_literal
from exportd.manifest.document import ManifestEntity, ManifestField
from exportd.model.schedule import ExportFormat
from exportd.stores.location import Location


class Redshift(Dialect):
    text = "VARCHAR(65535)"
    remarks = (
        "Redshift takes its credentials from the role that is its default: otherwise replace IAM_ROLE default.",
        "Objects that are not in S3 have to be copied there first, under the same keys.",
        "From CSV, Redshift does not tell an empty text from NULL: export JSONL where that matters.",
        "SET enable_case_sensitive_identifier TO true keeps names of fields apart that differ by case only.",
    )

    def cast(self, field: ManifestField, column: str) -> str:
        match field.type, field.format:
            case "integer", _:
                return f"TRY_CAST({column} AS DECIMAL(38, 0))"
            case "float", _:
                return f"TRY_CAST({column} AS DOUBLE PRECISION)"
            case _, "date":
                return f"TRY_CAST({column} AS DATE)"
            case _, "date-time":
                return f"TRY_CAST({column} AS TIMESTAMPTZ)"
            case _:
                return column

    def begin(self) -> Sequence[str]:
        return ("SET enable_case_sensitive_identifier TO true", "BEGIN")

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
        yield from (f"{each}\nWITH NO SCHEMA BINDING" for each in super().view(entity))
