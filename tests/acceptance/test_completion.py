"""The completion of commands, in the real shells, and of what a real daemon knows."""

import asyncio
import sys
from pathlib import Path

import pytest

from tests.acceptance.declarations import schedule
from tests.acceptance.sample_application import CATALOG, Application
from tests.fixtures.daemon import Site, run
from tests.fixtures.shells import SHELLS, offered

HOSTILE = 'it\'s $(touch touched) `touch touched`; "q" & #☃'

pytestmark = pytest.mark.shells


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes(shell: str, tmp_path: Path) -> None:
    expected = {
        "exportd sched": {"schedule"},
        "exportd schedule re": {"resume", "refresh"},
        "exportd schedule create --uni": {"--unit"},
        "exportd schedule create nightly --unit ": {"MINUTE", "HOUR", "DAY"},
        "exportd destination create lake --type ": {"S3", "GCS"},
        "exportd job watch --soc": {"--socket"},
        "exportd completion ": {"bash", "zsh", "fish"},
        "exportd schedule run ": set(),
    }
    assert dict(zip(expected, offered(shell, list(expected), tmp_path), strict=True)) == expected


def test_zsh_finds_the_script_in_a_folder_of_functions(tmp_path: Path) -> None:
    functions = tmp_path / "functions"
    functions.mkdir()
    script = run([sys.executable, "-m", "exportd", "completion", "zsh"])
    (functions / "_exportd").write_text(script.stdout, encoding="utf-8")
    found = offered("zsh", ["exportd schedule re"], tmp_path, FUNCTIONS=str(functions))
    assert found == [{"resume", "refresh"}]


async def test_a_shell_completes_what_the_daemon_knows(site: Site, application: Application, tmp_path: Path) -> None:
    lake = {"code": "lake", "organization": "org-1", "directory": str(site.destination())}
    site.configure(
        CATALOG,
        {
            "destination": [lake],
            "schedule": [
                *(schedule(code=code) for code in ("nightly", "never", HOSTILE)),
                {**schedule(code="other", destinations=[]), "organization": "org-2"},
            ],
        },
    )
    await site.start()
    job = str(await site.first_job(application.connection, "nightly"))
    expected = {
        "exportd schedule run n": {"nightly", "never"},
        "exportd schedule run --organization org-1 it": {HOSTILE},
        "exportd schedule pause --organization org-2 ": {"other"},
        "exportd schedule refresh nightly A": {"ACCOUNTS"},
        "exportd destination check ": {"lake"},
        "exportd export ACCOUNTS O": {"ORDERS"},
        "exportd export ACCOUNTS --organization ": {"org-1", "org-2"},
        f"exportd job watch {job[:8]}": {job},
        f"exportd job show --socket ~/control.sock {job[:8]}": {job},
    }
    folder = tmp_path / "shell"
    folder.mkdir()
    (folder / "control.sock").symlink_to(site.folder / "control.sock")
    for shell in SHELLS:
        found = await asyncio.to_thread(offered, shell, list(expected), folder, EXPORTD_CONFIG=str(site.config))
        assert dict(zip(expected, found, strict=True)) == expected, shell
    assert not (folder / "touched").exists()
