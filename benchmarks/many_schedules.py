"""Ten thousand schedules as they are after some time: with positions, with jobs behind them, and none of them due."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import anyio

from benchmarks.bills import CATALOG
from benchmarks.server import connection_to
from exportd.capture.installer import CaptureInstaller
from exportd.catalog import document
from exportd.database.connector import Connector
from exportd.database.migrator import migrate
from exportd.demo.generator import create_tables
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.schedule import DestinationCode, ExportFormat, Interval, ScheduleDeclaration, Unit
from exportd.postgres.postgres_server import PostgresServer
from exportd.schedules.firing_table import ScheduleTable

SCHEDULES: Final = 10_000
_SCHEDULES_OF_AN_ORGANIZATION = 10
_JOBS_OF_A_SCHEDULE: Final = 10

_PAST = """
UPDATE exportd.schedule
SET last_due_at = now() - interval '1 hour', next_due_at = now() + interval '1 hour' + random() * interval '1 day';

INSERT INTO exportd.job (organization, schedule_id, schedule_code, due_at, entities, format, destinations, state,
                         started_at, finished_at, extraction)
SELECT organization, id, code, now() - n * interval '%(every)s', entities, format, destinations, 'SUCCEEDED',
       now() - n * interval '%(every)s', now() - n * interval '%(every)s', '{}'
FROM exportd.schedule, generate_series(1, %(jobs)s) AS n;

INSERT INTO exportd.delivery (job_id, destination, schedule_id, manifest_sha256, published_at)
SELECT id, unnest(destinations), schedule_id, 'none', finished_at FROM exportd.job;

INSERT INTO exportd.position (schedule_id, entity, job_id, snapshot, taken_at, guards, destinations)
SELECT job.schedule_id, unnest(job.entities), job.id, pg_current_snapshot(), job.due_at, '{}', job.destinations
FROM exportd.job
WHERE due_at > now() - 1.5 * interval '%(every)s';

-- No job begins while the daemon is looked at.
INSERT INTO exportd.pause (paused_by) VALUES ('benchmark');
"""
SOME_HAVE_FAILED: Final = """
UPDATE exportd.job SET created_at = due_at;

UPDATE exportd.job
SET state = 'FAILED', reason = 'DESTINATION_UNAVAILABLE', message = 'The directory does not answer.'
WHERE hashtext(id::text) % 100 = 0;
"""
"""Jobs as they are after some time: made when they were due, and one in a hundred has failed."""

_VACUUM = ("schedule", "job", "delivery", "position")


def declared(count: int, *, named: str = "schedule") -> list[ScheduleDeclaration]:
    """Of 1 to 20 entities each, ten of an organization."""
    entities = list(document.load(CATALOG).entities)
    return [
        ScheduleDeclaration(
            organization=OrganizationId(f"org-{number // _SCHEDULES_OF_AN_ORGANIZATION}"),
            code=f"{named}-{number}",
            name=f"Number {number}",
            entities=tuple(map(EntityCode, entities[: 1 + number % len(entities)])),
            file_format=ExportFormat.CSV,
            destinations=(DestinationCode("lake"),),
            rule=Interval(Unit.HOUR, 1 + number % 72, 1 + number % 59),
        )
        for number in range(count)
    ]


def configured(declarations: Sequence[ScheduleDeclaration], dsn: str, folder: Path) -> dict[str, Any]:
    """The configuration that declares them, and a directory for each organization."""
    lake = folder / "lake"
    lake.mkdir(exist_ok=True)
    return {
        "database": {"dsn": dsn},
        "catalog": {"file": str(CATALOG)},
        "spool": {"directory": str(folder / "spool")},
        "control": {"socket": str(folder / "control.sock")},
        "destination": [
            {"code": "lake", "organization": organization, "directory": str(lake)}
            for organization in dict.fromkeys(declaration.organization for declaration in declarations)
        ],
        "schedule": [_table(declaration) for declaration in declarations],
    }


async def create_many(
    server: PostgresServer,
    declarations: Sequence[ScheduleDeclaration],
    *,
    jobs: int = _JOBS_OF_A_SCHEDULE,
    every: timedelta = timedelta(hours=1),
) -> str:
    """The DSN of a new database with these schedules and so many jobs of each, which were due as often."""
    dsn = await server.create_database(f"schedules_{len(declarations)}_{jobs}")
    async with connection_to(dsn) as connection:
        await migrate(connection)
        await create_tables(connection)
        connector = Connector(dsn)
        entities = document.load(CATALOG).entities.values()
        await CaptureInstaller(connector, pause=anyio.sleep).install(list(entities))
        async with connector.pool(1) as pool:
            await ScheduleTable(pool).reconcile(declarations, now=datetime.now(UTC))
        await connection.execute(_PAST % {"jobs": jobs, "every": f"{every.total_seconds()} seconds"})
        for table in _VACUUM:
            await connection.execute(f"VACUUM (ANALYZE) exportd.{table}")
    return dsn


def _table(declaration: ScheduleDeclaration) -> dict[str, Any]:
    rule = declaration.rule
    if not isinstance(rule, Interval):
        raise TypeError("only intervals are declared here")
    return {
        "code": declaration.code,
        "organization": declaration.organization,
        "name": declaration.name,
        "entities": declaration.entities,
        "destinations": declaration.destinations,
        "unit": rule.unit,
        "period": rule.period,
        **({} if rule.offset is None else {"offset": rule.offset}),
    }
