"""Two real daemons of one database that were not given the same configuration."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.acceptance.declarations import destination, schedule
from tests.acceptance.sample_application import CATALOG, Application
from tests.fixtures.control_clients import bare
from tests.fixtures.daemon import Daemon, Site, files_in, until


@pytest.fixture
def twin(site: Site, tmp_path: Path) -> Iterator[Site]:
    """Another host with the same database."""
    folder = tmp_path / "twin"
    folder.mkdir()
    twin = Site(folder, site.database, site.dsn)
    yield twin
    twin.close()


def declare(at: Site, lake: Path, *codes: str, **sections: Any) -> None:
    everything = {"destination": [destination("lake", lake)], "schedule": [schedule(code) for code in codes]}
    at.configure(CATALOG, {**everything, **sections})


async def schedules(application: Application) -> dict[str, UUID]:
    rows = await application.connection.fetch("SELECT code, id FROM exportd.schedule WHERE deleted_at IS NULL")
    return {row["code"]: row["id"] for row in rows}


async def full_runs(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, int]:
    """How many runs of each schedule were complete ones."""
    rows = await connection.fetch("SELECT schedule_code, extraction FROM exportd.job WHERE state = 'SUCCEEDED'")
    found: dict[str, int] = {}
    for row in rows:
        modes = {load["mode"] for load in json.loads(row["extraction"])["entities"]}
        found[row["schedule_code"]] = found.get(row["schedule_code"], 0) + ("full" in modes)
    return found


async def gauge(at: Site, name: str) -> float:
    with bare(at.folder / "control.sock") as http:
        lines = http.get("/metrics").raise_for_status().text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))


async def warned(daemon: Daemon, words: str) -> None:
    async def look() -> bool:
        return any(words in event["sentence"] for event in daemon.events_named("daemons disagree", level="warning"))

    await until(look, what=lambda: f"{words!r} in\n{daemon.text}")


async def test_neither_takes_away_what_the_other_declares_and_both_say_so_once(
    site: Site, twin: Site, application: Application
) -> None:
    lake = site.destination()
    declare(site, lake, "both", "northern")
    declare(twin, lake, "both", "southern", capture={"poll_interval_s": 1, "horizon_hours": 24})
    north, south = await site.start(), await twin.start()
    for code in ("both", "northern", "southern"):
        await site.succeeded(application.connection, await site.first_job(application.connection, code))
    before = await schedules(application)
    assert set(before) == {"both", "northern", "southern"}

    # Each says it, once for each subject.
    await warned(north, "only there: southern of org-1; only here: northern of org-1")
    await warned(north, "capture.horizon_hours is 24.0 there and 168.0 here")
    assert len(north.events_named("daemons disagree")) == len(south.events_named("daemons disagree")) == 2
    status = json.loads((await site.quickly("status", "--json")).stdout)
    assert [daemon["running"] for daemon in status["daemons"]] == [True, True]
    assert {daemon["pid"] for daemon in status["daemons"]} == {north.process.pid, south.process.pid}
    assert {disagreement["about"] for disagreement in status["disagreements"]} == {"SETTINGS", "SCHEDULES"}
    screen = (await site.quickly("status")).stdout
    assert f"(process {south.process.pid}) declares other schedules than this daemon" in screen
    assert "this one" in screen
    assert (await gauge(site, "exportd_daemons"), await gauge(site, "exportd_daemons_disagreeing")) == (2, 1)

    # Through restarts of either, politely or not, and a reload.
    assert await south.stop() == 0
    assert await north.stop() == 0
    north, south = await site.start(), await twin.start()
    await south.kill()
    assert (await site.quickly("reload")).returncode == 0
    south = await twin.start()
    reloaded = await twin.quickly("reload")
    assert "only there: northern of org-1; only here: southern of org-1" in reloaded.stdout
    assert await schedules(application) == before
    for code in before:
        await site.succeeded(application.connection, await site.fire(code))
    assert await full_runs(application.connection) == {"both": 1, "northern": 1, "southern": 1}

    # Both are given the same: what none declares goes, what was said is over.
    declare(site, lake, "both")
    assert (await site.quickly("reload")).returncode == 0
    assert set(await schedules(application)) == {"both", "southern"}
    declare(twin, lake, "both")
    assert (await twin.quickly("reload")).returncode == 0
    for daemon in (north, south):
        await daemon.wait_for_event("disagreement ended", about="SCHEDULES")
        await daemon.wait_for_event("disagreement ended", about="SETTINGS")
    assert await schedules(application) == {"both": before["both"]}
    assert await north.stop() == 0
    assert await south.stop() == 0
    await site.assert_clean(lake)


async def test_what_a_daemon_declares_outlasts_its_reboot_and_ends_when_it_is_forgotten(
    site: Site, twin: Site, application: Application
) -> None:
    lake = site.destination()
    declare(site, lake, "both")
    declare(twin, lake, "both", "southern")
    north, south = await site.start(), await twin.start()
    for code in ("both", "southern"):
        await site.succeeded(application.connection, await site.first_job(application.connection, code))
    (running,) = (record for record in await known(site) if record["pid"] == south.process.pid)
    refused = await site.quickly("daemon", "forget", running["id"])
    assert refused.returncode == 1
    assert "Stop it first." in refused.stderr
    assert await south.stop() == 0

    await warned(north, f"exportd daemon forget {running['id']}")
    assert (await site.quickly("reload")).returncode == 0
    # Its schedule is due as always, and the one that runs does its jobs.
    await site.succeeded(application.connection, await site.fire("southern"))
    assert await full_runs(application.connection) == {"both": 1, "southern": 1}

    # What stands in no file gets nothing, though a row says that it does. Its job came first.
    planted = site.destination("planted")
    await application.connection.execute(
        """INSERT INTO exportd.destination (organization, code, name, origin, settings, created_by, modified_by)
           VALUES ('org-1', 'planted', 'Planted', 'CONFIGURATION', $1::text::jsonb, 'x', 'x')""",
        json.dumps({"type": "DIRECTORY", "directory": str(planted)}),
    )
    await application.connection.execute(
        "UPDATE exportd.schedule SET destinations = '{planted}' WHERE code = 'southern'"
    )
    waiting = await site.fire("southern")
    await site.succeeded(application.connection, await site.fire("both"))
    state = "SELECT state::text FROM exportd.job WHERE id = $1"
    assert await application.connection.fetchval(state, waiting) == "PENDING"
    assert files_in(planted) == set()

    done = await site.quickly("daemon", "forget", running["id"])
    assert (done.returncode, done.stderr) == (0, "")
    assert "is forgotten" in done.stdout
    await north.wait_for_event("disagreement ended", about="SCHEDULES")
    assert set(await schedules(application)) == {"both"}
    assert len(await known(site)) == 1
    for wrong, exit_code in ((running["id"], 1), ("southern", 2)):
        assert (await site.quickly("daemon", "forget", wrong)).returncode == exit_code
    assert await north.stop() == 0
    await site.assert_clean(lake)


async def known(at: Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((await at.quickly("status", "--json")).stdout)["daemons"]
    return found
