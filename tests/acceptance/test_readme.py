"""A newcomer's first hour: the README's commands pasted one by one against a database of theirs, and their mistakes."""

import gzip
import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import fields
from pathlib import Path
from sys import executable
from tempfile import TemporaryDirectory

import pytest

from exportd.manifest.document import (
    Manifest,
    ManifestEntity,
    ManifestPart,
    ManifestSchedule,
    ManifestWindow,
    Predecessor,
)
from tests.fixtures.daemon import until
from tests.fixtures.postgres import Database
from tests.fixtures.readme import ORDINARY_USER, README, Outcome, Shell, commands

DSN = "postgresql://you:secret@localhost:5432/shop"
DRAFT = "exportd catalog draft > entities.toml"
DRAFT_WITH_TENANTS = "exportd catalog draft --tenant-column organization_id > entities.toml"
START = "exportd run 2> daemon.log &"
RUN_AGAIN = 'exportd job watch "$(exportd schedule run hourly)"'
UNINSTALL = "exportd capture uninstall --drop-schema"

OWN_FILES = {"files", "spool", "signing.key", "exportd.toml", "entities.toml", "daemon.log"}

TABLES = """
    CREATE TABLE public.customers (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, organization_id text NOT NULL, name text
    );
    CREATE TABLE public.orders (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, organization_id text NOT NULL,
        customer_id bigint REFERENCES public.customers, amount numeric(12, 2)
    );
    INSERT INTO public.customers (organization_id, name) SELECT 'org-' || n % 2, 'customer ' || n
    FROM generate_series(1, 10) n;
    INSERT INTO public.orders (organization_id, customer_id, amount) SELECT 'org-' || n % 2, 1 + n % 10, n
    FROM generate_series(1, 30) n;
"""


class Newcomer:
    """A person with a database and a checkout, who pastes. ``folder`` is where the README's commands lead to."""

    def __init__(self, shell: Shell, checkout: Path, dsn: str) -> None:
        self._shell = shell
        self.folder = checkout / "first-export"
        self.dsn = dsn

    async def paste(self, command: str) -> Outcome:
        """Paste a command, with their own DSN in it."""
        return await self._shell.run(command.replace(DSN, self.dsn))

    async def follow(self, *, until_command: str) -> None:
        """Paste everything up to a command of the README; each one works."""
        listed = commands()
        for command in listed[: listed.index(until_command)]:
            outcome = await self.paste(command)
            assert outcome.code == 0, f"{command}: {outcome.text}"

    async def run_has_ended(self) -> None:
        """Read the log as the README says, until the first run is there."""
        log = self.folder / "daemon.log"

        async def look() -> bool:
            return log.exists() and "job ended" in log.read_text(encoding="utf-8")

        await until(look, what="the end of the first job")

    def rows(self, token: str) -> list[str]:
        """The records of an entity in all files that have arrived, without the header lines."""
        found = sorted((self.folder / "files").rglob(f"*_{token}.csv.gz"))
        return [line for path in found for line in gzip.open(path, "rt").read().splitlines()[1:]]


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def checkout() -> Iterator[Path]:
    """A fresh folder of an ordinary user: a checkout after ``make demo``, as far as the commands need it."""
    with TemporaryDirectory() as name:
        (Path(name) / ".venv").mkdir()
        (Path(name) / ".venv" / "bin").symlink_to(Path(executable).parent)
        if os.geteuid() == 0:
            shutil.chown(name, ORDINARY_USER, ORDINARY_USER)
        yield Path(name)


@pytest.fixture
async def newcomer(empty_database: Database, checkout: Path) -> AsyncIterator[Newcomer]:
    """An ordinary user of the machine and of the database, who owns its tables, in front of a checkout."""
    database, user = empty_database, f"you_{empty_database.name}"
    administrator = await database.connect()
    await administrator.execute(f"CREATE ROLE {user} LOGIN; ALTER DATABASE {database.name} OWNER TO {user}")
    owner = await database.connect(user=user)
    await administrator.execute(f"GRANT CREATE ON SCHEMA public TO {user}")
    await owner.execute(TABLES)
    shell = await Shell.open(checkout)
    try:
        yield Newcomer(shell, checkout, database.server.dsn(database.name, user=user))
    finally:
        await shell.run("kill $(jobs -p); wait")
        await shell.close()


def test_the_readme_has_the_commands_that_these_tests_know() -> None:
    listed = commands()
    assert {DRAFT, DRAFT_WITH_TENANTS, START, RUN_AGAIN, UNINSTALL} <= set(listed)
    assert sum(DSN in command for command in listed) == 1


