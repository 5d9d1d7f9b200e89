"""The database's password is nowhere but where an administrator put it."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import anyio.to_thread
import pytest

from tests.acceptance.declarations import destination, schedule
from tests.acceptance.sample_application import CATALOG, Application
from tests.fixtures.daemon import Site, files_in

PASSWORD = "s3cr3t-pässw0rd/€"
WRITTEN = "s3cr3t-p%C3%A4ssw0rd%2F%E2%82%AC"
ROLE = "test_with_password"


@pytest.fixture
async def password_is_asked_for(application: Application) -> AsyncIterator[None]:
    """A role of the session's server, for whom its other authentication does not hold."""
    connection = application.connection
    rules = Path(await connection.fetchval("SHOW hba_file"))
    before = await anyio.to_thread.run_sync(rules.read_text)
    await connection.execute(f"CREATE ROLE {ROLE} SUPERUSER LOGIN PASSWORD '{PASSWORD}'")
    await anyio.to_thread.run_sync(rules.write_text, f"local all {ROLE} scram-sha-256\n{before}")
    try:
        await connection.execute("SELECT pg_reload_conf()")
        yield
    finally:
        await anyio.to_thread.run_sync(rules.write_text, before)
        await connection.execute("SELECT pg_reload_conf()")
        await connection.execute(f"REASSIGN OWNED BY {ROLE} TO postgres")
        await connection.execute(f"DROP OWNED BY {ROLE}")
        await connection.execute(f"DROP ROLE {ROLE}")


@pytest.mark.slow
@pytest.mark.usefixtures("password_is_asked_for")
async def test_the_password_stays_where_it_was_put(site: Site, application: Application) -> None:
    """A success, a failure and a refusal, all looked through."""
    connection, lake = application.connection, site.destination()
    dsn_file = site.folder / "dsn"
    dsn = site.database.dsn.replace("postgres@", f"{ROLE}:{WRITTEN}@")
    site.configure(
        CATALOG, {"destination": [destination("lake", lake)], "schedule": [schedule()], "log": {"level": "debug"}}
    )
    site.config.write_text(
        re.sub(r"^dsn = .*$", f"dsn_file = {json.dumps(str(dsn_file))}", site.config.read_text(), flags=re.MULTILINE)
    )
    dsn_file.write_text(dsn.replace(WRITTEN, "wrong-" + WRITTEN))
    refusal = await site.quickly("check")
    assert refusal.returncode == 1
    assert "password authentication failed" in refusal.stderr
    daemon = site.launch()
    event = await daemon.wait_for_event("waiting for the database")
    assert "password authentication failed" in event["error"]
    dsn_file.write_text(dsn)
    await daemon.wait_for_event("daemon ready")
    await site.succeeded(connection, await site.first_job(connection))
    await connection.execute("ALTER TABLE public.countries RENAME TO lands")
    assert (await site.finished(connection, await site.fire()))["state"] == "FAILED"
    outputs = [refusal.stdout, refusal.stderr]
    for command in (("check",), ("job", "list", "--json"), ("capture", "status"), ("schedule", "list")):
        outcome = await site.quickly(*command)
        outputs += [outcome.stdout, outcome.stderr]
    outputs += [seen_of_process(daemon.process.pid, file) for file in ("cmdline", "environ")]
    rows = await connection.fetch("SELECT row_to_json(j)::text AS row FROM exportd.job AS j")
    activity = await connection.fetch("SELECT row_to_json(a)::text AS row FROM pg_stat_activity AS a")
    outputs += [row["row"] for row in (*rows, *activity)]
    assert await daemon.stop() == 0
    outputs.append(daemon.text)
    outputs += [path.read_bytes().decode(errors="replace") for path in files_in(site.spool, lake)]
    for output in outputs:
        assert not re.search("s3cr3t|p%C3%A4ss|pässw0rd", output)
    await site.assert_clean(lake)


def seen_of_process(pid: int, what: str) -> str:
    """What others see of a process."""
    return Path(f"/proc/{pid}/{what}").read_text(errors="replace")
