"""docs/capture.sql is what a database administrator gets for one table, word for word, and it runs.

``make docs`` writes the page again: it sets EXPORTD_WRITE_DOCUMENTS, and this test then writes instead of comparing.
"""

import os
from pathlib import Path

from exportd.database.connector import Connector
from exportd.database.migrator import migrate
from tests.fixtures.daemon import Site

PAGE = Path(__file__).parents[2] / "docs" / "capture.sql"

TABLE = """\
CREATE TABLE public.accounts (
    id uuid PRIMARY KEY,
    organization_id text NOT NULL,
    name text,
    created_at timestamptz NOT NULL DEFAULT now()
)"""

CATALOG = """\
[[entity]]
code = "ACCOUNTS"
label = "Accounts"
type_token = "account"
table = "public.accounts"
key = ["id"]
tenant = "organization_id"
"""

ROLE = "exportd"


def page(printed: str) -> str:
    """The page: what it shows, then what was printed."""
    shown = "\n".join(f"--     {line}".rstrip() for line in [*f"{TABLE};".splitlines(), "", *CATALOG.splitlines()])
    return (
        "-- What exportd installs to capture the changes of one table: a change log, functions and triggers.\n"
        "-- `exportd capture install --dry-run` prints it for a database administrator. This page is made by\n"
        "-- `make docs`; do not edit it by hand. exportd/capture/triggers.py says why each statement is as it is.\n"
        "--\n"
        f"-- The table, and its item in the catalog:\n--\n{shown}\n\n{printed}"
    )


async def test_the_sample_is_what_the_command_prints_and_it_runs(site: Site) -> None:
    administrator = await site.database.connect()
    await administrator.execute(TABLE)
    site.dsn = site.database.server.dsn(site.database.name, user=ROLE)
    site.configure(CATALOG, {})
    await administrator.execute((await site.quickly("role", "sql")).stdout)
    async with Connector(site.dsn).connection("test") as connection:
        await migrate(connection)

    printed = await site.quickly("capture", "install", "--dry-run")
    assert printed.returncode == 0, printed.stderr
    if os.environ.get("EXPORTD_WRITE_DOCUMENTS") == "1":
        PAGE.write_text(page(printed.stdout), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page(printed.stdout), "run: make docs"

    await administrator.execute(PAGE.read_text(encoding="utf-8"))
    status = await site.quickly("capture", "status")
    assert status.returncode == 0, status.stdout
