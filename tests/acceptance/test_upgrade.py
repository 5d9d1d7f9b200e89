"""A daemon of this tree takes over what a daemon of an earlier release has left in the database and in the spool.

The state is made by the earlier release itself, a moment before: its source is kept as an archive and runs as a process
of its own. A dump that was recorded once would not do. What guards a position (the system's identifier, the timeline,
the snapshot) belongs to the database cluster in which it was written, so that in another one every run would rightly
be full, and the test would show nothing.
"""

import asyncio
import signal
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from exportd.model.extraction import Mode
from tests.acceptance import statement_blocker
from tests.acceptance.declarations import destination, schedule
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.destinations import S3Bucket
from tests.acceptance.sample_application import CATALOG, ENTITIES, ORGANIZATION, Application
from tests.fixtures.control_clients import official
from tests.fixtures.daemon import Site
from tests.fixtures.moto import MotoServer
from tests.fixtures.old_release import OldRelease
from tests.fixtures.stores import PROFILE, give_credentials

_CODES = ("often", "made")
"""The schedule of the configuration, and the one that was made through the API."""

_KEPT = {
    "schedules": "SELECT id, organization, code, name, origin::text, entities, destinations, rule, version, created_at"
    " FROM exportd.schedule ORDER BY code",
    "destinations": "SELECT id, organization, code, name, origin::text, settings, version, created_at"
    " FROM exportd.destination ORDER BY code",
    "finished jobs": "SELECT id, state::text, attempt, due_at, extraction, progress FROM exportd.job"
    " WHERE state = 'SUCCEEDED' ORDER BY created_at LIMIT 4",
    "positions": "SELECT schedule_id, entity, job_id, snapshot::text, guards, destinations, expired"
    " FROM exportd.position WHERE schedule_id IN (SELECT id FROM exportd.schedule WHERE code = 'made') ORDER BY entity",
    "files": "SELECT * FROM exportd.part ORDER BY job_id, entity, number",
    "deliveries": "SELECT * FROM exportd.delivery ORDER BY published_at",
    "who did it": "SELECT id, at, actor, action, object_id FROM exportd.audit ORDER BY id",
}
"""What the new daemon has to find and to leave as it is when it starts."""


