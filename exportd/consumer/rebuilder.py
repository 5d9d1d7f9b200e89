"""Writes the DuckDB file. Imports duckdb, which comes with the extra ``replay``.

It works part by part: an object is copied beside the new file, compared with its SHA-256, loaded, and removed. So what
is loaded was checked, and neither memory nor disk holds more than one part at a time.
"""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio.to_thread
import duckdb

from exportd.consumer.inventory_reader import ReadProgress, fetch
from exportd.consumer.json_cells import csv_header, csv_record
from exportd.consumer.loaders.dialect import doubled_literal, fields_of
from exportd.consumer.loaders.duckdb import MAX_RECORD_BYTES, DuckDb, csv_source
from exportd.consumer.replay_plan import Plan, Step
from exportd.manifest.document import ManifestEntity
from exportd.model.errors import PermanentError, Reason, SettingsError
from exportd.model.schedule import ExportFormat
from exportd.stores.store import Store

_SETTINGS = {
    "autoinstall_known_extensions": "false",  # nothing is fetched from anywhere
    "memory_limit": "1GB",  # beyond that it spills beside the file
    "preserve_insertion_order": "false",
}
_DIALECT = DuckDb()


async def rebuild(store: Store, plan: Plan, into: Path, progress: ReadProgress | None = None) -> dict[str, int]:
    """Rebuild the tables in the new file ``into``. Returns the number of records of each table. The file appears when
    it is complete.

    Raises SettingsError when the file exists, PermanentError when an object is missing, altered or cannot be loaded.
    """
    progress = progress or ReadProgress()
    progress.begin(plan.size_bytes)
    if await anyio.to_thread.run_sync(into.exists):
        raise SettingsError.of(f"{into} exists already. Remove it, or choose another name.")
    with _unfinished_folder(into) as folder:
        unfinished = folder / into.name
        connection = await anyio.to_thread.run_sync(lambda: duckdb.connect(str(unfinished), config=dict(_SETTINGS)))
        try:
            for step in plan.steps:
                await _apply(connection, store, step, folder, progress)
            counts = await anyio.to_thread.run_sync(_finish, connection, plan)
        finally:
            connection.close()
        await anyio.to_thread.run_sync(unfinished.rename, into)
    return counts


async def _apply(
    connection: duckdb.DuckDBPyConnection, store: Store, step: Step, folder: Path, progress: ReadProgress
) -> None:
    if step.begins_table:
        columns = _DIALECT.definitions(fields_of(step.entity))
        create = f"CREATE OR REPLACE TABLE {_DIALECT.table(step.entity)} (\n    {columns}\n)"
        await anyio.to_thread.run_sync(connection.execute, create)
    for key, part in step.objects:
        file = folder / "part.gz"
        await fetch(store, key, part, file, file_format=step.manifest.format, on_bytes=progress.advance)
        try:
            await anyio.to_thread.run_sync(_load, connection, step, file)
        except (duckdb.Error, OSError, EOFError, ValueError) as error:
            raise PermanentError(
                f"{key} cannot be loaded, though it is what was delivered: {str(error).partition(chr(10))[0]}",
                reason=Reason.MANIFEST_DAMAGED,
            ) from error


def _load(connection: duckdb.DuckDBPyConnection, step: Step, file: Path) -> None:
    entity = step.entity
    if step.manifest.format is ExportFormat.JSONL:
        file = _as_csv(entity, file)
    source = csv_source(entity, doubled_literal(str(file)))
    if step.begins_table:
        connection.execute(_DIALECT.insert(entity, source))
        return
    connection.execute("BEGIN")
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {_DIALECT.staging(entity)} AS SELECT * FROM {source}")
    for statement in (*_DIALECT.upsert(entity), *_DIALECT.unstage(entity)):
        connection.execute(statement)
    connection.execute("COMMIT")


def _as_csv(entity: ManifestEntity, file: Path) -> Path:
    names = [field.name for field in entity.fields]
    documents = frozenset(field.name for field in entity.fields if field.type == "json")
    target = file.with_suffix(".csv.gz")
    with (
        gzip.open(file, "rt", encoding="utf-8", newline="\n") as lines,
        gzip.open(target, "wt", compresslevel=1, encoding="utf-8", newline="\n") as records,
    ):
        records.write(csv_header(names))
        for line in iter(lambda: lines.readline(MAX_RECORD_BYTES), ""):
            if len(line) == MAX_RECORD_BYTES:
                raise ValueError(f"it holds a record of more than {MAX_RECORD_BYTES} characters")
            records.write(csv_record(line, names, documents))
    return target


def _finish(connection: duckdb.DuckDBPyConnection, plan: Plan) -> dict[str, int]:
    """Make the views of the last shape of each table, and count."""
    last = {step.entity.code: step.entity for step in plan.steps}
    counts: dict[str, int] = {}
    for entity in last.values():
        for statement in _DIALECT.view(entity):
            connection.execute(statement)
        row = connection.execute(f"SELECT count(*) FROM {_DIALECT.table(entity)}").fetchone()
        counts[entity.code] = row[0] if row is not None else 0
    return counts


@contextmanager
def _unfinished_folder(into: Path) -> Iterator[Path]:
    """A temporary folder beside the file for unfinished work. It is removed when the block ends."""
    try:
        folder = TemporaryDirectory(prefix=f".{into.name}.", dir=into.parent, ignore_cleanup_errors=True)
    except OSError as error:
        raise SettingsError.of(f"{into} cannot be written: {error.strerror or error}.") from error
    with folder as path:
        yield Path(path)
