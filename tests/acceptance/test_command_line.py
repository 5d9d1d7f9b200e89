"""The command line asks the real daemon over its socket."""

import json
import re
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.acceptance import statement_blocker
from tests.acceptance.declarations import destination, schedule
from tests.acceptance.destinations import GcsBucket
from tests.acceptance.sample_application import BLOCKABLE_CATALOG, CATALOG, ORGANIZATION, Application
from tests.fixtures.daemon import Site, files_in, until

S3_BUCKET = (
    *("--type", "S3", "--bucket", "exports", "--prefix", "daily"),
    *("--role-arn", "arn:aws:iam::123456789012:role/exports"),
)


@pytest.fixture
async def open_site(site: Site, application: Application) -> Site:
    """A daemon with a schedule and a destination, both declared, whose first run has succeeded."""
    lake = site.destination()
    site.configure(CATALOG, {"destination": [destination("lake", lake)], "schedule": [schedule()]})
    await site.start()
    await site.succeeded(application.connection, await site.first_job(application.connection))
    return site


async def said(site: Site, *arguments: str, code: int = 0) -> str:
    outcome = await site.quickly(*arguments)
    assert outcome.returncode == code, (outcome.returncode, outcome.stdout, outcome.stderr)
    return outcome.stdout


async def shown_in_status(site: Site, *words: str) -> None:
    """A status is up to a second old."""

    async def look() -> bool:
        screen = await said(site, "status")
        return all(word in screen for word in words)

    await until(look, what=f"{words} in the status")


async def paused_destinations(site: Site) -> dict[str, dict[str, str] | None]:
    found = await document(site, "destination", "list")
    return {listed["code"]: listed.get("paused") for listed in found}


async def document(site: Site, *arguments: str) -> Any:
    return json.loads(await said(site, *arguments, "--json"))


async def refused(site: Site, *arguments: str, code: int) -> str:
    outcome: CompletedProcess[str] = await site.quickly(*arguments)
    assert outcome.returncode == code, (outcome.returncode, outcome.stdout, outcome.stderr)
    assert "Traceback" not in outcome.stderr
    return outcome.stderr


async def test_the_life_of_a_schedule(open_site: Site, application: Application) -> None:
    site = open_site
    every_two_hours = ("--unit", "HOUR", "--period", "2", "--offset", "15")
    shown = await said(
        site,
        *("schedule", "create", "billing", "--entities", "ACCOUNTS", "ORDERS", "--destinations", "lake"),
        *every_two_hours,
    )
    assert f"billing of {ORGANIZATION}" in shown
    assert "every 2 hours, 15 minutes past" in shown
    assert "ACCOUNTS, ORDERS" in shown
    assert "unix:" in shown
    await site.succeeded(application.connection, await site.first_job(application.connection, "billing"))

    # What is not said stays; a cron expression takes the interval's place, and back.
    edited = await document(site, "schedule", "edit", "billing", "--cron", "5 */3 * * *", "--format", "JSONL")
    assert edited["cronExpression"] == "5 */3 * * *"
    assert edited["scheduleType"] is None
    assert (edited["operationalDataTypes"], edited["exportFileFormat"]) == (["ACCOUNTS", "ORDERS"], "JSONL")
    due = (await said(site, "schedule", "next", "billing", "-n", "3")).splitlines()
    assert len(due) == 3
    assert all(instant.endswith(":05:00Z") for instant in due[1:])
    edited = await document(site, "schedule", "edit", "billing", *every_two_hours)
    assert (edited["scheduleType"], edited["offset"], edited.get("cronExpression")) == ("HOUR", 15, None)
    assert (await document(site, "schedule", "show", "billing"))["version"] == 3

    await said(site, "schedule", "pause", "billing")
    await shown_in_status(site, "2, 1 paused")
    assert "paused since 20" in await said(site, "schedule", "show", "billing")
    assert (await document(site, "schedule", "show", "billing"))["paused"]["by"].startswith("unix:")
    listed = {schedule["code"]: schedule.get("paused") for schedule in await document(site, "schedule", "list")}
    assert (listed["often"], listed["billing"]["by"][:5]) == (None, "unix:")
    assert (await said(site, "schedule", "list")).count("paused since 20") == 1
    warned = (await site.quickly("schedule", "next", "billing")).stderr
    assert warned.startswith("exportd: paused since 20")
    assert warned.endswith(": it does not fire\n")
    await said(site, "schedule", "resume", "billing")
    assert (await document(site, "schedule", "show", "billing"))["paused"] is None
    assert (await site.quickly("schedule", "next", "billing")).stderr == ""
    refreshed = await document(site, "schedule", "refresh", "billing", "ORDERS", "--now")
    assert "succeeded" in await said(site, "job", "watch", refreshed["jobId"])
    await said(site, "schedule", "delete", "billing")
    assert "has no schedule billing" in await refused(site, "schedule", "show", "billing", code=1)


