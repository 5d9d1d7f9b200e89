"""The commands of docs/install.md, as far as they can be looked at without a machine to install on."""

import re
import subprocess
from pathlib import Path

import pytest

from exportd.cli.main import app
from exportd.schedules.calendar import check_rule
from exportd.settings.loader import load
from tests.fixtures.install_page import CHECKOUT, Step, steps

ALL = "\n".join(step.commands for step in steps())


@pytest.mark.parametrize("step", steps(), ids=lambda step: step.section)
def test_the_shell_understands_a_step(step: Step) -> None:
    checked = subprocess.run(["bash", "-n"], input=step.commands, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_files_that_are_installed_are_there() -> None:
    ours = {
        "systemd/exportd.service",
        "systemd/exportd.socket",
        "systemd/sysusers.d/exportd.conf",
        "systemd/tmpfiles.d/exportd.conf",
    }
    assert ours <= set(re.findall(r"(?<= )systemd/\S+", ALL))
    assert all((CHECKOUT / our).is_file() for our in ours)


def test_commands_of_exportd_are_there() -> None:
    commands = re.findall(r"(?:as_exportd|bin/exportd) ([a-z]+)(?: ([a-z]+)\b)?", ALL)
    assert ("role", "sql") in commands
    for command, verb in commands:
        group = app[command]
        assert not verb or verb in set(group)


def test_the_configuration_is_one(tmp_path: Path) -> None:
    documents = re.findall(r"exportd\.toml <<'EOF'\n(.*?)^EOF", ALL, re.MULTILINE | re.DOTALL)
    assert len(documents) == 2
    path = tmp_path / "exportd.toml"
    environment = {"EXPORTD_DATABASE_DSN": "postgresql://exportd@/product?host=/var/run/postgresql"}
    path.write_text(documents[0])
    assert load(path, check_rule=check_rule, environment=environment).schedule == ()
    path.write_text("".join(documents))
    (schedule,) = load(path, check_rule=check_rule, environment=environment).schedule
    assert schedule.destinations == ("exports",)


def test_the_credential_is_where_systemd_puts_it() -> None:
    unit = (CHECKOUT / "systemd" / "exportd.service").read_text()
    assert "LoadCredential=dsn:/etc/exportd/dsn\n" in unit
    assert 'dsn_file = "/run/credentials/exportd.service/dsn"' in ALL
