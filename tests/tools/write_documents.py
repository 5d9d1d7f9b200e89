"""Writes the files that are made from the code, for ``make docs``. Tests compare the files with it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import exportd.manifest.document
from tests.tools import catalog_reference, command_reference, configuration_reference

ROOT = Path(__file__).parents[2]

GENERATED: Mapping[str, Callable[[], str]] = {
    "exportd/cli/completion.json": command_reference.completion_table,
    "docs/catalog.md": catalog_reference.render,
    "docs/commands.md": command_reference.render,
    "docs/configuration.md": configuration_reference.render,
    "docs/manifest.schema.json": exportd.manifest.document.json_schema,
}
"""The files, and what makes them."""


def main() -> None:
    """Write all of them."""
    for page, render in GENERATED.items():
        (ROOT / page).write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
