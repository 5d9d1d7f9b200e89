"""What pages for operators tell people to type and to write, done with a real daemon, Postgres and store."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
import yaml  # type: ignore[import-untyped]

from exportd.cli.main import app
from exportd.model.extraction import Mode
from exportd.settings.schema import LimitSettings
from tests.acceptance.declarations import destination, schedule
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.sample_application import CATALOG, ENTITIES, Application
from tests.fixtures.daemon import Site, environment
from tests.fixtures.postgres import Database
from tests.fixtures.server_process import reserved_ports

CHECKOUT = Path(__file__).parents[2]


def blocks(page: str, section: str, language: str) -> list[str]:
    """The samples in a language of a section, without what indents them."""
    text = (CHECKOUT / "docs" / page).read_text(encoding="utf-8")
    found = re.split(rf"^#+ {section}$", text, flags=re.MULTILINE)[1]
    end = re.split(r"^#+ ", found, flags=re.MULTILINE)[0]
    samples = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", end, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", sample, flags=re.MULTILINE) for indent, sample in samples]


def pasted(commands: str, folder: Path, **variables: str) -> None:
    outcome = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eu", "-o", "pipefail", "-c", commands],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**environment(), **variables},
        timeout=60,
    )
    assert outcome.returncode == 0, outcome.stderr


async def test_a_local_s3_for_trying(site: Site, application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    section = "A local S3, for trying"
    [commands], [sample] = blocks("destinations.md", section, "sh"), blocks("destinations.md", section, "toml")
    (site.folder / ".venv").mkdir()
    (site.folder / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, re.search(rf"{name}=(\w+)", commands)[1])  # type: ignore[index]
    with reserved_ports(1) as [port]:
        lines = commands.replace("9000", str(port)).replace(" &\n", " >moto.log 2>&1 &\necho $! >moto.pid\n")
        try:
            pasted(lines, site.folder)
            site.configure(CATALOG, {})
            site.config.write_text(site.config.read_text() + sample.replace("9000", str(port)))
            outcome = await site.quickly("destination", "check", "local")
        finally:
            os.kill(int((site.folder / "moto.pid").read_text()), 15)
    assert (outcome.returncode, outcome.stderr) == (0, ""), outcome.stdout
    assert {line.split()[0] for line in outcome.stdout.splitlines()[1:]} == {"ok", "rate"}


@pytest.mark.parametrize("with_schema", [False, True])
async def test_a_dump_is_restored_and_exported(
    site: Site, application: Application, empty_database: Database, with_schema: bool
) -> None:
    """Also by a restore that stops at the first error; and what is written before capture is there succeeds."""
    await run_once(site, site.destination("lake"))
    site.dsn, application.connection = await restored(empty_database, site.folder, with_schema=with_schema)
    triggers = await application.connection.fetchval("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'exportd%'")
    assert (triggers > 0) == with_schema
    await application.change()

    await run_once(site, pond := site.destination("pond"), ask=with_schema)
    delivered = DeliveredFiles.of(pond)
    first = delivered.chains[0].manifests[0]
    assert {entity.code: entity.mode for entity in first.entities} == dict.fromkeys(ENTITIES, Mode.FULL)
    assert delivered.replayed() == await application.contents()


async def run_once(site: Site, directory: Path, *, ask: bool = False) -> None:
    """A run of a daemon of the site's database, to a directory; a new schedule begins one unasked."""
    site.configure(CATALOG, {"destination": [destination("lake", directory)], "schedule": [schedule()]})
    daemon = await site.start()
    if ask:
        assert (await site.quickly("schedule", "run", "often")).returncode == 0
    await daemon.wait_for_event("job ended", state="SUCCEEDED")
    assert await daemon.stop() == 0


async def restored(
    database: Database, folder: Path, *, with_schema: bool
) -> tuple[str, "asyncpg.Connection[asyncpg.Record]"]:
    """A copy of the database, made as the page says: its DSN, and a connection."""
    [commands] = blocks("upgrading.md", "Dumps of the application", "sh")
    name = f"{database.name}_restored"
    commands = re.sub(r"\bproduct$", database.name, commands, flags=re.MULTILINE).replace("product_restored", name)
    if with_schema:
        commands = re.sub(r"^pg_restore --list.*\n| -N exportd| --use-list=\S+", "", commands, flags=re.MULTILINE)
    server = database.server
    place = parse_qs(urlsplit(server.dsn()).query)
    path = f"{server.binaries}:{os.environ['PATH']}"
    pasted(commands, folder, PATH=path, PGHOST=place["host"][0], PGPORT=place["port"][0], PGUSER="postgres")
    copy = Database(server, name, database._exit_stack)
    return copy.dsn, await copy.connect()


def pod() -> dict[str, Any]:
    [sample] = blocks("containers.md", "A pod", "yaml")
    document: dict[str, Any] = yaml.safe_load(sample)["spec"]["template"]["spec"]
    return document


def test_the_pod_fits_the_configuration_and_the_image() -> None:
    [sample], [image] = (
        blocks("containers.md", "The configuration", "toml"),
        blocks("containers.md", "An image", "dockerfile"),
    )
    [container] = pod()["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    paths = re.findall(r'"(/[^"]+)"', sample)
    assert len(paths) == 4
    assert all(any(path.startswith(f"{mount}/") for mount in mounts.values()) for path in paths)
    assert {volume["name"] for volume in pod()["volumes"]} == set(mounts) - {"state"}
    assert f"USER {pod()['securityContext']['runAsUser']}" in image
    assert f'listen = "0.0.0.0:{container["ports"][0]["containerPort"]}"' in sample
    assert {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness")} == {"/healthz"}
    assert pod()["terminationGracePeriodSeconds"] > LimitSettings().shutdown_grace_s
    [secrets] = [volume["secret"] for volume in pod()["volumes"] if "secret" in volume]
    assert secrets["defaultMode"] & 0o007 == 0
    command = re.search(r'CMD \["(\w+)"\]', image)
    assert command is not None
    assert command[1] in set(app)
