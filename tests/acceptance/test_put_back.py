"""A data directory is put back to an older copy between runs: the consumer has what the tables have all the same."""

import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from anyio import run_process

from exportd.model.errors import FullReason
from exportd.model.extraction import Mode
from exportd.postgres.postgres_server import PostgresServer
from exportd.postgres.server_process import Account
from tests.acceptance.declarations import destination, schedule
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.sample_application import CATALOG, Application, Contents
from tests.acceptance.twin_sites import twin_of
from tests.fixtures.daemon import Site
from tests.fixtures.postgres import Database, installed

SETTINGS = {"fsync": "off", "max_connections": "60", "max_prepared_transactions": "20", "wal_level": "logical"}


@dataclass
class Volume:
    """A server whose data directory can be copied and put back, and the application in its database."""

    server: PostgresServer
    home: Path
    site: Site
    application: Application
    stack: AsyncExitStack

    async def keep(self, name: str) -> None:
        """Copy the data directory of the stopped server."""
        await self.stop()
        await run_process(["cp", "-a", str(self.home / "data"), str(self.home / name)])
        await self.start()

    async def put_back(self, name: str) -> None:
        await self.stop()
        shutil.rmtree(self.home / "data")
        await run_process(["cp", "-a", str(self.home / name), str(self.home / "data")])
        await self.start()

    async def stop(self) -> None:
        await self.application.connection.close()
        await self.server.stop()

    async def start(self) -> None:
        await self.server.start()
        self.application.connection = await self.site.database.connect()

    async def run(self, code: str = "often") -> None:
        """One run, by whichever daemon takes it."""
        await self.site.succeeded(self.application.connection, await self.site.fire(code))


@pytest.fixture(params=sorted({min(installed()), max(installed())}))
async def volume(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Volume]:
    account = Account.for_server()
    home = Path(tempfile.mkdtemp(prefix="volume-"))
    account.give(home)
    async with (
        PostgresServer(binaries=installed()[request.param], directory=home, settings=SETTINGS) as server,
        AsyncExitStack() as stack,
    ):
        await server.create_database("shop")
        database = Database(server, "shop", stack)
        site = Site(tmp_path, database, database.dsn)
        application = Application(await database.connect())
        await application.open()
        try:
            yield Volume(server, home, site, application, stack)
        finally:
            site.close()
    shutil.rmtree(home)


def modes(lake: Path) -> dict[str, tuple[Mode, FullReason | None]]:
    """How the newest run at a destination came."""
    manifests = [manifest for chain in DeliveredFiles.of(lake).chains for manifest in chain.manifests]
    newest = max(manifests, key=lambda manifest: manifest.created_at)
    return {entity.code: (entity.mode, entity.full_reason) for entity in newest.entities}


def assert_holds(lake: Path, contents: Contents) -> None:
    bucket = DeliveredFiles.of(lake)
    bucket.assert_whole()
    assert bucket.replayed() == contents


PUT_BACK = {(Mode.FULL, FullReason.DATABASE_PUT_BACK)}
GOES_ON = {(Mode.INCREMENTAL, None)}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
async def test_after_a_volume_of_any_age_was_put_back_the_consumer_has_what_the_tables_have(
    volume: Volume, seed: int
) -> None:
    random, site, application = Random(seed), volume.site, volume.application
    lakes = [site.destination("lake"), site.destination("pond")]
    site.configure(
        CATALOG,
        {
            "destination": [destination(lake.name, lake) for lake in lakes],
            "schedule": [schedule(destinations=["lake", "pond"])],
        },
    )
    daemon = await site.start()
    await site.succeeded(application.connection, await site.first_job(application.connection))
    kept: list[str] = []
    for round_number in range(6):
        await application.change()
        await volume.run()
        assert set(modes(lakes[0]).values()) == GOES_ON
        if random.random() < 0.6 or round_number == 0:
            # The daemon may well be running meanwhile: it waits for its database.
            kept.append(f"copy-{round_number}")
            await volume.keep(kept[-1])
            await application.change(3)
            await volume.run()
        if round_number % 2:
            away = random.random() < 0.5
            if away:
                assert await daemon.stop() == 0
            await volume.put_back(random.choice(kept))
            await application.change(random.randrange(0, 30))
            if away:
                daemon = await site.start()
            await volume.run()
            for lake in lakes:
                assert set(modes(lake).values()) == PUT_BACK
                assert_holds(lake, await application.contents())
            kept = []
            await volume.keep("copy-after")
            kept.append("copy-after")
    assert daemon.events_named("database put back") or len(site.daemons) > 1
    for lake in lakes:
        assert_holds(lake, await application.contents())
    verified = await site.without_configuration("verify", str(lakes[0]))
    assert (verified.returncode, "another history" in verified.stdout) == (0, True), verified.stdout


@pytest.mark.slow
async def test_a_copy_that_a_daemon_with_an_empty_spool_finds_shows_by_the_destination(volume: Volume) -> None:
    site, application = volume.site, volume.application
    lake = site.destination("lake")
    site.configure(CATALOG, {"destination": [destination("lake", lake)], "schedule": [schedule()]})
    daemon = await site.start()
    await site.succeeded(application.connection, await site.first_job(application.connection))
    await volume.keep("copy")
    await application.change()
    await volume.run()
    assert await daemon.stop() == 0
    await volume.put_back("copy")
    shutil.rmtree(site.spool)
    await application.change()
    await site.start()
    await volume.run()
    assert set(modes(lake).values()) == PUT_BACK
    assert_holds(lake, await application.contents())
    await volume.run()
    assert set(modes(lake).values()) == GOES_ON


