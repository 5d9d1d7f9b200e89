"""Credentials of programs are made and withdrawn on the command line, which speaks its own words."""

import json

import pytest

from tests.acceptance.declarations import destination, schedule
from tests.acceptance.sample_application import CATALOG
from tests.fixtures.daemon import Site


@pytest.mark.usefixtures("application")
async def test_credentials_are_made_listed_and_withdrawn(site: Site) -> None:
    site.configure(CATALOG, {"destination": [destination("lake", site.destination())], "schedule": [schedule()]})
    daemon = await site.start()
    made = await site.quickly("client", "create", "warehouse loader", "--role", "reader", "--json")
    assert made.returncode == 0, made.stderr
    client = json.loads(made.stdout)
    assert (client["name"], client["role"]) == ("warehouse loader", "reader")

    listed = await site.quickly("client", "list")
    assert "warehouse loader" in listed.stdout
    assert "active" in listed.stdout
    assert client["apiSecret"] not in listed.stdout
    withdrawn = await site.quickly("client", "delete", client["id"])
    assert withdrawn.returncode == 0, withdrawn.stderr
    assert "withdrew the credentials of warehouse loader" in withdrawn.stdout
    assert "withdrawn" in (await site.quickly("client", "list")).stdout

    shown = (await site.quickly("client", "create", "other")).stdout
    assert "secret" in shown
    assert "this one time" in shown

    made = await site.quickly("schedule", "create", "quarter", "--entities", "ORDERS", "--every", "15m")
    assert "every 15 minutes" in made.stdout, made.stderr

    # As much of a job's id as a narrow table shows is enough.
    (job,) = json.loads((await site.quickly("job", "list", "--schedule", "often", "--json")).stdout)
    found = await site.quickly("job", "show", job["id"][:8])
    assert job["id"] in found.stdout, found.stderr
    assert (await site.quickly("job", "watch", job["id"][:8])).returncode == 0
    assert (await site.quickly("job", "watch", "nothing")).returncode == 2
    assert (await site.quickly("job", "show", "00000000")).returncode == 1
    assert await daemon.stop() == 0


@pytest.mark.usefixtures("application")
async def test_the_command_line_speaks_its_own_words(site: Site) -> None:
    site.configure(CATALOG, {})
    nothing = await site.quickly("export")
    assert nothing.returncode == 2
    assert nothing.stderr == "exportd: name at least one ENTITY to export; `exportd entity list` shows them\n"
    for instant in ("yesterday", "2026-01-31", "2026-01-31T00:00:00"):
        undated = await site.quickly("export", "ACCOUNTS", "--start-date", instant)
        assert undated.returncode == 2
        assert undated.stderr == (
            f"exportd: --start-date: {instant!r} is no date and time with its zone: write it as 2026-01-31T00:00:00Z\n"
        )
    for limit in ("-1", "0", "1001"):
        assert (await site.quickly("job", "list", "--limit", limit)).returncode == 2
