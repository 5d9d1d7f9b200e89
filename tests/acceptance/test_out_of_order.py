"""An application changes one of its tables in a way that exports cannot follow: that entity waits, all others go on."""

import json
from typing import Any

import pytest

from tests.acceptance.declarations import destination, schedule
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.sample_application import CATALOG, Application
from tests.fixtures.daemon import Daemon, Site, until

OTHERS = ["COUNTRIES"]

# The accounts' entity leaves its fields to the database: what it exports is known only when the table is there.
OPEN_CATALOG = CATALOG.replace('fields = ["id", "name", "balance", "note"]\n', "")


def configure(site: Site, catalog: str) -> None:
    site.configure(
        catalog,
        {
            "destination": [destination("lake", site.destination())],
            "schedule": [schedule("accounts", entities=["ACCOUNTS"]), schedule("others", entities=OTHERS)],
        },
    )


async def status(site: Site) -> dict[str, Any]:
    outcome = await site.quickly("status", "--json")
    assert outcome.returncode == 0, outcome.stderr
    found: dict[str, Any] = json.loads(outcome.stdout)
    return found


async def assert_out_of_order(site: Site, application: Application, word: str) -> None:
    """The accounts fail with their own reason and say why; the others succeed."""
    connection = application.connection
    row = await site.finished(connection, await site.fire("accounts"))
    assert (row["state"], row["reason"]) == ("FAILED", "ENTITY_OUT_OF_ORDER"), row["message"]
    assert word in row["message"]
    await site.succeeded(connection, await site.fire("others"))
    assert word in (await status(site))["entities"]["ACCOUNTS"]["outOfOrder"]


DAMAGES = {
    "unlogged": (
        "ALTER TABLE public.orders DROP CONSTRAINT orders_account_id_fkey; ALTER TABLE public.accounts SET UNLOGGED",
        "ALTER TABLE public.accounts SET LOGGED",
        "unlogged",
    ),
    "without its key": (
        "ALTER TABLE public.accounts DROP CONSTRAINT accounts_pkey CASCADE",
        "ALTER TABLE public.accounts ADD PRIMARY KEY (id)",
        "id",
    ),
    "without a column": (
        "ALTER TABLE public.accounts RENAME COLUMN organization_id TO owner",
        "ALTER TABLE public.accounts RENAME COLUMN owner TO organization_id",
        "organization_id",
    ),
    "renamed": (
        "ALTER TABLE public.accounts RENAME TO customers",
        "ALTER TABLE public.customers RENAME TO accounts",
        "public.accounts",
    ),
    "in another schema": (
        "CREATE SCHEMA attic; ALTER TABLE public.accounts SET SCHEMA attic",
        "ALTER TABLE attic.accounts SET SCHEMA public",
        "public.accounts",
    ),
    "dropped": (
        "DROP TABLE public.accounts CASCADE",
        "CREATE TABLE public.accounts (id bigint PRIMARY KEY, organization_id text NOT NULL, name text,"
        " balance numeric(12, 2), note text, added text)",
        "public.accounts",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("catalog", [CATALOG, OPEN_CATALOG], ids=["declared fields", "open fields"])
async def test_a_table_that_does_not_fit_stops_its_own_schedules_only(
    site: Site, application: Application, catalog: str
) -> None:
    connection = application.connection
    configure(site, catalog)
    for name, (damage, repair, word) in DAMAGES.items():
        await connection.execute(damage)
        daemon = await site.start()
        assert daemon.events_named("entity out of order", entity="ACCOUNTS"), name
        for code in ("accounts", "others"):
            await site.finished(connection, await site.first_job(connection, code))
        await assert_out_of_order(site, application, word)
        shown = await site.quickly("status")
        assert "ACCOUNTS is out of order" in shown.stdout
        checked = await site.quickly("check")
        assert checked.returncode == 1
        assert word in checked.stdout

        # A reload of other things is not refused for it.
        outcome = await site.quickly("reload")
        assert outcome.returncode == 0, (name, outcome.stderr)
        await assert_out_of_order(site, application, word)

        await connection.execute(repair)
        await site.succeeded(connection, await site.fire("accounts"))
        await daemon.wait_for_event("entity in order again", entity="ACCOUNTS")
        found = await status(site)
        assert found["entities"]["ACCOUNTS"]["outOfOrder"] is None, name
        assert found["disagreements"] == []
        assert "Traceback" not in daemon.text
        assert await daemon.stop() == 0
    DeliveredFiles.of(site.destination()).assert_whole()
    await site.assert_clean(site.destination())


async def test_a_running_daemon_notices_by_itself_and_follows_when_the_table_has_other_columns(
    site: Site, application: Application
) -> None:
    connection = application.connection
    configure(site, OPEN_CATALOG)
    daemon = await site.start()
    await site.succeeded(connection, await site.first_job(connection, "accounts"))
    await connection.execute("ALTER TABLE public.accounts DROP CONSTRAINT accounts_pkey CASCADE")
    await site.succeeded(connection, await site.first_job(connection, "others"))
    event = await daemon.wait_for_event("entity out of order", entity="ACCOUNTS")
    assert "nothing makes id unique" in event["error"]
    await assert_out_of_order(site, application, "id")
    await connection.execute("ALTER TABLE public.accounts ADD PRIMARY KEY (id)")
    await daemon.wait_for_event("entity in order again", entity="ACCOUNTS")

    # An entity that leaves its fields open follows a column that is gone.
    await connection.execute("ALTER TABLE public.accounts DROP COLUMN note")

    async def followed() -> bool:
        row = await site.finished(connection, await site.fire("accounts"))
        return bool(row["state"] == "SUCCEEDED")

    await until(followed, what="a run without the column")
    assert await daemon.stop() == 0


async def test_a_mistake_in_the_new_file_is_still_refused(site: Site, application: Application) -> None:
    configure(site, CATALOG)
    daemon: Daemon = await site.start()
    configure(site, CATALOG.replace("public.orders", "public.ordres"))
    outcome = await site.quickly("reload")
    assert outcome.returncode == 2
    assert "public.ordres" in outcome.stderr
    assert await daemon.stop() == 0
