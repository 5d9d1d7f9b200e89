"""The documents name what the code has, and what they point at is there."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from exportd.cli.main import app
from exportd.cli.output import Exit
from exportd.console.rendering import WHAT_TO_DO
from exportd.jobs import states
from exportd.model.errors import FullReason, Reason
from tests.test_architecture import LAYERS
from tests.tools.draw_run import draw
from tests.tools.write_documents import GENERATED

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")) if path.is_file()
)
DECISIONS = [page for page in PAGES if re.fullmatch(r"docs/decisions/\d{4}-.*\.md", page)]

FORBIDDEN = re.compile(r"\b(nobody|somebody|whoever|anybody)\b", re.IGNORECASE)
"""They hide who acts: a sentence says it."""

GLOSSARY = (
    *("window", "position", "guard", "seal", "spool", "part", "piece", "doorbell", "image", "marker", "redelivery"),
    *("entity", "catalog", "organization", "destination", "job", "lease", "fence", "manifest", "chain", "change log"),
    *("snapshot", "circuit", "horizon", "back-fill"),
)

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
    Reason.QUOTA_REACHED,
    Reason.QUOTA_BUSY,
    Reason.JOB_STATE_UNFIT,
    Reason.STILL_RUNNING,
    # Of commands that ask the daemon.
    Reason.DAEMON_UNREACHABLE,
    Reason.DAEMON_REFUSED,
}


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def prose(page: str) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```", "", read(page), flags=re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    """The page's blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)\n```$", read(page), re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every command with its group, such as ``job list``."""
    found: list[str] = []
    for name in app:
        if name.startswith("-"):
            continue
        group = [verb for verb in app[name] if not verb.startswith("-")]
        found.extend(f"{name} {verb}" for verb in group) if group else found.append(name)
    return found


# --- pages that are made from the code ------------------------------------------------------------------------------


@pytest.mark.parametrize("page", GENERATED)
def test_a_generated_page_is_what_the_code_makes(page: str) -> None:
    assert read(page) == GENERATED[page](), "run: make docs"


def test_there_are_commands_to_compare_with() -> None:
    assert {"run", "job list", "capture install", "schedule run"} <= set(commands())


@pytest.mark.parametrize("command", commands())
def test_the_page_of_commands_has_each_command(command: str) -> None:
    assert f"\n## `exportd {command}`\n" in read("docs/commands.md")


@pytest.mark.parametrize("code", list(Exit))
def test_the_page_of_commands_has_each_exit_code(code: Exit) -> None:
    assert re.search(rf"^\| {code.value} \| \w", read("docs/commands.md"), re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in GENERATED])
def test_a_command_that_a_page_names_is_there(page: str) -> None:
    groups = {command.partition(" ")[0] for command in commands()}
    spans = re.findall(r"`([^`\n]+)`", prose(page))
    named = [found for span in spans if (found := re.match(r"exportd ([a-z][a-z-]+)(?: ([a-z][a-z-]+))?", span))]
    for command, verb in (found.groups(default="") for found in named):
        assert command in groups, f"exportd {command}"
        assert command in commands() or f"{command} {verb}" in commands() or not verb, f"exportd {command} {verb}"


# --- the runbook ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason not in _NOT_ON_CALL])
def test_runbook_says_what_to_do_about_each_reason(reason: Reason) -> None:
    assert re.search(rf"^\|[^|]*`{reason}`", read("docs/runbook.md"), re.MULTILINE)


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason not in _NOT_ON_CALL])
def test_the_console_says_what_to_do_about_each_reason(reason: Reason) -> None:
    section = WHAT_TO_DO[reason].section
    assert section is None or section in anchors("docs/runbook.md")


@pytest.mark.parametrize("reason", list(FullReason))
def test_runbook_explains_each_full_run(reason: FullReason) -> None:
    assert re.search(rf"^\|[^|]*`{reason}`", read("docs/runbook.md"), re.MULTILINE)


# --- the picture of a run -------------------------------------------------------------------------------------------

OUTPUT = "\nA chapter\n  a & b <c>\n" + "\n".join(f"line {number}" for number in range(9)) + "\n\nThe end\nEQUAL\n"