@pytest.mark.slow
async def test_what_the_release_before_left_is_taken_over_and_no_run_becomes_full(
    site: Site, application: Application, moto: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = OldRelease.unpacked("exportd-0007.tar.xz", tmp_path / "old")
    assert await old.imported() == old.folder / "exportd" / "__init__.py"
    lake, connection, keeper = site.destination(), application.connection, await site.database.connect()
    made_lake = S3Bucket(moto, moto.create_bucket("made"))
    role = await moto.create_role("exports", {"Effect": "Allow", "Action": "s3:*", "Resource": "*"})
    give_credentials(moto, tmp_path, monkeypatch)
    site.configure(
        CATALOG,
        {
            "destination": [destination("lake", lake)],
            "schedule": [schedule()],
            "s3": {
                "endpoint": moto.endpoint,
                "sts_endpoint": moto.endpoint,
                "region": moto.region,
                "profile": PROFILE,
            },
        },
    )
    await connection.execute(statement_blocker.INSTALL)
    daemon = await site.start_program(wrapper=old.wrapper)
    await site.succeeded(connection, await site.first_job(connection))
    await asyncio.to_thread(_declare, site.folder / "control.sock", made_lake.name, role)
    await site.succeeded(connection, await site.first_job(connection, "made"))
    assert await _newest_migration(connection) == 7

    for code in _CODES:
        await application.change()
        await site.succeeded(connection, await _fired(old, site, code))
    await application.change()
    async with statement_blocker.blocking(keeper, statement_blocker.PUBLISHING) as closed:
        sealed = await _fired(old, site, "often")
        await closed.blocked_backend()
        # The second signal puts the job back, sealed as it is.
        daemon.signal(signal.SIGTERM)
        await daemon.wait_for_event("stopping", signal="SIGTERM")
        daemon.signal(signal.SIGINT)
        assert await daemon.ended() == 0
        await closed.terminate_blocked()
    assert "Traceback" not in daemon.text
    row = await connection.fetchrow("SELECT state::text, phase::text, attempt FROM exportd.job WHERE id = $1", sealed)
    assert row is not None
    assert tuple(row) == ("PENDING", "SEALED", 0)
    sealed_files = await connection.fetch("SELECT * FROM exportd.part WHERE job_id = $1", sealed)
    assert len(sealed_files) == len(ENTITIES)
    assert await _kinds_of_guards(connection) == {"object"}
    # Written while no daemon runs: the triggers of the release before wrote it down.
    await application.change()
    before = await _kept(connection)

    daemon = await site.start_program()
    row = await site.succeeded(connection, sealed)
    assert row["attempt"] == 1
    after = await _kept(connection)
    for what in before:
        assert after[what][: len(before[what])] == before[what], what
    run = DeliveredFiles.of(lake).run(-1)
    assert run.job_id == sealed
    assert {part.sha256 for entity in run.entities for part in entity.parts} == {
        file["sha256"] for file in sealed_files
    }

    for _ in range(2):
        for code in _CODES:
            await site.succeeded(connection, await site.fire(code))
        await application.change()
    for code in _CODES:
        await site.succeeded(connection, await site.fire(code))
    assert await _kinds_of_guards(connection) == {"string"}, "all positions name shared documents now"
    assert await connection.fetchval("SELECT count(DISTINCT guards) FROM exportd.position") == len(ENTITIES)
    documents = 3 * len(ENTITIES)  # fields, guards, and those that the release before knew, of the job that it sealed
    assert await connection.fetchval("SELECT count(*) FROM exportd.shared_document") == documents
    for bucket, runs in ((DeliveredFiles.of(lake), 6), (await made_lake.delivered(), 5)):
        bucket.assert_whole()
        assert bucket.replayed() == await application.contents()
        (chain,) = bucket.chains
        modes = [{entity.mode for entity in manifest.entities} for manifest in chain.manifests]
        assert modes == [{Mode.FULL}, *[{Mode.INCREMENTAL}] * (runs - 1)]

    checked = await site.exportd("check")
    assert (checked.returncode, "fix" in checked.stdout) == (0, False), checked.stdout
    assert await daemon.stop() == 0
    assert "Traceback" not in daemon.text
    await site.assert_clean(lake)


def _declare(socket: Path, bucket: str, role: str) -> None:
    """Make a destination and a schedule through the API."""
    with official(socket, ORGANIZATION) as client:
        made = client.data_exports.destinations.create(
            bucket_name=bucket,
            iam_role_arn=role,
            destination_type="S3",
            extra_body={"name": "Bucket", "code": "bucket"},
        )
        client.data_exports.schedules.create(
            operational_data_types=["ACCOUNTS"],
            source_type="OPERATIONAL",
            extra_body={
                "name": "Made",
                "code": "made",
                "operationalDataTypes": list(ENTITIES),
                "scheduleType": "DAY",
                "period": 1,
                "destinationIds": [made.id],
            },
        )


async def _fired(old: OldRelease, site: Site, code: str) -> UUID:
    """A run that the release before has queued."""
    outcome = await old.exportd(site, "schedule", "run", code)
    assert outcome.returncode == 0, outcome.stderr
    return UUID(outcome.stdout.strip())


async def _newest_migration(connection: "asyncpg.Connection[asyncpg.Record]") -> int:
    number: int = await connection.fetchval("SELECT max(number) FROM exportd.migration")
    return number


async def _kinds_of_guards(connection: "asyncpg.Connection[asyncpg.Record]") -> set[str]:
    """Whether positions hold guards or name them."""
    rows = await connection.fetch("SELECT DISTINCT jsonb_typeof(guards) AS kind FROM exportd.position")
    return {row["kind"] for row in rows}


async def _kept(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, list[tuple[Any, ...]]]:
    return {what: [tuple(row) for row in await connection.fetch(query)] for what, query in _KEPT.items()}