async def test_the_life_of_a_destination(open_site: Site) -> None:
    site = open_site
    assert "exports" in await said(site, "destination", "create", "bucket", *S3_BUCKET)
    edited = await document(site, "destination", "edit", "bucket", "--prefix", "", "--partition-order", "TYPE_FIRST")
    assert (edited["prefix"], edited["emptyFiles"]) == (None, True)
    assert (await document(site, "destination", "edit", "bucket", "--no-empty-files"))["emptyFiles"] is False
    edited = await document(site, "destination", "edit", "bucket", "--name", "A bucket")
    assert edited["emptyFiles"] is False, "what is not given stays"
    assert (edited["partitionOrder"], edited["bucketName"], edited["version"]) == ("TYPE_FIRST", "exports", 4)
    await said(site, "destination", "pause", "bucket")
    await shown_in_status(site, f"bucket       {ORGANIZATION}         paused since")
    assert "paused since 20" in await said(site, "destination", "show", "bucket")
    assert (await document(site, "destination", "show", "bucket"))["paused"]["by"].startswith("unix:")
    listed = await paused_destinations(site)
    assert [code for code, paused in listed.items() if paused] == ["bucket"]
    assert (await said(site, "destination", "list")).count("paused since 20") == 1
    await said(site, "destination", "resume", "bucket")
    await said(site, "destination", "pause", "lake")  # of the configuration
    listed = await paused_destinations(site)
    assert [code for code, paused in listed.items() if paused] == ["lake"]
    assert "arn:aws:iam::123456789012:role/exports" in await said(site, "destination", "show", "bucket")
    await said(site, "destination", "delete", "bucket")
    await refused(site, "destination", "show", "bucket", code=1)


async def test_a_bucket_of_google_is_made_edited_and_delivered_to(
    site: Site, application: Application, empty_gcs_bucket: GcsBucket
) -> None:
    site.configure(
        CATALOG, {"gcs": {"endpoint": empty_gcs_bucket.server.endpoint}, "schedule": [schedule(destinations=[])]}
    )
    daemon = await site.start()
    pool = ("--project-number", "123", "--pool-id", "exports", "--provider-id", "cluster")
    missing = await refused(
        site, "destination", "create", "sea", "--type", "GCS", "--bucket", empty_gcs_bucket.name, code=2
    )
    assert "projectNumber: is missing" in missing
    made = await document(
        site,
        *(
            "destination",
            "create",
            "sea",
            "--type",
            "GCS",
            "--bucket",
            empty_gcs_bucket.name,
            "--prefix",
            "deep",
            *pool,
        ),
        *("--service-account", "exports@acme.iam.gserviceaccount.com", "--name", "The sea"),
    )
    given = {
        "bucketName": empty_gcs_bucket.name,
        "prefix": "deep",
        "projectNumber": "123",
        "poolId": "exports",
        "providerId": "cluster",
        "serviceAccountEmail": "exports@acme.iam.gserviceaccount.com",
        "name": "The sea",
    }
    assert {name: made[name] for name in given} == given
    edited = await document(
        *(site, "destination", "edit", "sea", "--provider-id", "other", "--pool-id", "more", "--project-number", "456"),
        *("--service-account", "", "--prefix", "deeper"),
    )
    assert "serviceAccountEmail" not in edited
    assert [edited[name] for name in ("projectNumber", "poolId", "providerId", "prefix")] == [
        *("456", "more", "other", "deeper"),
    ]
    shown = await said(site, "destination", "show", "sea")
    for name, value in (
        ("provider", "other"),
        ("pool", "more"),
        ("project number", "456"),
        ("bucket", empty_gcs_bucket.name),
    ):
        assert re.search(rf"^{name} +{value}$", shown, re.MULTILINE), shown
    assert "role" not in shown

    await said(site, "export", "ACCOUNTS", "--destinations", "sea", "--wait")
    keys = list((await empty_gcs_bucket.delivered()).objects)
    assert keys
    assert all(key.startswith(f"deeper/orgId={ORGANIZATION}/") for key in keys)
    assert await daemon.stop() == 0
    await site.assert_clean()