@pytest.mark.every_postgres
async def test_the_readme_pasted_line_by_line(newcomer: Newcomer) -> None:
    listed = commands()
    user = (await newcomer.paste("id -u && test ! -w / && test ! -w /var/lib")).text.strip()
    assert user == str(ORDINARY_USER if os.geteuid() == 0 else os.geteuid())
    await newcomer.follow(until_command=START)
    assert (await newcomer.paste(START)).code == 0
    await newcomer.run_has_ended()
    assert len(newcomer.rows("customer")) == 10
    assert len(newcomer.rows("order")) == 30

    rest = listed[listed.index(START) + 1 : listed.index(UNINSTALL) + 1]
    outcomes = {command: await newcomer.paste(command) for command in rest}
    assert {command: outcome.code for command, outcome in outcomes.items()} == dict.fromkeys(rest, 0)
    assert "SUCCEEDED" in outcomes["exportd job list"].text
    assert "nothing is missing, nothing was altered" in outcomes["exportd verify files"].text
    assert outcomes[RUN_AGAIN].text.splitlines()[-1] == "succeeded"
    assert len(newcomer.rows("customer")) == 10, "nothing has changed since the first run"

    assert "Traceback" not in (newcomer.folder / "daemon.log").read_text()
    assert names_in(newcomer.folder.parent) == {".venv", "first-export"}, "nothing is written anywhere else"
    assert names_in(newcomer.folder) == {*OWN_FILES, "control.sock.lock"}


async def test_with_tenants_a_file_has_the_rows_of_one(newcomer: Newcomer) -> None:
    await newcomer.follow(until_command="exportd capture install")
    assert (await newcomer.paste(DRAFT_WITH_TENANTS)).code == 0
    await newcomer.paste("""sed -i 's/organization = "main"/organization = "org-1"/' exportd.toml""")
    assert (await newcomer.paste("exportd check && exportd capture install")).code == 1, "triggers come first"
    assert (await newcomer.paste("exportd capture install")).code == 0
    assert (await newcomer.paste("exportd check")).code == 0
    await newcomer.paste(START)
    await newcomer.run_has_ended()
    assert len(newcomer.rows("customer")) == 5
    assert all("org-1" in row for row in newcomer.rows("customer"))


MISTAKES = [
    # The DSN
    ("unset EXPORTD_DATABASE_DSN", "exportd check", 2, "database.dsn: is missing"),
    ("export EXPORTD_DATABASE_DSN=shop", "exportd check", 2, "should be a URL such as"),
    ("export EXPORTD_DATABASE_DSN=${EXPORTD_DATABASE_DSN/you/yuo}", "exportd check", 1, "does not exist"),
    ("export EXPORTD_DATABASE_DSN=postgresql://you@localhost:1/shop", "exportd check", 3, "localhost:1"),
    # The files
    ("unset EXPORTD_CONFIG", "exportd check", 2, "/etc/exportd/exportd.toml: there is no such file"),
    ("rm entities.toml", "exportd check", 2, "entities.toml"),
    ("rmdir files", "exportd check", 1, "Create the directory"),
    ("sed -i s/period/peroid/ exportd.toml", "exportd run", 2, "did you mean period?"),
    ("sed -i 's/period = 1/period = 0/' exportd.toml", "exportd check", 2, "schedule"),
    ('sed -i \'s/unit = "HOUR"/unit = "WEEK"/\' exportd.toml', "exportd check", 2, "unit"),
    ("""sed -i 's/"ALL"/["CUSTOMER"]/' exportd.toml""", "exportd check", 2, "did you mean CUSTOMERS?"),
    ("""sed -i 's/\\["files"\\]/["flies"]/' exportd.toml""", "exportd check", 2, "did you mean files?"),
    ("sed -i /label/d entities.toml", "exportd check", 2, "label"),
    ("sed -i s/public.orders/public.order/ entities.toml", "exportd check", 1, "public.order"),
    # The commands
    ("true", "exportd status", 3, "No daemon listens at"),
    ("true", "exportd verify filse", 1, "filse is no directory"),
    ("true", "exportd verify files", 1, "manifest"),
    ("true", "exportd chekc", 2, 'Did you mean "check"?'),
    ("true", "exportd run --confg x", 2, "Did you mean --config?"),
    ("true", "exportd job list", 1, "Start the daemon once"),
    ("exportd capture install", "exportd schedule run hourli", 1, "hourli"),
]
"""What goes wrong, what is typed then, how it ends, and what it says."""


@pytest.mark.slow
@pytest.mark.timeout(300)  # two dozen programs, one after the other, on a machine that may be busy
async def test_a_mistake_is_named_in_a_sentence(newcomer: Newcomer) -> None:
    await newcomer.follow(until_command="exportd capture install")
    for number, (mistake, command, code, words) in enumerate(MISTAKES):
        await newcomer.paste(f'cp -r "$PWD" ../mistake-{number}')
        there = f'cd ../mistake-{number} && export EXPORTD_CONFIG="$PWD/exportd.toml"'
        outcome = await newcomer.paste(f"({there} && {mistake} && {command})")
        assert outcome.code == code, f"{mistake}: {outcome.text}"
        assert words in outcome.text, mistake
        assert "Traceback" not in outcome.text


def test_the_sample_of_a_manifest_has_the_fields_of_one() -> None:
    (sample,) = re.findall(r"^```json\n(.*?)^```", README, re.MULTILINE | re.DOTALL)

    def check(document: object, *kinds: type) -> None:
        names = {field.name for field in fields(kinds[0])}
        assert isinstance(document, dict)
        assert set(document) <= names

    manifest = json.loads(sample)
    check(manifest, Manifest)
    check(manifest["schedule"], ManifestSchedule)
    check(manifest["predecessor"], Predecessor)
    for entity in manifest["entities"]:
        check(entity, ManifestEntity)
        check(entity["window"], ManifestWindow)
        for part in entity["parts"]:
            check(part, ManifestPart)