@pytest.mark.slow
async def test_what_another_daemon_has_published_is_no_false_alarm_and_what_was_undone_shows_to_both(
    volume: Volume, tmp_path: Path
) -> None:
    site, application = volume.site, volume.application
    lake = site.destination("lake")
    site.configure(CATALOG, {"destination": [destination("lake", lake)], "schedule": [schedule()]})
    twin = twin_of(site, tmp_path / "twin")
    try:
        one = await site.start()
        await site.succeeded(application.connection, await site.first_job(application.connection))
        for host in (twin, site, twin, twin, site):
            assert await one.stop() == 0
            one = await host.start()
            await application.change(4)
            await volume.run()
            assert set(modes(lake).values()) == GOES_ON
        await volume.keep("copy")
        await application.change()
        await volume.run()
        assert await one.stop() == 0
        await volume.put_back("copy")
        # The destination's note is lost, and this daemon has not published what was undone: then the other says it.
        for note in lake.rglob("_published/*"):
            note.unlink()
        one = await twin.start()
        await application.change(3)
        await volume.run()
        assert set(modes(lake).values()) == GOES_ON
        assert await one.stop() == 0
        one = await site.start()
        await volume.run()
        assert set(modes(lake).values()) == PUT_BACK
        # The other's run followed what lay there; so did what was undone. Neither is a fault of the destination.
        verified = await site.without_configuration("verify", str(lake))
        assert (verified.returncode, "another history" in verified.stdout) == (0, True), verified.stdout
        await application.change(3)
        await volume.run()
        assert set(modes(lake).values()) == GOES_ON
        assert await one.stop() == 0
    finally:
        twin.close()


@pytest.mark.slow
async def test_a_job_that_was_running_when_the_copy_was_made_is_not_run_again_by_its_name(volume: Volume) -> None:
    site, application = volume.site, volume.application
    lake = site.destination("lake")
    site.configure(CATALOG, {"destination": [destination("lake", lake)], "schedule": [schedule()]})
    daemon = await site.start()
    await site.succeeded(application.connection, await site.first_job(application.connection))
    assert await daemon.stop() == 0
    await application.change()
    waiting = await site.fire()
    await volume.keep("copy")
    await site.start()
    await site.succeeded(application.connection, waiting)
    await volume.run()
    before = {path: path.read_bytes() for path in lake.rglob("*.gz")}
    await volume.put_back("copy")
    await application.change()
    row = await site.finished(application.connection, waiting)
    assert (row["state"], row["reason"]) == ("FAILED", "DATABASE_PUT_BACK")
    assert {path: path.read_bytes() for path in lake.rglob("*.gz")} == before
    await volume.run()
    assert set(modes(lake).values()) == PUT_BACK
    assert_holds(lake, await application.contents())


@pytest.mark.slow
async def test_a_daemon_that_dies_between_its_notes_raises_no_false_alarm(volume: Volume) -> None:
    """Postgres was told of a publication that neither spool nor destination heard of; and the other way round."""
    site, application = volume.site, volume.application
    lake = site.destination("lake")
    site.configure(CATALOG, {"destination": [destination("lake", lake)], "schedule": [schedule()]})
    daemon = await site.start()
    await site.succeeded(application.connection, await site.first_job(application.connection))
    (note,) = lake.rglob("_published/*.json")
    (memory,) = site.spool.glob("published/*.json")
    assert json.loads(note.read_text())["job_id"] == json.loads(memory.read_text())["job_id"]
    before = note.read_bytes(), memory.read_bytes()
    await application.change()
    await volume.run()
    note.write_bytes(before[0])
    memory.write_bytes(before[1])
    # The jobs are forgotten after a while: then what stands beside the token decides.
    await application.connection.execute("UPDATE exportd.job SET extraction = extraction - 'taken_at'")
    await application.change()
    await volume.run()
    assert set(modes(lake).values()) == GOES_ON
    assert not daemon.events_named("database put back")
    assert_holds(lake, await application.contents())


async def test_a_destination_that_moves_to_an_empty_place_begins_anew_there(
    site: Site, application: Application, tmp_path: Path
) -> None:
    lake, pond = site.destination("lake"), site.destination("pond")
    sections = {"schedule": [schedule()]}
    site.configure(CATALOG, {**sections, "destination": [destination("lake", lake)]})
    daemon = await site.start()
    await site.succeeded(application.connection, await site.first_job(application.connection))
    await application.change()
    await site.succeeded(application.connection, await site.fire())
    assert await daemon.stop() == 0
    site.configure(CATALOG, {**sections, "destination": [destination("lake", pond)]})
    await site.start()
    await application.change()
    for _ in range(2):
        await site.succeeded(application.connection, await site.fire())
    assert_holds(pond, await application.contents())
    (chain,) = DeliveredFiles.of(pond).chains
    assert chain.manifests[0].predecessor is None
    verified = await site.without_configuration("verify", str(pond))
    assert verified.returncode == 0, verified.stdout
    replayed = await site.without_configuration("replay", str(pond), "--into", str(tmp_path / "tables.duckdb"))
    assert replayed.returncode == 0, replayed.stderr