async def test_an_export_is_waited_for_and_copied(open_site: Site, application: Application) -> None:
    site = open_site
    to = site.folder / "copied"
    outcome = await said(site, "export", "ACCOUNTS", "--format", "JSONL", "--to", str(to))
    job, *_, succeeded, copied = outcome.splitlines()
    assert succeeded == "succeeded"
    assert copied.startswith("1 files")
    assert sorted(path.name for path in files_in(to)) == [f"{job}.json", f"{job}_account.jsonl.gz"]
    events = [json.loads(line) for line in (await said(site, "job", "watch", job, "--json")).splitlines()]
    assert events[-1]["event"] == "end"
    assert events[-1]["state"] == "SUCCEEDED"
    assert "ACCOUNT" in await refused(site, "export", "ACCOUNT", code=2)


async def test_a_waiting_job_is_cancelled_followed_and_retried(open_site: Site, application: Application) -> None:
    site = open_site
    assert (await said(site, "pause")).startswith("paused since ")
    job = str(await site.fire())
    await shown_in_status(site, "0 running, 1 waiting", f"lake         {ORGANIZATION}         healthy")
    assert await said(site, "job", "cancel", job) == "cancelled\n"
    assert "CANCELLED" in await said(site, "job", "watch", job, code=1)
    retried = (await said(site, "job", "retry", job)).strip()
    assert await said(site, "resume") == "not paused\n"
    assert (await said(site, "job", "watch", retried)).splitlines()[-1] == "succeeded"
    await refused(site, "job", "retry", retried, code=1)


async def test_a_running_job_is_seen_with_its_progress(site: Site, application: Application) -> None:
    connection, keeper = application.connection, await site.database.connect()
    await connection.execute(statement_blocker.INSTALL)
    lake = destination("lake", site.destination())
    site.configure(BLOCKABLE_CATALOG, {"destination": [lake], "schedule": [schedule()]})
    await site.start()
    await site.succeeded(connection, await site.first_job(connection))
    await connection.execute("UPDATE public.accounts SET name = 'blocked' WHERE id = 7")
    async with statement_blocker.blocking(keeper) as closed:
        job = str(await site.fire())
        await closed.blocked_backend()
        async with connection.transaction():
            # What records a delivery waits here before it locks the job's row, so the progress can be written there.
            await connection.execute("LOCK TABLE exportd.delivery IN SHARE MODE")
            await keeper.execute("SELECT pg_advisory_unlock_all()")
            running = f"{job}  often of {ORGANIZATION}  publishing since "
            await shown_in_status(site, "1 running, 0 waiting", running, ": 3 of 3 entities, ")
    assert (await said(site, "job", "watch", job)).splitlines()[-1] == "succeeded"


