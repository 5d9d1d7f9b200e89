"""The real daemon gets another configuration while it works."""

import asyncio
import json
import re
import signal
import threading
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from exportd.model.foreign_text import mask_secrets
from tests.acceptance import statement_blocker
from tests.acceptance.declarations import destination, gcs_destination, s3_destination, schedule
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.destinations import GcsBucket, S3Bucket
from tests.acceptance.sample_application import BLOCKABLE_CATALOG, CATALOG, Application
from tests.fixtures.control_clients import bare
from tests.fixtures.daemon import Daemon, Site


def subjects(event: dict[str, Any], kind: str) -> list[str]:
    return [change.partition(" (")[0] for change in event[kind]]


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def refused(site: Site, daemon: Daemon, text: str, *, times: int = 1) -> list[str]:
    """The problems in the log after SIGHUP with such a file."""
    site.config.write_text(text, encoding="utf-8")
    daemon.signal(signal.SIGHUP)
    problems: list[str] = (await daemon.wait_for_event("reload refused", times=times))["problems"]
    return problems


async def first_fields(connection: "asyncpg.Connection[asyncpg.Record]", job: asyncpg.Record) -> set[str]:
    """The names of the fields that a job has read of its first entity."""
    digest = json.loads(job["extraction"])["entities"][0]["fields"]
    fields = await connection.fetchval("SELECT document FROM exportd.shared_document WHERE digest = $1", digest)
    return {name for name, *_ in json.loads(fields)}


async def test_what_is_new_holds_and_what_runs_ends_as_it_began(site: Site, application: Application) -> None:
    old, new = site.destination("old"), site.destination("new")
    connection, keeper = application.connection, await site.database.connect()
    await connection.execute(statement_blocker.INSTALL)
    site.configure(BLOCKABLE_CATALOG, {"destination": [destination("lake", old)], "schedule": [schedule()]})
    daemon = await site.start()
    await site.succeeded(connection, await site.first_job(connection))
    await connection.execute("UPDATE public.accounts SET name = 'blocked' WHERE id = 7")
    async with statement_blocker.blocking(keeper) as closed:
        running = await site.fire()
        await closed.blocked_backend()
        # Its schedule, its destination, an entity and the fields of another are gone; the job that runs ends with them.
        site.configure(
            CATALOG.replace('"name", "balance", "note"', '"name"').partition('[[entity]]\ncode = "COUNTRIES"')[0],
            {
                "destination": [destination("fresh", new)],
                "schedule": [schedule("other", destinations=["fresh"])],
                "limits": {"jobs": 3},
                "log": {"format": "json", "level": "warning"},
                "control": {"listen": "127.0.0.1:0"},
            },
        )
        daemon.signal(signal.SIGHUP)
        # The level of the log holds at once too: what it says of success is no warning.
        other = await site.succeeded(connection, await site.first_job(connection, "other"))
        assert await connection.fetchval("SELECT state::text FROM exportd.job WHERE id = $1", running) == "RUNNING"
    assert other["destinations"] == ["fresh"]
    row = await site.succeeded(connection, running)
    assert list(row["entities"]) == ["ACCOUNTS", "ORDERS", "COUNTRIES"]
    assert await first_fields(connection, row) >= {"balance", "note"}
    assert await first_fields(connection, other) == {"id", "name", "deleted"}
    assert await connection.fetchval("SELECT count(*) FROM exportd.delivery WHERE job_id = $1", running) == 1
    assert await daemon.stop() == 0
    assert not daemon.events_named("reloaded")
    for folder in (old, new):
        DeliveredFiles.of(folder).assert_whole()
    await site.assert_clean(old, new)


