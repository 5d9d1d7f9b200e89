"""Every command explains itself, and says which version it is."""

import sys

import pytest

from exportd import __version__
from exportd.cli.main import app
from tests.fixtures.daemon import run

COMMANDS = (
    (),
    ("run",),
    ("check",),
    ("download",),
    ("demo",),
    ("verify",),
    ("replay",),
    ("preview",),
    ("loader",),
    ("job",),
    ("job", "list"),
    ("job", "show"),
    ("schedule",),
    ("schedule", "list"),
    ("schedule", "run"),
    ("destination",),
    ("destination", "list"),
    ("destination", "check"),
    ("capture",),
    ("capture", "install"),
    ("capture", "status"),
    ("capture", "uninstall"),
    ("catalog",),
    ("catalog", "draft"),
    ("role",),
    ("role", "sql"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        app([*command, "--help"])
    assert ended.value.code in {0, None}
    said = capsys.readouterr().out
    assert said.startswith(f"Usage: exportd {' '.join(command)}".rstrip())
    assert len(said.splitlines()) > 3


def test_the_program_says_its_version() -> None:
    outcome = run([sys.executable, "-m", "exportd", "--version"])
    assert (outcome.returncode, outcome.stdout.strip()) == (0, __version__)


def test_help_loads_nothing_that_only_commands_need() -> None:
    program = (
        "import sys, exportd.cli.main; print(sorted({'asyncpg', 'duckdb', 'pydantic', 'isal'} & set(sys.modules)))"
    )
    assert run([sys.executable, "-c", program]).stdout.strip() == "[]"