async def test_the_daemon_itself(open_site: Site) -> None:
    site = open_site
    assert await said(site, "log-level", "debug") == "debug\n"
    assert await said(site, "log-level") == "debug\n"
    assert set((await document(site, "status"))["entities"]) == {"ACCOUNTS", "ORDERS", "COUNTRIES"}
    assert await site.daemons[-1].stop() == 0
    for command in (["status"], ["pause"], ["schedule", "show", "often"], ["export", "ACCOUNTS"]):
        assert "No daemon listens at" in await refused(site, *command, code=3)


async def test_a_user_of_the_socket_needs_neither_the_configuration_nor_the_database(
    open_site: Site, application: Application
) -> None:
    site = open_site
    site.config.write_text('[control]\nsocket = "control.sock"\n', encoding="utf-8")  # the rest cannot be read
    job = (await said(site, "schedule", "run", "often")).strip()
    assert (await said(site, "job", "watch", job)).splitlines()[-1] == "succeeded"
    listed = await document(site, "job", "list", "--schedule", "often")
    assert (listed[0]["id"], listed[0]["status"], listed[0]["deliveredTo"]) == (job, "SUCCEEDED", ["lake"])
    shown = await document(site, "job", "show", job)
    assert {**shown, "totals": listed[0]["totals"]}.items() >= listed[0].items()
    assert listed[0]["totals"]["rows"] == sum(entity["rows"] for entity in shown["entities"].values())
    assert re.search(rf"^job +{job}$", await said(site, "job", "show", job), re.MULTILINE)
    assert [schedule["code"] for schedule in await document(site, "schedule", "list")] == ["often"]
    assert len(await document(site, "schedule", "next", "often")) == 5
    assert [destination["code"] for destination in await document(site, "destination", "list")] == ["lake"]
    assert len(await document(site, "entity", "list")) == 3
    assert all(capture["whole"] for capture in await document(site, "capture", "status"))
    assert "ACCOUNTS: whole\n" in await said(site, "capture", "install")
    downloaded = await document(site, "download", job, "--to", str(site.folder / "downloaded"))
    assert (downloaded["files"], len(files_in(site.folder / "downloaded"))) == (3, 4)
    assert "1 files" in await said(site, "export", "ACCOUNTS", "--to", str(site.folder / "exported"))
    jobs = len(await document(site, "job", "list"))
    refusal = await refused(site, "export", "ACCOUNTS", "--to", str(site.config), code=1)
    assert f"Copying to {site.config} failed: Not a directory" in refusal
    assert len(await document(site, "job", "list")) == jobs, "the directory is tried before the export"

    # While a job is unfinished, another try is worth it, as it is through the other door.
    await said(site, "pause")
    waiting = (await said(site, "schedule", "run", "often")).strip()
    assert "JOB_UNFINISHED" in await refused(site, "schedule", "run", "often", code=3)
    assert "not finished yet" in await refused(site, "download", waiting, "--to", str(site.folder / "early"), code=1)
    assert files_in(site.folder / "early") == set()


async def test_without_a_daemon_the_database_gives_the_same_documents(
    open_site: Site, application: Application
) -> None:
    site = open_site
    job = (await document(site, "job", "list"))[0]["id"]
    await said(site, "schedule", "pause", "often")
    reading = (
        *(("job", "list"), ("job", "show", job), ("schedule", "list"), ("schedule", "next", "often")),
        *(("destination", "list"), ("entity", "list"), ("entity", "show", "ORDERS"), ("capture", "status")),
    )
    answers = [await document(site, *command) for command in reading]
    assert await site.daemons[-1].stop() == 0
    for command, answer in zip(reading, answers, strict=True):
        outcome = await site.quickly(*command, "--json")
        assert (outcome.returncode, json.loads(outcome.stdout)) == (0, _unlooked(answer)), command
        assert outcome.stderr == (
            f"exportd: no daemon listens at {site.folder / 'control.sock'}: the database was used directly\n"
        )
    assert "3 files" in await said(site, "download", job, "--to", str(site.folder / "downloaded"))
    await said(site, "schedule", "run", "often")
    assert "JOB_UNFINISHED" in await refused(site, "schedule", "run", "often", code=3)
    assert (await document(site, "capture", "uninstall", "ORDERS"))["removed"] == ["log_orders"]
    assert [capture["whole"] for capture in await document(site, "capture", "install", "ORDERS")] == [True]


