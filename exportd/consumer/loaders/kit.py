"""Writes the script with which a database loads a run and merges it into its tables. Pure."""

import re
from collections.abc import Iterator
from dataclasses import replace

from exportd.consumer.inventory import object_key
from exportd.consumer.loaders.clickhouse import ClickHouse
from exportd.consumer.loaders.dialect import Dialect, merge
from exportd.consumer.loaders.duckdb import DuckDb
from exportd.consumer.loaders.postgresql import PostgreSql
from exportd.consumer.loaders.warehouses import BigQuery, Redshift, Snowflake
from exportd.database.quoting import comment, is_comment
from exportd.manifest.document import Manifest, ManifestPart
from exportd.model.entity import OrganizationId
from exportd.model.errors import PermanentError, Reason
from exportd.model.schedule import DialectName
from exportd.stores.layout import Layout, key_of_file
from exportd.stores.location import Location

_DIALECTS: dict[DialectName, Dialect] = {
    DialectName.DUCKDB: DuckDb(),
    DialectName.POSTGRESQL: PostgreSql(),
    DialectName.SNOWFLAKE: Snowflake(),
    DialectName.BIGQUERY: BigQuery(),
    DialectName.REDSHIFT: Redshift(),
    DialectName.CLICKHOUSE: ClickHouse(),
}

_LINE_END = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def statements(manifest: Manifest, dialect: DialectName, location: Location, *, folder: str | None = None) -> str:
    """The script that loads the manifest's run. The tables are those of one organization and one schedule.

    ``location`` is the root of the store. ``folder`` is the part of keys before ``orgId=``, with its slash; None means
    as in the manifest. Raises PermanentError for an increment that cannot be merged by key, for a database that cannot
    read from the location, and for a name that a command of psql cannot contain.
    """
    writer = _DIALECTS[dialect]
    lines = [comment(remark) for remark in (*_heading(manifest, dialect, writer), *writer.remarks)]
    return (
        "\n".join([*lines, "", *(_ended(statement) for statement in _script(writer, manifest, location, folder))])
        + "\n"
    )


def at_destination(manifest: Manifest, layout: Layout) -> Manifest:
    """A run's manifest with the keys that its files have at a destination of this layout."""

    def moved(part: ManifestPart) -> ManifestPart:
        name = part.key.rpartition("/")[2]
        return replace(part, key=key_of_file(name, OrganizationId(manifest.organization), manifest.due_at, layout))

    entities = [replace(entity, parts=tuple(map(moved, entity.parts))) for entity in manifest.entities]
    return replace(manifest, entities=tuple(entities))


def _heading(manifest: Manifest, dialect: DialectName, writer: Dialect) -> Iterator[str]:
    if not writer.was_run:
        yield f"The scripts for {dialect} have never been run by exportd's tests: try them before you rely on them."
    schedule = f"schedule {manifest.schedule.code}" if manifest.schedule else "an ad hoc export"
    yield f"Loads job {manifest.job_id} ({schedule} of {manifest.organization}) into {dialect}."
    if manifest.start_date is not None:
        start = manifest.start_date.isoformat()
        yield f"It holds what was modified at {start} or later, and no deletions: it is merged into what is there."
    if manifest.predecessor is not None:
        yield f"Load job {manifest.predecessor.job_id} before it, unless every entity here is full."
    yield "Loading it again changes nothing. Each organization and schedule needs tables of its own."


def _script(writer: Dialect, manifest: Manifest, location: Location, folder: str | None) -> Iterator[str]:
    yield from writer.begin
    for entity in manifest.entities:
        # A file without records may be missing: see empty_files of destinations.
        listed = [part.key for part in entity.parts if part.rows]
        keys = listed if folder is None else [object_key(key, manifest.organization, folder) for key in listed]
        yield comment(f"{entity.code}: {entity.mode}, {entity.rows} records, {entity.deleted_rows} are deletions")
        yield from writer.stage(entity, manifest.format, location, keys)
        if manifest.start_date is not None:
            yield from writer.create(entity)
        yield from merge(writer, entity)
        yield from writer.unstage(entity)
        yield from writer.view(entity)
    yield from writer.end


def _ended(statement: str) -> str:
    """A comment, and a command of psql's own, end with their line."""
    if is_comment(statement):
        return f"\n{statement}"
    if not statement.startswith("\\"):
        return f"{statement};"
    if _LINE_END.search(statement):
        raise PermanentError(
            f"psql cannot load this: a name of the manifest or the location has a control character: {statement!r}. "
            "Its commands end with their line, and the rest would be run as SQL.",
            reason=Reason.CATALOG_MISMATCH,
        )
    return statement
