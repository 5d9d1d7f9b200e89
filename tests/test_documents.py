"""The documents name what the code has: commands, exit codes, reason codes, make targets."""

import re
from pathlib import Path

import pytest

from exportd.cli.failures import Exit
from exportd.cli.main import app
from exportd.model.reason import FullReason, Reason

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")

# Said by other means than a job's row: the command line prints them, and no job carries them.
_NOT_ON_CALL = {
    Reason.SETTINGS_INVALID,
    Reason.NOT_FOUND,
    Reason.JOB_UNFINISHED,
    Reason.DATABASE_NOT_MIGRATED,
    Reason.MANIFEST_DAMAGED,
    # What the API answers to a request; no job fails by it.
    Reason.CODE_TAKEN,
    Reason.VERSION_STALE,
    Reason.DECLARED,
    Reason.IN_USE,
    Reason.JOB_STATE_UNFIT,
    Reason.STILL_RUNNING,
    # Of commands that ask the daemon.
    Reason.DAEMON_UNREACHABLE,
    Reason.DAEMON_REFUSED,
}


def commands() -> list[str]:
    """Every command with its group, such as ``job list``."""
    found: list[str] = []
    for name in app:
        if name.startswith("-"):
            continue
        group = [each for each in app[name] if not each.startswith("-")]
        found.extend(f"{name} {each}" for each in group) if group else found.append(name)
    return found


def test_there_are_commands_to_compare_with() -> None:
    assert {"run", "job list", "capture install", "schedule run"} <= set(commands())


@pytest.mark.parametrize("command", commands())
def test_readme_names_each_command(command: str) -> None:
    *group, verb = command.split()
    pattern = (
        rf"`exportd {group[0]} [^|]*`(?:{group[0]} )?{verb}\b|`exportd {command}\b" if group else rf"`exportd {verb}\b"
    )
    assert re.search(pattern, README), f"README.md does not name `exportd {command}`"


@pytest.mark.parametrize("code", list(Exit))
def test_readme_names_each_exit_code(code: Exit) -> None:
    sentence = re.search(r"Exit\s+codes:(.*?)\.\n", README, re.DOTALL)
    assert sentence
    assert re.search(rf"\b{code.value}\b", sentence[1])


@pytest.mark.parametrize("reason", [each for each in Reason if each not in _NOT_ON_CALL])
def test_runbook_says_what_to_do_about_each_reason(reason: Reason) -> None:
    assert re.search(rf"^\|[^|]*`{reason}`", RUNBOOK, re.MULTILINE)


@pytest.mark.parametrize("reason", list(FullReason))
def test_runbook_explains_each_full_run(reason: FullReason) -> None:
    assert re.search(rf"^\|[^|]*`{reason}`", RUNBOOK, re.MULTILINE)


@pytest.mark.parametrize("target", ["demo", "test", "bench", "help"])
def test_make_targets_of_the_readme_exist(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"make {target}" in README
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)