def _unlooked(document: Any) -> Any:
    """The same without what only a running daemon knows: what it saw when it last looked at the entities' tables."""
    if isinstance(document, list):
        return [_unlooked(item) for item in document]
    if "lookedAt" not in document:
        return document
    assert document["lookedAt"] is not None
    return document | {"estimatedRows": None, "capture": None, "lookedAt": None}


async def test_a_deed_leaves_the_same_row_in_the_audit_log_through_either_door(
    open_site: Site, application: Application
) -> None:
    site = open_site

    async def deeds() -> list[tuple[str, str, str | None, str]]:
        """What is done, once, and what the audit log says of it."""
        last = await application.connection.fetchval("SELECT coalesce(max(id), 0) FROM exportd.audit")
        job = (await said(site, "schedule", "run", "often")).strip()
        await said(site, "capture", "install", "ORDERS")
        await said(site, "capture", "uninstall", "ORDERS")
        rows = await application.connection.fetch("SELECT * FROM exportd.audit WHERE id > $1 ORDER BY id", last)
        return [
            (row["actor"], row["action"], row["organization"], row["details"].replace(job, "the job")) for row in rows
        ]

    through_the_daemon = await deeds()
    job = (await document(site, "job", "list"))[0]["id"]
    await site.succeeded(application.connection, job)
    assert await site.daemons[-1].stop() == 0
    assert await deeds() == through_the_daemon
    assert [action for _, action, *_ in through_the_daemon] == [
        *("schedule run", "capture installed", "capture uninstalled"),
    ]


async def test_what_can_be_exported_and_what_is_configured(open_site: Site) -> None:
    site = open_site
    accounts = await document(site, "entity", "show", "ACCOUNTS")
    assert [account["name"] for account in accounts["fields"]] == ["id", "name", "balance", "note"]
    assert "balance" in await said(site, "entity", "show", "ACCOUNTS")
    assert (await said(site, "entity", "list", "--mermaid")).startswith("erDiagram\n    ACCOUNTS {")
    assert "no entity ACCOUNT;" in await refused(site, "entity", "show", "ACCOUNT", code=1)
    shown = await document(site, "config", "show")
    assert shown["schedule"][0]["code"] == "often"
    assert 'schedule[0].code = "often"' in await said(site, "config", "show")
    schema = json.loads((await site.without_configuration("config", "schema")).stdout)
    assert "spool" in schema["properties"]


async def test_a_password_is_not_shown(site: Site) -> None:
    site.configure(CATALOG, {"database": {"dsn": "postgresql://exportd:geheim@db.example.com/shop"}})
    for words in (["config", "show"], ["config", "show", "--json"]):
        shown = await said(site, *words)
        assert "geheim" not in shown
        assert "postgresql://exportd:***@db.example.com/shop" in shown


async def test_what_is_missing_or_ambiguous_is_said(open_site: Site) -> None:
    site = open_site
    problems = await refused(site, "schedule", "create", "--period", "2", code=2)
    assert problems.splitlines() == [
        "exportd: CODE is missing",
        "exportd: --entities is missing",
        "exportd: --every, or --cron, is missing",
    ]
    assert "nothing to change" in await refused(site, "schedule", "edit", "often", code=2)
    await refused(site, "schedule", "edit", "often", "--cron", "0 * * * *", code=1)
    await said(site, "destination", "create", "theirs", *S3_BUCKET, "--organization", "org-2")
    ambiguous = await refused(site, "schedule", "show", "often", code=2)
    assert f"({ORGANIZATION}, org-2): say --organization" in ambiguous
    assert "often" in await said(site, "schedule", "show", "often", "--organization", ORGANIZATION)
