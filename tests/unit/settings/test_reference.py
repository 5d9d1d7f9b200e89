import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from exportd.settings.loader import load
from exportd.settings.schema import Settings
from exportd.settings.sentences import models_in
from tests.tools.configuration_reference import render

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "config/exportd.toml"
DSN = {"EXPORTD_DATABASE_DSN": "postgresql://exportd@db/product"}


def settings_of(text: str, folder: Path) -> Settings:
    config = folder / "exportd.toml"
    config.write_text(text)
    return load(config, check_rule=lambda _: [], environment=DSN)


def keys(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        for inner in models_in(field.annotation):
            yield from (f"{name}.{key}" for key in inner.model_fields)


def keys_in(text: str) -> set[str]:
    """The keys of the example, those in comments included."""
    found = set()
    section = ""
    for line in text.splitlines():
        if match := re.fullmatch(r"\[+(\w+)\]+", line):
            section = match[1]
        elif match := re.match(r"(?:# )?(\w+) = ", line):
            found.add(f"{section}.{match[1]}")
    return found


def test_the_reference_in_the_repository_is_the_schemas() -> None:
    written = (ROOT / "docs/configuration.md").read_text()
    assert written == render(), "run: make docs"


def test_the_reference_names_every_key() -> None:
    reference = render()
    for key in keys(Settings):
        assert f"| `{key.partition('.')[2]}` |" in reference


def test_the_example_loads() -> None:
    settings = load(EXAMPLE, check_rule=lambda _: [], environment=DSN)
    assert settings.catalog.file == ROOT / "config/entities.toml"
    assert [schedule.code for schedule in settings.schedule] == ["nightly", "often"]


def test_the_example_shows_every_key() -> None:
    assert keys_in(EXAMPLE.read_text()) == set(keys(Settings))


def test_what_the_example_comments_out_is_the_default(tmp_path: Path) -> None:
    text = EXAMPLE.read_text().split("[[destination]]")[0]
    shown = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    shown = "\n".join(line for line in shown.splitlines() if not line.startswith("dsn"))
    assert settings_of(shown, tmp_path) == settings_of("", tmp_path)
    example = EXAMPLE.read_text()
    spoken = re.sub(
        r"^# (partition_order|loader_kit|destinations|external_id|profile|checksum|encryption|kms_key|service_account)"
        r"( = )",
        r"\1\2",
        example,
        flags=re.MULTILINE,
    )
    assert spoken != example
    assert settings_of(spoken, tmp_path) == settings_of(example, tmp_path)
