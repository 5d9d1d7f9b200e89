"""Whatever is wrong is said in a sentence, with the place where it is, and with an exit code that means something."""

import json
import re
from collections.abc import Mapping

import pytest

from tests.acceptance.declarations import destination, schedule
from tests.acceptance.sample_application import CATALOG, Application
from tests.fixtures.daemon import Section, Site

DONE, FAILED, USAGE, TRY_AGAIN = 0, 1, 2, 3


def sections(site: Site, **others: Section) -> dict[str, Section]:
    return {"destination": [destination("lake", site.destination())], "schedule": [schedule()], **others}


async def refused(site: Site, *arguments: str, code: int) -> list[str]:
    """The sentences with which a command ends."""
    outcome = await site.quickly(*arguments)
    assert outcome.returncode == code, outcome.stdout + outcome.stderr
    assert "Traceback" not in outcome.stdout + outcome.stderr
    lines = [line for line in outcome.stderr.splitlines() if not line.startswith("{")]  # what it logged before
    assert all(line.startswith("exportd: ") for line in lines), outcome.stderr
    return [line.removeprefix("exportd: ") for line in lines]


def changed(**rule: object) -> Mapping[str, object]:
    """The usual schedule, with other keys; None takes one out."""
    return {key: value for key, value in {**schedule(), **rule}.items() if value is not None}