def texts(picture: str) -> list[str]:
    """The lines that a picture shows. Raises ParseError when it is no SVG."""
    elements = ElementTree.fromstring(picture)  # noqa: S314 - drawn by us
    return ["".join(element.itertext()) for element in elements if element.tag.endswith("text")]


def test_a_picture_shows_lines_as_they_were_printed_and_marks_what_it_leaves_out() -> None:
    shown = ["$ make demo", "A chapter", "  a & b <c>", "line 0", "line 1", "  …", "line 8", "The end", "EQUAL"]
    assert texts(draw("make demo", OUTPUT)) == shown


def test_the_picture_of_the_readme_can_be_drawn() -> None:
    assert texts(read("docs/run.svg"))[0] == "$ make demo"
    assert "(docs/run.svg)" in read("README.md")


# --- what pages point at --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["demo", "test", "bench", "help"])
def test_make_targets_of_the_readme_exist(target: str) -> None:
    assert f"make {target}" in read("README.md")
    assert re.search(rf"^{target}:", read("Makefile"), re.MULTILINE)


@pytest.mark.parametrize("target", ["check", "fmt", "test", "docs", "bench", "systemd-test", "help", "lock"])
def test_make_targets_of_the_page_for_contributors_exist(target: str) -> None:
    assert f"make {target}" in read("CONTRIBUTING.md")
    assert re.search(rf"^{target}:", read("Makefile"), re.MULTILINE)


def paths_named(page: str) -> Iterator[str]:
    """Paths of this repository between backquotes; those with a placeholder are none."""
    for words in re.findall(r"`([^`\n]+)`", prose(page)):
        path = words.split("::")[0]
        if re.fullmatch(r"(exportd|tests|docs|config|systemd|benchmarks|\.ci|\.github)/[\w./-]*", path):
            yield path


# The changelog also names what is gone.
@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_every_path_that_a_page_names_exists(page: str) -> None:
    assert [path for path in paths_named(page) if not (ROOT / path).exists()] == []


