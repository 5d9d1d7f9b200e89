"""What a project has beside its code: licence, changelog, version, and what the forge and the editors read."""

import hashlib
import re
import tomllib
from pathlib import Path

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

import exportd

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

APACHE_2_0 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""SHA-256 of the licence's text as the Apache Software Foundation publishes it."""


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def test_the_licence_is_there_word_for_word() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2_0
    assert (PROJECT["license"], PROJECT["license-files"]) == ("Apache-2.0", ["LICENSE"])


def test_the_version_has_one_place() -> None:
    assert PROJECT["dynamic"] == ["version"]
    assert "version" not in PROJECT
    assert ProjectMetadata(str(ROOT), PluginManager()).version == exportd.__version__


def test_the_changelog_keeps_its_form() -> None:
    sections = re.findall(r"^## (.*)$", read("CHANGELOG.md"), re.MULTILINE)
    assert sections[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", section) for section in sections[1:])
    kinds = set(re.findall(r"^### (.*)$", read("CHANGELOG.md"), re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_type_checkers_of_others_find_our_types() -> None:
    assert (ROOT / "exportd" / "py.typed").is_file()


def test_the_forge_runs_what_ci_runs_and_nothing_else() -> None:
    steps = re.findall(r"^ +- (?:run|uses): (.*)$", read(".github/workflows/ci.yml"), re.MULTILINE)
    assert [step.partition("@")[0] for step in steps] == ["actions/checkout", ".ci/run"]


@pytest.mark.parametrize("target", ["check", "coverage"])
def test_ci_runs_the_targets_that_a_person_runs(target: str) -> None:
    assert f"\nmake {target}\n" in read(".ci/run")


def test_pre_commit_runs_what_make_check_runs() -> None:
    configuration = read(".pre-commit-config.yaml")
    assert re.findall(r"- repo: (.*)", configuration) == ["local"]
    assert re.findall(r"entry: (.*)", configuration) == ["make check"]


def test_the_dependency_bot_looks_at_both_kinds_of_dependencies() -> None:
    assert re.findall(r"package-ecosystem: (.*)", read(".github/dependabot.yml")) == ["pip", "github-actions"]


def test_editors_are_told_the_line_length_of_the_linter() -> None:
    length = tomllib.loads(read("pyproject.toml"))["tool"]["ruff"]["line-length"]
    assert f"max_line_length = {length}\n" in read(".editorconfig")
