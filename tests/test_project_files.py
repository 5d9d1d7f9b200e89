"""What a project has beside its code: licence, changelog, version, and what the forge and the editors read."""

import hashlib
import re
import tomllib
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
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


def test_what_the_console_s_pages_load_is_in_the_wheel() -> None:
    wheel = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    static = ROOT / "exportd" / "console" / "static"
    assert {str(path.relative_to(ROOT)) for path in static.rglob("*") if path.is_file()} <= wheel


def test_the_changelog_keeps_its_form() -> None:
    sections = re.findall(r"^## (.*)$", read("CHANGELOG.md"), re.MULTILINE)
    assert sections[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", section) for section in sections[1:])
    kinds = set(re.findall(r"^### (.*)$", read("CHANGELOG.md"), re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_type_checkers_of_others_find_our_types() -> None:
    assert (ROOT / "exportd" / "py.typed").is_file()


@pytest.mark.parametrize("name", ["ci", "coverage"])
def test_the_forge_runs_what_ci_runs_and_nothing_else(name: str) -> None:
    steps = re.findall(r"^ +- (?:run|uses): (.*)$", read(f".github/workflows/{name}.yml"), re.MULTILINE)
    assert [step.partition("@")[0] for step in steps] == ["actions/checkout", ".ci/run"]


def test_the_forge_measures_what_the_tests_reach() -> None:
    assert re.search(r'^      COVERAGE: "1"$', read(".github/workflows/coverage.yml"), re.MULTILINE)
    assert re.search(r"^ifdef COVERAGE$", read("Makefile"), re.MULTILINE)


@pytest.mark.parametrize("target", ["check", "test"])
def test_ci_runs_the_targets_that_a_person_runs(target: str) -> None:
    assert re.search(rf"^make (.* )?{target}\b", read(".ci/run"), re.MULTILINE)


def test_pre_commit_runs_what_make_check_runs() -> None:
    configuration = read(".pre-commit-config.yaml")
    assert re.findall(r"- repo: (.*)", configuration) == ["local"]
    assert re.findall(r"entry: (.*)", configuration) == ["make check"]


def test_the_dependency_bot_looks_at_both_kinds_of_dependencies() -> None:
    assert re.findall(r"package-ecosystem: (.*)", read(".github/dependabot.yml")) == ["pip", "github-actions"]


def test_editors_are_told_the_line_length_of_the_linter() -> None:
    length = tomllib.loads(read("pyproject.toml"))["tool"]["ruff"]["line-length"]
    assert f"max_line_length = {length}\n" in read(".editorconfig")


# --- what is installed ----------------------------------------------------------------------------------------------

NAME = re.compile(r"[A-Za-z0-9_.-]+")


def locked(path: str) -> dict[str, set[str]]:
    """The pinned versions of each package of a lock file; a package has several where they depend on the Python."""
    found: dict[str, set[str]] = {}
    for block in re.split(r"\n(?=\S)", read(path)):
        pin = re.match(r"([a-z0-9-]+)==(\S+)", block)
        assert pin, f"not pinned: {block}"
        assert "--hash=sha256:" in block, f"without a hash: {pin[1]}"
        found.setdefault(pin[1], set()).add(pin[2])
    return found


def names(requirements: list[str]) -> set[str]:
    found = [match[0].lower().replace("_", "-") for match in map(NAME.match, requirements) if match]
    assert len(found) == len(requirements)
    return set(found)


def test_what_runs_is_pinned_and_nothing_else_is_installed_with_it() -> None:
    running = locked("requirements.lock")
    extras = PROJECT["optional-dependencies"]
    wanted = names([*PROJECT["dependencies"], *extras["embedded"], *extras["replay"], *extras["build"]])
    assert wanted <= running.keys()
    assert {"pytest", "mypy", "ruff", "moto", "swift", "pandas", "boto3"} & running.keys() == set()
    assert len(running) < 90


def test_developers_run_the_same_versions_with_tools_beside_them() -> None:
    running, developing = locked("requirements.lock"), locked("requirements-dev.lock")
    assert {name: developing.get(name) for name in running} == running
    assert names(PROJECT["optional-dependencies"]["dev"]) <= developing.keys()


def test_google_s_library_comes_with_every_python_that_exportd_takes() -> None:
    assert PROJECT["requires-python"] == ">=3.11"
    (storage,) = [line for line in PROJECT["dependencies"] if line.startswith("gcloud-aio-storage")]
    assert ";" not in storage
    (pin,) = re.findall(r"^gcloud-aio-storage==.*$", read("requirements.lock"), re.MULTILINE)
    assert "python" not in pin


def test_the_demo_installs_what_runs_and_says_so() -> None:
    makefile = read("Makefile")
    assert re.search(r"^demo: \$\(INSTALLED\) ##", makefile, re.MULTILINE)
    rule = makefile.partition("\n$(INSTALLED): ")[2].partition("\n\n")[0]
    assert "--require-hashes --requirement requirements.lock" in rule
    assert "requirements-dev.lock" not in rule
    assert "install --quiet --use-pep517" not in rule


def test_no_package_is_held_to_a_minor_version() -> None:
    bounds = {line: re.search(r"<(\d+)(\.\d+)?", line) for line in PROJECT["dependencies"]}
    assert [line for line, bound in bounds.items() if bound and bound[2]] == []


@pytest.mark.parametrize("path", re.findall(r"#.* (tests/\S+\.py)$", read("pyproject.toml"), re.MULTILINE))
def test_the_test_that_a_dependency_names_is_there(path: str) -> None:
    assert (ROOT / path).is_file()


def test_the_page_that_installs_takes_the_pinned_versions() -> None:
    commands = re.findall(r"^.*pip install .*$", read("docs/install.md"), re.MULTILINE)
    assert "/opt/exportd/bin/pip install --require-hashes --requirement requirements.lock" in commands
    assert "/opt/exportd/bin/pip install --no-deps --no-build-isolation ." in commands