def anchors(page: str) -> set[str]:
    """The anchors that a forge gives to the page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        found = ((ROOT / page).parent / target).resolve() if target else ROOT / page
        assert found.exists(), link
        if anchor:
            assert anchor in anchors(found.relative_to(ROOT).as_posix()), link


def test_every_page_is_found_from_the_readme() -> None:
    seen, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        seen.add(page)
        if page.suffix == ".md":
            links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
            waiting += [found for link in links if (found := (page.parent / link).resolve()) not in seen]
    assert {(ROOT / page) for page in PAGES} <= seen


@pytest.mark.parametrize("path", ["README.md", "exportd", "docs", "tests/unit", "benchmarks", "config", "Makefile"])
def test_the_page_of_design_notes_is_gone_and_not_missed(path: str) -> None:
    files = [ROOT / path] if (ROOT / path).is_file() else (ROOT / path).rglob("*")
    texts = [file for file in files if file.suffix in {".md", ".py", ".sql", ".toml", ".yml", ""} and file.is_file()]
    assert [file for file in texts if "design.md" in file.read_text(encoding="utf-8")] == []


# --- words ----------------------------------------------------------------------------------------------------------


# The sentences of generated pages are the code's, and are judged there.
@pytest.mark.parametrize("page", [page for page in PAGES if page not in GENERATED])
def test_sentences_say_who_acts(page: str) -> None:
    assert [line for line in read(page).splitlines() if FORBIDDEN.search(line)] == []


# --- the architecture -----------------------------------------------------------------------------------------------


def test_the_states_of_a_job_are_those_of_the_code() -> None:
    assert states.diagram() in blocks("docs/architecture.md", "mermaid")


def test_the_layers_are_those_of_the_architecture_test() -> None:
    assert "\n".join(" ".join(units) for units in LAYERS) in blocks("docs/architecture.md", "")


def test_pictures_are_of_kinds_that_forges_draw() -> None:
    pictures = blocks("docs/architecture.md", "mermaid")
    kinds = [picture.split()[0] for picture in pictures]
    assert kinds == ["flowchart", "sequenceDiagram", "sequenceDiagram", "stateDiagram-v2"]


@pytest.mark.parametrize("word", GLOSSARY)
def test_the_glossary_has_the_word(word: str) -> None:
    assert re.search(rf"^\| {word} \| \w", read("docs/architecture.md"), re.MULTILINE)


# --- the manifest ---------------------------------------------------------------------------------------------------

SCHEMA = json.loads(read("docs/manifest.schema.json"))
OBJECTS = {
    name: definition
    for name, definition in {"Manifest": SCHEMA, **SCHEMA["$defs"]}.items()
    if definition["type"] == "object"
}


def fields_of(name: str) -> dict[str, tuple[str, str]]:
    """What the page of the manifest says of each field: its value, and whether it may be left out."""
    section = read("docs/manifest.md").split(f"\n## `{name}`\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| \w[^|]+\. \|$", section, re.MULTILINE)
    return {field: (value, default) for field, value, default in rows}


PATTERNS = {"^[0-9a-f]{64}$": "SHA-256", "^[0-9]+:[0-9]+:([0-9]+(,[0-9]+)*)?$": "snapshot"}
FORMATS = {"uuid": "UUID", "date-time": "time"}


def value_of(definition: dict[str, Any]) -> str:
    """A value of the schema in the words of the page."""
    match definition:
        case {"$ref": str(reference)}:
            word = f"`{reference.rpartition('/')[2]}`"
        case {"anyOf": list(choices)}:
            word = " or ".join(value_of(choice) for choice in choices)
        case {"const": constant}:
            word = f"`{constant}`"
        case {"enum": list(values)}:
            word = " or ".join(f"`{value}`" for value in values)
        case {"items": items}:
            word = f"list of {value_of(items)}"
        case {"type": "string"}:
            word = FORMATS.get(definition.get("format", ""), PATTERNS.get(definition.get("pattern", ""), "text"))
        case {"type": kind}:
            word = "number" if kind == "integer" else kind
        case _:
            raise ValueError(definition)
    return word


@pytest.mark.parametrize("name", OBJECTS)
def test_the_page_of_the_manifest_has_each_field(name: str) -> None:
    definition = OBJECTS[name]
    expected = {
        field: (
            value_of(value),
            "no" if field in definition["required"] else json.dumps(value["default"]).replace("[]", "none"),
        )
        for field, value in definition["properties"].items()
    }
    assert fields_of(name) == expected


@pytest.mark.parametrize("name", ["ExportFormat", "Mode"])
def test_the_page_of_the_manifest_has_each_word(name: str) -> None:
    words = ", ".join(f"`{word}`" for word in SCHEMA["$defs"][name]["enum"])
    assert f"\n| `{name}` | {words} |\n" in read("docs/manifest.md")


# --- decisions ------------------------------------------------------------------------------------------------------


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = [int(Path(page).name[:4]) for page in DECISIONS]
    assert numbers == list(range(1, len(DECISIONS) + 1))


@pytest.mark.parametrize("page", DECISIONS)
def test_a_decision_has_its_sections_and_stands_in_the_index(page: str) -> None:
    number, name = int(Path(page).name[:4]), Path(page).name
    title = re.match(rf"# {number}\. (.+)\n", read(page))
    assert title
    assert f"- [{number:04}]({name}) {title[1]}\n" in read("docs/decisions/README.md")
    assert re.findall(r"^## (.*)$", read(page), re.MULTILINE) == ["Context", "Decision", "Evidence", "Consequences"]


def model_of_trust() -> list[tuple[str, str]]:
    """Who is trusted, and what shows it: the lines of the first table of docs/security.md."""
    section = read("docs/security.md").split("## Who is trusted with what")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")][2:]
    return [(row[0].strip(), row[-1]) for row in rows]


def test_the_model_of_trust_has_its_lines() -> None:
    assert len(model_of_trust()) >= 10


@pytest.mark.parametrize(("who", "shown"), model_of_trust())
def test_each_line_of_the_model_of_trust_is_shown_by_tests_that_exist(who: str, shown: str) -> None:
    tests = re.findall(r"`(tests/\S+?\.py)::(test_\w+)`", shown)
    assert tests, f"no test shows what {who} may do"
    for path, name in tests:
        assert re.search(rf"^\s*(?:async )?def {name}\(", read(path), re.MULTILINE), f"{path} has no {name}"
