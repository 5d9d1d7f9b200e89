"""A person sits there: questions, and progress that is drawn."""

import json
from pathlib import Path
from uuid import UUID

import pytest

from tests.acceptance.declarations import destination, schedule
from tests.acceptance.sample_application import CATALOG, Application
from tests.fixtures.daemon import Site
from tests.fixtures.terminal import terminal


@pytest.fixture
async def lake(site: Site, application: Application) -> Path:
    """A directory to which a daemon delivers; its first run has succeeded."""
    lake = site.destination()
    site.configure(CATALOG, {"destination": [destination("lake", lake)], "schedule": [schedule()]})
    await site.start()
    await site.succeeded(application.connection, await site.first_job(application.connection))
    return lake


async def test_a_schedule_is_asked_for_step_by_step(site: Site, lake: Path) -> None:
    with terminal(site, "schedule", "create", "--format", "JSONL") as screen:
        await screen.answer("Code, a short name:", "")
        await screen.answer("This has to be an answer.", "nightly")
        await screen.answer("Entities: ACCOUNTS, ORDERS, COUNTRIES", "ACCOUNTS, ACCOUNT")
        await screen.answer("The catalog has no ACCOUNT.", "ACCOUNTS, ORDERS")
        await screen.answer("Destinations: lake", "lake")
        # Too often is said at once, and asked for again.
        await screen.answer("How often", "cron")
        await screen.answer("Cron expression", "*/5 * * * *")
        await screen.shows("fires too soon")
        await screen.answer("How often", "DAY")
        await screen.answer("Every how many days [1]", "")
        await screen.answer("Hours into the day, 0 for none [0]", "3")
        await screen.shows("nightly: every day, at 03:00, 2 entities. Its next runs:")
        await screen.answer("Save it (yes, no) [yes]:", "")
        await screen.shows("nightly of org-1")
        assert await screen.ended() == 0
    shown = screen.screen
    runs = shown[shown.index("Its next runs:") : shown.index("Save it")].splitlines()[1:]
    assert len([run for run in runs if run.strip()]) == 5
    assert all(run.endswith("03:00:00Z") for run in runs[1:5])
    made = json.loads((await site.quickly("schedule", "show", "nightly", "--json")).stdout)
    assert made["operationalDataTypes"] == ["ACCOUNTS", "ORDERS"]
    assert (made["scheduleType"], made["period"], made["offset"]) == ("DAY", 1, 3)
    assert (made["exportFileFormat"], len(made["destinationIds"])) == ("JSONL", 1)


async def test_what_is_not_to_be_saved_is_not(site: Site, lake: Path) -> None:
    with terminal(site, "schedule", "create", "nightly", "--entities", "ACCOUNTS", "--cron", "5 3 * * *") as screen:
        # Nothing is missing, so nothing is asked.
        assert await screen.ended() == 0
    with terminal(site, "schedule", "create", "other", "--cron", "5 3 * * *") as screen:
        await screen.answer("Which entities", "ALL")
        await screen.answer("Which destinations", "")
        await screen.answer("Format of the files", "")
        await screen.answer("Save it", "no")
        await screen.shows("Nothing was saved.")
        assert await screen.ended() == 1
    codes = [load["code"] for load in json.loads((await site.quickly("schedule", "list", "--json")).stdout)]
    assert sorted(codes) == ["nightly", "often"]


async def test_a_job_is_followed_and_its_files_are_copied_with_progress(site: Site, lake: Path) -> None:
    to = site.folder / "copied"
    with terminal(site, "export", "ACCOUNTS", "ORDERS", "--to", str(to)) as screen:
        await screen.shows("succeeded")
        await screen.shows("copying")
        await screen.shows("2 files")
        assert await screen.ended() == 0
    assert len([path for path in to.rglob("*") if path.is_file()]) == 3


async def test_a_status_is_looked_at_again_until_it_is_interrupted(site: Site, lake: Path) -> None:
    with terminal(site, "status", "--watch") as screen:
        await screen.shows("services")
        await site.quickly("schedule", "pause", "often")
        await screen.shows("1, 1 paused")
        await screen.interrupt()
        assert await screen.ended() == 130


async def test_no_table_breaks_a_word_at_80_columns(site: Site, application: Application) -> None:
    """Organizations are UUIDs. No line of a list is longer than the terminal."""
    organizations = [str(UUID(int=number << 96)) for number in (7, 8)]
    short = [organization[:8] for organization in organizations]
    await application.connection.execute("INSERT INTO public.accounts VALUES (-99, $1)", organizations[0])
    site.configure(
        CATALOG,
        {
            "destination": [
                destination("lake-of-the-warehouse", site.destination(), organization=organization)
                for organization in organizations
            ],
            "schedule": [
                schedule("everything", organization=organization, destinations=["lake-of-the-warehouse"])
                for organization in organizations
            ],
        },
    )
    await site.start()
    job = await site.first_job(application.connection, "everything")
    await site.succeeded(application.connection, job)
    of = ("--organization", organizations[0])
    for words, shown in (
        (("status",), ["ACCOUNTS", "COUNTRIES", "lake-of-the-warehouse", *short]),
        (("job", "list"), ["everything", str(job)[:8], "SUCCEEDED", *short]),
        (("job", "show", str(job)), ["ACCOUNTS", str(job), "SUCCEEDED", "FIRST_RUN"]),
        (("schedule", "list"), ["everything", "lake-of-the-warehouse", *short]),
        (("destination", "list"), ["lake-of-the-warehouse", *short]),
        (("preview", "everything", *of), ["ACCOUNTS", "COUNTRIES", "incremental"]),
        (("entity", "list"), ["ACCOUNTS", "public.accounts"]),
        (("capture", "status"), ["ACCOUNTS", "COUNTRIES"]),
    ):
        with terminal(site, *words, columns=80) as screen:
            assert await screen.ended() == 0, screen.screen
        if words[-1] == "list":  # which is nothing but a table
            assert max(map(len, screen.screen.splitlines())) <= 80, words
        assert [word for word in shown if word not in screen.screen] == [], (words, screen.screen)