async def test_a_bad_file_changes_nothing_and_every_problem_is_reported_with_its_line(
    site: Site, application: Application
) -> None:
    lake = site.destination()
    site.configure(CATALOG, {"destination": [destination("lake", lake)], "schedule": [schedule()]})
    good = site.config.read_text(encoding="utf-8")
    daemon = await site.start()
    await site.succeeded(application.connection, await site.first_job(application.connection))

    bad = good.replace("poll_interval_s = 1\n", 'poll_intervall_s = 1\nhorizon_hours = "long"\n')
    problems = await refused(site, daemon, bad.replace('destinations = ["lake"]', 'destinations = ["laek"]'))
    lines = bad.splitlines()
    for key, words in (("poll_intervall_s", "poll_interval_s"), ("horizon_hours", "number"), ("destinations", "lake")):
        line = next(number for number, text in enumerate(lines, start=1) if text.startswith(key))
        assert any(problem.startswith(f"{site.config}:{line}: ") and words in problem for problem in problems), problems
    assert len(problems) == 3

    # An editor that is saving in place.
    half = good[: good.index("poll_interval_s") + 4]
    (problem,) = await refused(site, daemon, half, times=2)
    assert problem.startswith(f"{site.config}:{half.count(chr(10)) + 1}: is not valid TOML")

    # The catalog against the database, and a group that the machine does not have.
    site.catalog.write_text(CATALOG.replace("public.orders", "public.ordres"), encoding="utf-8")
    (problem,) = await refused(site, daemon, good, times=3)
    assert "public.ordres" in problem
    site.catalog.write_text(CATALOG, encoding="utf-8")
    (problem,) = await refused(
        site, daemon, good.replace("[control]", '[control]\nadmins = ["no-such-group"]'), times=4
    )
    assert "no-such-group" in problem

    # It goes on, with what it had.
    await site.succeeded(application.connection, await site.fire())
    site.config.write_text(good, encoding="utf-8")
    daemon.signal(signal.SIGHUP)
    event = await daemon.wait_for_event("reloaded")
    assert [event[kind] for kind in ("added", "removed", "changed", "needs_restart")] == [[], [], [], []]
    assert await daemon.stop() == 0
    await site.assert_clean(lake)


async def test_the_command_says_what_changes_and_its_exit_code_says_whether_it_did(
    site: Site, application: Application
) -> None:
    lake = site.destination()
    sections: dict[str, Any] = {"destination": [destination("lake", lake)], "schedule": [schedule()]}
    site.configure(CATALOG, sections)
    without_daemon = await site.quickly("reload")
    assert without_daemon.returncode == 3
    assert f"No daemon listens at {site.folder / 'control.sock'}" in without_daemon.stderr

    daemon = await site.start()
    await site.succeeded(application.connection, await site.first_job(application.connection))
    same = await site.quickly("reload")
    assert (same.returncode, same.stdout) == (0, "The file says what the daemon does already.\n")

    site.configure(
        CATALOG,
        {
            **sections,
            "schedule": [schedule(), schedule("more")],
            "spool": {"directory": "other", "retention_hours": 5},
        },
    )
    dry = await site.quickly("reload", "--dry-run", "--json")
    assert dry.returncode == 0, dry.stderr
    answer = json.loads(dry.stdout)
    assert answer["dryRun"] is True
    assert [change["subject"] for change in answer["added"]] == ["schedule more of org-1"]
    assert [change["subject"] for change in answer["changed"]] == ["spool.retention_hours"]
    assert [change["subject"] for change in answer["needsRestart"]] == ["spool.directory"]
    assert await application.connection.fetchval("SELECT count(*) FROM exportd.schedule") == 1
    done = await site.quickly("reload")
    assert done.returncode == 0, done.stderr
    assert "spool.directory: changed, but needs a restart" in done.stdout
    event = await daemon.wait_for_event("reloaded", added=["schedule more of org-1"])
    assert subjects(event, "needs_restart") == ["spool.directory"]
    await site.succeeded(application.connection, await site.first_job(application.connection, "more"))
    assert not (site.folder / "other").exists()

    socket = site.folder / "control.sock"
    site.config.write_text("[limits]\njobs = 0\n[limitz]\n", encoding="utf-8")
    bad = await site.quickly("reload", "--socket", str(socket))
    assert bad.returncode == 2
    printed = [line.removeprefix("exportd: ") for line in bad.stderr.splitlines()]
    # The example of a DSN in a sentence has its password masked in the log.
    assert [mask_secrets(problem) for problem in printed] == (await daemon.wait_for_event("reload refused"))["problems"]
    assert len(printed) == 3  # also: where is the database?
    assert await daemon.stop() == 0
    await site.assert_clean(lake)


