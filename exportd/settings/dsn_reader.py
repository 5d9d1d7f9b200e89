"""Finds the database's DSN: in the environment, in the configuration file, or in the file that it names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exportd.model.errors import Problem, SettingsError
from exportd.settings.document import Document
from exportd.settings.reader import read_text
from exportd.settings.schema import check_dsn

DSN_VARIABLE = "EXPORTD_DATABASE_DSN"
"""The only environment variable that changes a setting."""

_UNUSED_DSN = "postgresql:///"
"""Stands in for a DSN whose problem is reported already."""


def fill_in_dsn(document: Document, *, folder: Path, environment: Mapping[str, str]) -> tuple[Any, list[Problem]]:
    """The ``database`` table with its DSN, from the environment, the file itself or ``dsn_file``."""
    section = document.data.get("database", {})
    if not isinstance(section, dict):
        return section, []
    problems = []
    if "dsn" in section and "dsn_file" in section:
        sentence = "give either dsn or dsn_file; remove one of them"
        problems.append(document.problem(("database", "dsn_file"), sentence, about=("database",)))
    dsn: str | None = environment.get(DSN_VARIABLE)
    if dsn:
        problems += _dsn_problems(dsn, where=f"environment variable {DSN_VARIABLE}")
    elif "dsn" not in section and isinstance(section.get("dsn_file"), str):
        dsn, found = _read_dsn(document, folder / section["dsn_file"])
        problems += found
    if not dsn:
        return section, problems
    return {**section, "dsn": dsn if not problems else _UNUSED_DSN}, problems


def _read_dsn(document: Document, path: Path) -> tuple[str, list[Problem]]:
    place = ("database", "dsn_file")
    try:
        dsn = read_text(path).strip()
    except SettingsError as error:
        return _UNUSED_DSN, [document.problem(place, str(problem)) for problem in error.problems]
    if not dsn:
        return _UNUSED_DSN, [document.problem(place, f"{path} is empty; write the DSN into it")]
    if "\n" in dsn:
        return _UNUSED_DSN, [document.problem(place, f"{path} should hold nothing but the DSN, in one line")]
    return dsn, _dsn_problems(dsn, where=str(path))


def _dsn_problems(dsn: str, *, where: str) -> list[Problem]:
    try:
        check_dsn(dsn)
    except ValueError as error:
        return [Problem(where, str(error))]
    return []
