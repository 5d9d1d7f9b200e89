"""What is read in an open snapshot before its rows are: where it is, and what the logs hold for each window."""

from collections.abc import Mapping, Sequence

from asyncpg import Record

from exportd.catalog.live_table import INSTANTS
from exportd.catalog.shape import Shape
from exportd.catalog.table_rules import duplicates_sentence, no_modified
from exportd.database import queries
from exportd.database.connector import Connection
from exportd.database.quoting import table
from exportd.database.session_settings import EXACT_SETTINGS, unsettled
from exportd.database.translator import FOREIGN_ERRORS, translate
from exportd.extraction.projection import ProjectedType, Projection, column_types, expressions
from exportd.extraction.silence_watcher import SilenceWatcher
from exportd.extraction.statement import Statements
from exportd.extraction.window import EntityWindow, LogContents, log_is_comparable, parse_snapshot
from exportd.model.entity import Entity, EntityCode
from exportd.model.errors import InvariantError, PermanentError, TransientError
from exportd.model.job import Job
from exportd.model.reason import FullReason, Reason
from exportd.model.start import Position

_SQL = queries.load("snapshots")


async def position_in_time(connection: "Connection") -> Record:
    """Where in the database's history the transaction's snapshot is."""
    now = await connection.fetchrow(_SQL["position_in_time"], list(EXACT_SETTINGS), list(EXACT_SETTINGS.values()))
    if now is None:
        raise InvariantError("a query without FROM has one row")
    if now["unsettled"]:
        raise unsettled(now["unsettled"])
    if now["standby"]:
        raise PermanentError(
            "The database is a standby. Its snapshots do not list open transactions, so changes would be missed; "
            "point the configuration at the primary.",
            reason=Reason.DATABASE_IS_STANDBY,
        )
    return now


async def projections_of(
    connection: "Connection", entities: Sequence[Entity], shapes: Mapping[EntityCode, Shape]
) -> dict[EntityCode, Projection]:
    """How what is exported is spelled. Raises PermanentError CATALOG_MISMATCH."""
    return {
        entity.code: Projection(entity, await _types(connection, entity, shapes[entity.code])) for entity in entities
    }


def statements_of(
    job: Job,
    entities: Sequence[Entity],
    shapes: Mapping[EntityCode, Shape],
    projections: Mapping[EntityCode, Projection],
) -> dict[EntityCode, Statements]:
    """The queries of a job. Raises PermanentError CATALOG_MISMATCH."""
    if job.start_date is not None:
        _require_modified(entities, shapes)
    return {
        entity.code: Statements(
            entity, shapes[entity.code], job.file_format, projections[entity.code], job.organization
        )
        for entity in entities
    }


async def _types(connection: "Connection", entity: Entity, shape: Shape) -> dict[str, ProjectedType]:
    types = column_types(shape.root)
    missing = [field.column for field in entity.fields if field.column is not None and field.column not in types]
    if missing:
        raise PermanentError(
            f"Entity {entity.code}: {entity.table} has no column {', '.join(missing)}. Correct the catalog's fields.",
            reason=Reason.CATALOG_MISMATCH,
        )
    computed = expressions(entity)
    if not computed:
        return types
    listed = ", ".join(f"({expression})" for expression in computed)
    try:
        prepared = await connection.prepare(f"SELECT {listed} FROM {table(entity.table)} AS t")
    except FOREIGN_ERRORS as error:
        failure = translate(error, doing=f"preparing the expressions of entity {entity.code}")
        if isinstance(failure, TransientError):
            raise failure from error
        raise PermanentError(
            f"Entity {entity.code}: an expression of the catalog does not work on {entity.table}: {error}",
            reason=Reason.CATALOG_MISMATCH,
        ) from error
    for expression, attribute in zip(computed, prepared.get_attributes(), strict=True):
        kind = attribute.type
        simple = kind.schema == "pg_catalog" and kind.kind in {"scalar", "range"}
        types[expression] = ProjectedType(kind.name, may_hold_json=not simple)
    return types


async def require_unique_keys(
    connection: "Connection",
    windows: Mapping[EntityCode, EntityWindow],
    statements: Mapping[EntityCode, Statements],
    watcher: SilenceWatcher,
) -> None:
    """Raise when a key is exported twice. Only where no index of the database rules that out is looked."""
    for code, window in windows.items():
        statement = statements[code]
        if not window.reads_table or statement.shape.ensures_unique(statement.entity.key):
            continue
        previous = None if window.full_reason is not None else window.previous
        with watcher.reading(code):
            duplicates = await connection.fetch(statement.duplicates(previous))
        if duplicates:
            raise PermanentError(
                f"Entity {code}: {duplicates_sentence(statement.entity)}", reason=Reason.KEY_NOT_UNIQUE
            )


async def contents_of(
    connection: "Connection",
    statements: Mapping[EntityCode, Statements],
    positions: Mapping[EntityCode, Position],
    reasons: Mapping[EntityCode, FullReason | None],
) -> dict[EntityCode, LogContents]:
    """What the logs hold for a job's windows, for those entities whose log is comparable."""
    queries = [
        statement.contents(parse_snapshot(positions[code].snapshot))
        for code, statement in statements.items()
        if code in positions and log_is_comparable(reasons[code])
    ]
    if not queries:
        return {}
    rows = await connection.fetch(" UNION ALL ".join(queries))
    return {EntityCode(row["entity"]): LogContents(row["keys"], row["unknown"], row["deletions"]) for row in rows}


async def contents_of_all(
    connection: "Connection",
    statements: Sequence[Mapping[EntityCode, Statements]],
    positions: Sequence[Mapping[EntityCode, Position]],
) -> list[dict[EntityCode, LogContents]]:
    """The same for several jobs over the same entities. The log is comparable with all of their positions."""
    if not statements:
        return []
    contents = [dict.fromkeys(job, LogContents(0, unknown=False, deletions=False)) for job in statements]
    queries = [
        statement.contents_of(
            [
                (job[code].organization, parse_snapshot(begins[code].snapshot))
                for job, begins in zip(statements, positions, strict=True)
            ]
        )
        for code, statement in statements[0].items()
    ]
    for row in await connection.fetch(" UNION ALL ".join(queries)):
        found = LogContents(row["keys"], row["unknown"], row["deletions"])
        contents[row["place"]][EntityCode(row["entity"])] = found
    return contents


def _require_modified(entities: Sequence[Entity], shapes: Mapping[EntityCode, Shape]) -> None:
    for entity in entities:
        if entity.modified is None:
            raise PermanentError(f"Entity {no_modified(entity.code)}", reason=Reason.CATALOG_MISMATCH)
        column = shapes[entity.code].root.column(entity.modified)
        if column is None or column.base_type not in INSTANTS:
            raise PermanentError(
                f"Entity {entity.code}: {entity.table} has no column {entity.modified} that holds times, which the "
                "catalog names as `modified`. Correct the catalog, or export without a start date.",
                reason=Reason.CATALOG_MISMATCH,
            )