async def test_reloads_come_one_after_the_other_and_none_when_the_daemon_leaves(
    site: Site, application: Application
) -> None:
    lake = site.destination()
    connection, keeper = application.connection, await site.database.connect()
    await connection.execute(statement_blocker.INSTALL)

    def write(*codes: str) -> None:
        schedules = [schedule(), *(schedule(code, entities=["COUNTRIES"]) for code in codes)]
        site.configure(BLOCKABLE_CATALOG, {"destination": [destination("lake", lake)], "schedule": schedules})

    write()
    daemon = await site.start()
    await site.succeeded(connection, await site.first_job(connection))

    def ask() -> int:
        with bare(site.folder / "control.sock") as http:
            return http.post("/v1/reload").status_code

    rounds = 3
    for number in range(rounds):
        # The file is replaced while reloads read it: each reads it whole, once.
        write(*(f"extra-{count}" for count in range(number + 1)))
        assert await asyncio.gather(*(asyncio.to_thread(ask) for _ in range(4))) == [200] * 4
    codes = await connection.fetch("SELECT code FROM exportd.schedule WHERE deleted_at IS NULL ORDER BY code")
    assert [row["code"] for row in codes] == [*(f"extra-{number}" for number in range(rounds)), "often"]
    assert sum(len(event["added"]) for event in daemon.events_named("reloaded")) == rounds
    for number in range(rounds):
        await site.succeeded(connection, await site.first_job(connection, f"extra-{number}"))

    await connection.execute("UPDATE public.accounts SET name = 'blocked' WHERE id = 7")
    async with statement_blocker.blocking(keeper) as closed:
        job = await site.fire()
        await closed.blocked_backend()
        daemon.signal(signal.SIGTERM)
        await daemon.wait_for_event("stopping")
        late = await site.quickly("reload")
        assert late.returncode == 3
        assert "The daemon is stopping" in late.stderr
    await site.succeeded(connection, job)
    assert await daemon.ended() == 0
    await site.assert_clean(lake)


async def test_a_reload_that_the_database_refuses_is_undone_as_a_whole(site: Site, application: Application) -> None:
    lake, elsewhere, connection = site.destination(), site.destination("elsewhere"), application.connection
    site.configure(CATALOG, {"destination": [destination("lake", lake)], "schedule": [schedule()]})
    daemon = await site.start()
    await site.succeeded(connection, await site.first_job(connection))
    await connection.execute("""
        CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'not this one'; END$$;
        CREATE TRIGGER refuse BEFORE INSERT ON exportd.schedule
        FOR EACH ROW WHEN (new.code = 'refused') EXECUTE FUNCTION public.refuse()""")

    def status() -> dict[str, Any]:
        with bare(site.folder / "control.sock") as http:
            found: dict[str, Any] = http.get("/v1/status").json()
            return found

    # Everything else of it is in effect already when the database says no to the schedule.
    site.configure(
        CATALOG.partition('[[entity]]\ncode = "COUNTRIES"')[0],
        {
            "destination": [destination("lake", elsewhere)],
            "schedule": [schedule(), schedule("refused")],
            "spool": {"budget": "2 GB"},
        },
    )
    daemon.signal(signal.SIGHUP)
    (problem,) = (await daemon.wait_for_event("reload refused"))["problems"]
    assert "not this one" in problem
    assert status()["spool"]["budgetBytes"] == 10**9
    row = await site.succeeded(connection, await site.fire())
    assert list(row["entities"]) == ["ACCOUNTS", "ORDERS", "COUNTRIES"]
    assert files_of(elsewhere) == []

    await connection.execute("DROP TRIGGER refuse ON exportd.schedule")
    daemon.signal(signal.SIGHUP)
    event = await daemon.wait_for_event("reloaded", added=["schedule refused of org-1"])
    assert subjects(event, "removed") == ["entity COUNTRIES"]
    assert status()["spool"]["budgetBytes"] == 2 * 10**9
    await site.succeeded(connection, await site.first_job(connection, "refused"))
    assert files_of(elsewhere)
    assert await daemon.stop() == 0
    await site.assert_clean(lake, elsewhere)