@pytest.mark.parametrize(
    ("wrong", "key", "sentence"),
    [
        ({"schedule": [changed(unit="MINUTE", period=14)]}, "period", "15 minutes"),
        ({"schedule": [changed(period=4)]}, "period", "3 days"),
        ({"schedule": [changed(unit="MINUTE", period=30, offset=5)]}, "offset", "MINUTE"),
        ({"schedule": [changed(unit=None, period=None, cron="0 0 1 * *")]}, "cron", r"\d{4}-\d\d-\d\d .*3 days"),
        ({"schedule": [changed(unit=None, period=None, cron="0 0 12 * * *")]}, "cron", "five fields"),
        ({"schedule": [changed(unit=None, period=None, cron="*/10 * * * *")]}, "cron", "15 minutes"),
        ({"schedule": [changed(cron="0 2 * * *")]}, "", "cron"),
        ({"schedule": [changed(entities=["ACOUNTS"])]}, "entities", "ACCOUNTS"),
        ({"schedule": [changed(), changed()]}, "code", "often"),
        ({"schedule": [changed(destinations=["lakes"])]}, "destinations", '"?lake"?'),
        ({"schedule": [changed(format="PARQUET")]}, "format", "CSV"),
        ({"limits": {"job": 3}}, "job", "jobs"),
        ({"database": {"dns": "postgresql:///x"}}, "dns", "dsn"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_mistake_in_the_configuration_is_named_with_its_line(
    site: Site, wrong: dict[str, Section], key: str, sentence: str
) -> None:
    site.configure(CATALOG, {**sections(site), **wrong})
    said = await refused(site, "check", code=USAGE)
    place = re.compile(rf"{re.escape(str(site.config))}:(\d+): ")
    lines = site.config.read_text().splitlines()
    assert all(place.match(problem) for problem in said)
    matching = [problem for problem in said if re.search(sentence, problem)]
    assert matching, said
    line = place.match(matching[0])
    assert line is not None
    assert key in lines[int(line[1]) - 1]


async def test_all_mistakes_of_configuration_and_catalog_come_at_once(site: Site) -> None:
    site.configure(
        CATALOG.replace('key = ["code"]', 'kye = ["code"]'),
        sections(site, schedule=[changed(period=4), changed(code="other", entities=["NOTHING"])]),
    )
    said = await refused(site, "run", code=USAGE)
    assert any(sentence.startswith(f"{site.catalog}:") and "key" in sentence for sentence in said)
    assert any(sentence.startswith(f"{site.config}:") and "3 days" in sentence for sentence in said)


async def test_a_database_that_does_not_answer_is_worth_another_try(site: Site) -> None:
    nowhere = site.folder / "no-server"
    site.dsn = f"postgresql://postgres:hunter2@/shop?host={nowhere}"
    site.configure(CATALOG, sections(site))
    (sentence,) = await refused(site, "check", code=TRY_AGAIN)
    assert str(nowhere) in sentence
    assert "hunter2" not in sentence


async def waits(site: Site) -> str:
    """Why a daemon waits for its database when it starts. It goes on waiting, until the test ends it."""
    daemon = site.fork()
    event = await daemon.wait_for_event("waiting for the database", times=2)
    assert daemon.process.poll() is None
    assert "hunter2" not in daemon.text
    daemon.end_at_once()
    return f"{event['error']} [{event['reason']}]"


async def test_a_start_waits_for_a_database_that_does_not_answer(site: Site, application: Application) -> None:
    nowhere, dsn = site.folder / "no-server", site.dsn
    site.dsn = f"postgresql://postgres:hunter2@/shop?host={nowhere}"
    site.configure(CATALOG, sections(site))
    daemon = site.fork()
    event = await daemon.wait_for_event("waiting for the database")
    assert str(nowhere) in event["error"]
    assert event["reason"] == "DATABASE_UNREACHABLE"
    # The file is read again before each attempt, as another start would.
    site.dsn = dsn
    site.configure(CATALOG, sections(site))
    await daemon.wait_for_event("daemon ready")
    await site.succeeded(application.connection, await site.first_job(application.connection))
    assert "hunter2" not in daemon.text
    assert await daemon.stop() == 0


async def test_a_start_that_waits_ends_when_the_file_becomes_wrong(site: Site) -> None:
    site.dsn = f"postgresql:///shop?host={site.folder / 'no-server'}"
    site.configure(CATALOG, sections(site))
    daemon = site.fork()
    await daemon.wait_for_event("waiting for the database")
    site.configure(CATALOG, sections(site, limits={"job": 3}))
    assert await daemon.ended() == USAGE


async def test_a_database_that_refuses_says_why(site: Site, application: Application) -> None:
    await application.connection.execute("DROP ROLE IF EXISTS test_locked_out")
    await application.connection.execute("CREATE ROLE test_locked_out NOLOGIN")
    server = site.database.server
    try:
        for dsn, words in (
            (server.dsn("nothing_here"), ("nothing_here", "does not exist")),
            (server.dsn(site.database.name, user="test_locked_out"), ("test_locked_out", "log in")),
            (server.dsn(site.database.name, user="no_such_role"), ("no_such_role", "does not exist")),
        ):
            site.dsn = dsn
            site.configure(CATALOG, sections(site))
            (sentence,) = await refused(site, "check", code=FAILED)
            assert all(word in sentence for word in words), sentence
            sentence = await waits(site)
            assert all(word in sentence for word in words), sentence
            assert sentence.endswith("[DATABASE_REFUSED]")
    finally:
        await application.connection.execute("DROP ROLE test_locked_out")


async def test_missing_privileges_are_named_one_after_the_other(site: Site, application: Application) -> None:
    """From no right at all to just enough: each refusal says what to grant next."""
    connection, name = application.connection, site.database.name
    await connection.execute("DROP ROLE IF EXISTS test_exporter")
    await connection.execute("CREATE ROLE test_exporter LOGIN")
    site.dsn = site.database.server.dsn(name, user="test_exporter")
    site.configure(CATALOG, sections(site))
    try:
        daemon = site.fork()
        event = await daemon.wait_for_event("waiting for the database")
        assert "permission denied for database" in event["error"]
        assert event["reason"] == "PRIVILEGE_MISSING"

        await connection.execute(f"GRANT CREATE ON DATABASE {name} TO test_exporter")
        await daemon.wait_for_event("daemon ready")
        row = await site.finished(connection, await site.first_job(connection))
        assert (row["state"], row["reason"]) == ("FAILED", "ENTITY_OUT_OF_ORDER")
        said = [event["error"] for event in daemon.events_named("entity out of order")]
        assert {re.sub(r":\d+", "", problem.split(": ")[0]) for problem in said} == {str(site.catalog)}
        assert len(said) == 3
        for problem in said:
            await connection.execute(problem[problem.index("GRANT SELECT ON ") :])

        row = await site.finished(connection, await site.fire())
        assert (row["state"], row["reason"]) == ("FAILED", "PRIVILEGE_MISSING")
        assert "accounts" in row["message"]

        for table in ("accounts", "orders", "countries"):
            await connection.execute(f"GRANT TRIGGER ON public.{table} TO test_exporter")
        for table in ("accounts", "orders", "countries"):
            await connection.execute(f"ALTER TABLE public.{table} OWNER TO test_exporter")
        await site.succeeded(connection, await site.fire())
        assert await daemon.stop() == 0
        await site.assert_clean()
    finally:
        await connection.execute("REASSIGN OWNED BY test_exporter TO postgres")
        await connection.execute("DROP OWNED BY test_exporter")
        await connection.execute("DROP ROLE test_exporter")


async def test_check_says_what_to_fix(site: Site, application: Application) -> None:
    lake = site.destination()
    lake.rmdir()
    (site.folder / "spool").touch()
    await application.connection.execute("ALTER TABLE public.orders DROP COLUMN paid")
    site.configure(CATALOG, {"destination": [destination("lake", lake)], "schedule": [schedule()]})
    outcome = await site.quickly("check")
    assert outcome.returncode == FAILED, outcome.stderr
    fixes = [line.removeprefix("fix").strip() for line in outcome.stdout.splitlines() if line.startswith("fix")]
    assert any(re.match(rf"{re.escape(str(site.catalog))}:\d+: .*paid", fix) for fix in fixes), fixes
    assert any(str(lake) in fix and "does not exist" in fix for fix in fixes), fixes
    assert any(str(site.spool) in fix and "not a directory" in fix for fix in fixes), fixes
    assert outcome.stderr == ""

    (site.folder / "spool").unlink()
    daemon = site.fork()
    event = await daemon.wait_for_event("entity out of order", entity="ORDERS")
    assert "paid" in event["error"]
    await daemon.wait_for_event("daemon ready")
    assert await daemon.stop() == 0


async def test_a_spool_that_cannot_be_is_refused(site: Site, application: Application) -> None:
    site.spool.touch()
    site.configure(CATALOG, sections(site))
    (sentence,) = await refused(site, "run", code=FAILED)
    assert str(site.spool) in sentence


@pytest.mark.parametrize("arguments", [("job", "show", "nonsense"), ("schedule", "run", "nothing")], ids=str)
async def test_what_is_not_there_cannot_be_shown(
    site: Site, application: Application, arguments: tuple[str, ...]
) -> None:
    site.configure(CATALOG, sections(site))
    (sentence,) = await refused(site, *arguments, code=FAILED)
    assert "exportd run" in sentence, "there are no tables yet"
    daemon = site.fork()
    await daemon.wait_for_event("daemon ready")
    (sentence,) = await refused(site, *arguments, code=FAILED)
    assert "NOT_FOUND" in sentence
    assert await daemon.stop() == 0


async def test_a_command_that_does_not_exist_is_refused(site: Site) -> None:
    site.configure(CATALOG, sections(site))
    for arguments in (("jobs",), ("job", "list", "--limt", "3"), ("job", "list", "--limit", "many"), ("download",)):
        outcome = await site.quickly(*arguments)
        assert outcome.returncode in {FAILED, USAGE}, arguments
        assert "Traceback" not in outcome.stderr


async def test_a_configuration_that_is_not_there_is_named(site: Site) -> None:
    for arguments in (("run",), ("check",), ("job", "list"), ("capture", "status")):
        (sentence,) = await refused(site, *arguments, code=USAGE)
        assert sentence == f"{site.config}: there is no such file; check the path"


@pytest.mark.parametrize(
    ("control", "sentence"),
    [
        ({"signing_key_file": "no.key"}, "control.signing_key_file: the file .*no.key cannot be read: No such file"),
        ({"signing_key_file": "short.key"}, "control.signing_key_file: .*short.key has 5 bytes; .*at least 32"),
        ({"operators": ["no-such-group"]}, "control: this machine has no group 'no-such-group'"),
        ({"socket": "a-file"}, "control.socket: .*a-file cannot be made: .*something else than a socket"),
        ({"socket": "x" * 200}, "control.socket: .*cannot be made: "),
    ],
    ids=["no key", "short key", "group", "no socket", "long path"],
)
async def test_a_control_section_that_cannot_be_kept_ends_the_daemon_with_a_sentence(
    site: Site, application: Application, control: Mapping[str, object], sentence: str
) -> None:
    (site.folder / "short.key").write_bytes(b"12345")
    (site.folder / "short.key").chmod(0o600)
    (site.folder / "a-file").touch()
    site.configure(CATALOG, sections(site, control={"socket": "control.sock", **control}))
    (said,) = await refused(site, "run", code=USAGE)
    assert re.search(sentence, said), said
    assert (site.folder / "a-file").is_file()


async def test_check_finds_a_group_that_is_not_there(site: Site, application: Application) -> None:
    site.configure(CATALOG, sections(site, control={"socket": "control.sock", "admins": ["no-such-group"]}))
    outcome = await site.quickly("check")
    assert outcome.returncode == FAILED
    assert "fix    control: this machine has no group 'no-such-group'" in outcome.stdout
    outcome = await site.quickly("check", "--json")
    assert outcome.returncode == FAILED
    lines = json.loads(outcome.stdout)
    assert [line["kind"] for line in lines[:2]] == ["ok", "ok"]
    fixes = [line["sentence"] for line in lines if line["kind"] == "fix"]
    assert any(fix.startswith("control: this machine has no group 'no-such-group'") for fix in fixes)
