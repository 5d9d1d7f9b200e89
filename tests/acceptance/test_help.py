"""Every command explains itself, and says which version it is."""

import sys

import pytest

from exportd import __version__
from exportd.cli.main import app
from tests.fixtures.daemon import run

HEAVY = {"asyncpg", "croniter", "duckdb", "fastapi", "isal", "pydantic", "stamina", "structlog", "uvicorn"}

COMMANDS = (
    (),
    ("status",),
    ("pause",),
    ("resume",),
    ("log-level",),
    ("reload",),
    ("export",),
    ("completion",),
    ("config",),
    ("config", "show"),
    ("config", "schema"),
    ("entity",),
    ("entity", "list"),
    ("entity", "show"),
    *(("job", verb) for verb in ("watch", "cancel", "retry")),
    *(("schedule", verb) for verb in ("create", "show", "edit", "delete", "pause", "resume", "refresh", "next")),
    *(("destination", verb) for verb in ("create", "show", "edit", "delete", "pause", "resume")),
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
    *(("client", verb) for verb in ("create", "list", "delete")),
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


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["status", "--socket", "nowhere"], ["schedule", "show", "often", "--socket", "nowhere"]],
    ids=" ".join,
)
def test_a_client_of_the_socket_loads_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom exportd.__main__ import main\n"
        f"sys.argv[1:] = {arguments!r}\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('loaded', sorted({HEAVY!r} & set(sys.modules)))"
    )
    assert run([sys.executable, "-c", program]).stdout.splitlines()[-1] == "loaded []"


def test_help_loads_nothing_that_only_commands_need() -> None:
    program = (
        "import sys, exportd.cli.main; print(sorted({'asyncpg', 'duckdb', 'pydantic', 'isal'} & set(sys.modules)))"
    )
    assert run([sys.executable, "-c", program]).stdout.strip() == "[]"