async def test_another_password_of_the_same_database(site: Site, application: Application) -> None:
    """The role and its password change; connections that are made from the reload on have the new one.

    The log says of each login, once, that it may do more than it needs.
    """
    site.configure(CATALOG, {"schedule": [schedule(destinations=[])]})
    daemon = await site.start()
    (about_first,) = daemon.events_named("login may do too much", level="warning")
    assert "the role postgres of database.dsn is a superuser" in about_first["error"]
    await site.succeeded(application.connection, await site.first_job(application.connection))
    await application.connection.execute("CREATE ROLE deputy LOGIN SUPERUSER PASSWORD 'second'")
    text = site.config.read_text(encoding="utf-8")
    dsn = site.dsn
    scheme, _, rest = dsn.partition("://")
    site.config.write_text(
        text.replace(json.dumps(dsn), json.dumps(f"{scheme}://deputy:second@{rest.rpartition('@')[2]}")),
        encoding="utf-8",
    )
    daemon.signal(signal.SIGHUP)
    event = await daemon.wait_for_event("reloaded")
    assert subjects(event, "changed") == ["database.dsn"]
    daemon.signal(signal.SIGHUP)
    await daemon.wait_for_event("reloaded", times=2)
    _, about_second = daemon.events_named("login may do too much")
    assert "the role deputy of database.dsn is a superuser" in about_second["error"]
    await site.succeeded(application.connection, await site.fire())
    assert await application.connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'deputy' AND application_name LIKE 'exportd%'"
    )
    assert "second" not in daemon.text
    assert await daemon.stop() == 0
    await application.connection.execute("DROP ROLE deputy")


async def test_half_written_files_under_load_change_nothing_and_disturb_nothing(
    site: Site, application: Application
) -> None:
    """While exports run and the API is asked, an editor saves in place: each signal finds another part of the file."""
    lake, connection = site.destination(), application.connection
    site.configure(CATALOG, {"destination": [destination("lake", lake)], "schedule": [schedule()]})
    good = site.config.read_text(encoding="utf-8")
    daemon = await site.start()
    await site.succeeded(connection, await site.first_job(connection))
    over = threading.Event()

    def ask() -> set[int]:
        with bare(site.folder / "control.sock") as http:
            seen = set()
            while not over.is_set():
                seen.add(http.get("/v1/status").status_code)
            return seen

    asking = [asyncio.create_task(asyncio.to_thread(ask)) for _ in range(2)]
    # Each ends in the middle of a key.
    parts = [good[: key.start() + 2] for key in re.finditer(r"^\w+ = ", good, re.MULTILINE)]
    for number, part in enumerate(parts, start=1):
        job = await site.fire()
        site.config.write_text(part, encoding="utf-8")
        daemon.signal(signal.SIGHUP)
        (problem,) = (await daemon.wait_for_event("reload refused", times=number))["problems"]
        assert problem.startswith(f"{site.config}:{part.count(chr(10)) + 1}: is not valid TOML")
        await site.succeeded(connection, job)
    over.set()
    assert [await answers for answers in asking] == [{200}, {200}]

    site.config.write_text(good, encoding="utf-8")
    daemon.signal(signal.SIGHUP)
    await daemon.wait_for_event("reloaded")
    assert len(parts) > 10
    await site.succeeded(connection, await site.fire())
    assert await daemon.stop() == 0
    assert "Traceback" not in daemon.text
    bucket = DeliveredFiles.of(lake)
    bucket.assert_whole()
    assert bucket.replayed() == await application.contents()
    await site.assert_clean(lake)


@pytest.mark.slow
async def test_buckets_that_are_replaced_again_and_again_leave_no_connection_behind(
    site: Site, application: Application, empty_s3_bucket: S3Bucket, empty_gcs_bucket: GcsBucket
) -> None:
    connection = application.connection

    def write(number: int) -> None:
        site.configure(
            CATALOG,
            {
                "gcs": {"endpoint": empty_gcs_bucket.server.endpoint},
                "destination": [
                    s3_destination("lake", empty_s3_bucket, prefix=f"place-{number}"),
                    gcs_destination("sea", empty_gcs_bucket, prefix=f"place-{number}"),
                ],
                "schedule": [schedule(entities=["COUNTRIES"], destinations=["lake", "sea"])],
            },
        )

    def reload() -> int:
        with bare(site.folder / "control.sock") as http:
            return http.post("/v1/reload").status_code

    def open_sockets() -> int:
        links = Path(f"/proc/{daemon.process.pid}/fd").iterdir()
        return sum(link.is_symlink() and str(link.readlink()).startswith("socket:") for link in links)

    write(0)
    daemon = await site.start()
    await site.succeeded(connection, await site.first_job(connection))
    seen: list[int] = []
    for number in range(1, 51):
        write(number)
        assert await asyncio.to_thread(reload) == 200
        if number % 2:  # each of these has connections of its own to both
            await site.succeeded(connection, await site.fire())
            seen.append(open_sockets())
    assert max(seen[5:]) <= max(seen[:5]) + 3, seen
    assert await daemon.stop() == 0
    await site.assert_clean()
