"""Reads the configuration file into ``Settings``, or says everything that is wrong with it.

In: the path of a TOML file, and the environment (only ``EXPORTD_DATABASE_DSN`` is read). Out: immutable settings whose
paths are absolute and whose DSN is filled in: from the environment, from the file, or from the file that ``dsn_file``
names. On failure: SettingsError, which lists all problems with file and line.
"""

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import ValidationError

from exportd.model.entity import Entity, EntityCode, OrganizationId
from exportd.model.errors import InvariantError, Problem, SettingsError
from exportd.model.schedule import DestinationCode, ScheduleDeclaration
from exportd.settings.cross_checks import (
    CheckRule,
    check_entities,
    check_schedules_and_destinations,
    check_ways_in,
)
from exportd.settings.directory_checker import overlapping_directories
from exportd.settings.document import Document, parse, sorted_by_line
from exportd.settings.dsn import check_dsn
from exportd.settings.schema import ALL_ENTITIES, TABLES, CatalogSettings, ScheduleSettings, Settings
from exportd.settings.sentences import problems_of

DSN_VARIABLE = "EXPORTD_DATABASE_DSN"
"""The only environment variable that changes a setting."""

_UNUSED_DSN = "postgresql:///"
"""Replaces a DSN whose problem is reported already."""


class KnownEntities(Protocol):
    """The part of a catalog that the settings need."""

    @property
    def entities(self) -> Mapping[EntityCode, Entity]: ...


AnyCatalog = TypeVar("AnyCatalog", bound=KnownEntities)


def load(path: Path, *, check_rule: CheckRule, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of one file; SettingsError with every problem. The catalog is not read: see ``load_all``."""
    settings, _, problems = _load(read_document(path), path, check_rule, environment)
    return _settled(settings, problems)


def load_all(
    path: Path,
    *,
    check_rule: CheckRule,
    load_catalog: Callable[[Path], AnyCatalog],
    environment: Mapping[str, str] | None = None,
) -> tuple[Settings, AnyCatalog]:
    """The settings and the catalog that they name; SettingsError with every problem of both and between them."""
    document = read_document(path)
    settings, catalog_file, problems = _load(document, path, check_rule, environment)
    if settings is not None:
        problems += overlapping_directories(settings)
    catalog: AnyCatalog | None = None
    if catalog_file is not None:
        try:
            catalog = load_catalog(catalog_file)
        except SettingsError as error:
            problems += error.problems
        else:
            problems += check_entities(document, catalog.entities)
    settings = _settled(settings, problems)
    if catalog is None:
        raise InvariantError("settings without problems name a catalog")
    return settings, catalog


def declarations(settings: Settings, catalog: KnownEntities) -> tuple[ScheduleDeclaration, ...]:
    """The declared schedules; ``ALL`` becomes every entity of the catalog, in its order."""
    return tuple(
        ScheduleDeclaration(
            organization=OrganizationId(schedule.organization),
            code=schedule.code,
            name=schedule.name or schedule.code,
            entities=_entities(schedule, catalog),
            file_format=schedule.format,
            destinations=tuple(DestinationCode(code) for code in schedule.destinations),
            rule=schedule.rule,
        )
        for schedule in settings.schedule
    )


def _entities(schedule: ScheduleSettings, catalog: KnownEntities) -> tuple[EntityCode, ...]:
    if schedule.entities == (ALL_ENTITIES,):
        return tuple(catalog.entities)
    return tuple(EntityCode(code) for code in schedule.entities)


def read_document(path: Path) -> Document:
    """The parsed file; SettingsError when it cannot be read or is not TOML."""
    return parse(read_text(path), name=str(path))


def read_text(path: Path) -> str:
    """The text of a file; SettingsError when it is not there, not readable or not UTF-8."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise SettingsError.of("there is no such file; check the path", where=str(path)) from error
    except IsADirectoryError as error:
        raise SettingsError.of("is a directory; name the file in it", where=str(path)) from error
    except PermissionError as error:
        raise SettingsError.of("may not be read by this user; check owner and mode", where=str(path)) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise SettingsError.of(f"cannot be read: {error}", where=str(path)) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError.of(
            f"is not UTF-8 text (byte 0x{content[error.start]:02x}); save it as UTF-8", where=f"{path}:{line}"
        ) from error


def _fill_in_dsn(document: Document, *, folder: Path, environment: Mapping[str, str]) -> tuple[Any, list[Problem]]:
    """The ``database`` table with its DSN, from the environment, the file itself or ``dsn_file``."""
    section = document.data.get("database", {})
    if not isinstance(section, dict):
        return section, []
    problems = []
    if "dsn" in section and "dsn_file" in section:
        sentence = "give either dsn or dsn_file; remove one of them"
        problems.append(document.problem(("database", "dsn_file"), sentence, about=("database",)))
    section, found = _fill_in_reader(document, section, folder=folder)
    problems += found
    dsn: str | None = environment.get(DSN_VARIABLE)
    if dsn:
        problems += _dsn_problems(dsn, where=f"environment variable {DSN_VARIABLE}")
    elif "dsn" not in section and isinstance(section.get("dsn_file"), str):
        dsn, found = _read_dsn(document, folder / section["dsn_file"], "dsn_file")
        problems += found
    if not dsn:
        return section, problems
    return {**section, "dsn": dsn if not problems else _UNUSED_DSN}, problems


_READERS = ("reader_user", "reader_dsn", "reader_dsn_file")


def _fill_in_reader(
    document: Document, section: dict[str, Any], *, folder: Path
) -> tuple[dict[str, Any], list[Problem]]:
    """The ``database`` table with the second login's DSN, if ``reader_dsn_file`` names it."""
    given = [key for key in _READERS if section.get(key)]
    if len(given) > 1:
        sentence = f"give one of {', '.join(_READERS)}; remove {' and '.join(given[1:])}"
        return section, [document.problem(("database", given[1]), sentence, about=("database",))]
    if given != ["reader_dsn_file"] or not isinstance(section["reader_dsn_file"], str):
        return section, []
    dsn, problems = _read_dsn(document, folder / section["reader_dsn_file"], "reader_dsn_file")
    return {**section, "reader_dsn": dsn if not problems else _UNUSED_DSN}, problems


def _read_dsn(document: Document, path: Path, key: str) -> tuple[str, list[Problem]]:
    place = ("database", key)
    try:
        dsn = read_text(path).strip()
    except SettingsError as error:
        return _UNUSED_DSN, [document.problem(place, str(problem)) for problem in error.problems]
    if not dsn:
        return _UNUSED_DSN, [document.problem(place, f"{path} is empty; write the DSN into it")]
    if (mode := stat.S_IMODE(path.stat().st_mode)) & stat.S_IWOTH:
        sentence = f"every user of this machine can write {path} (mode {mode:04o}), and decide where to connect"
        return _UNUSED_DSN, [document.problem(place, f"{sentence}: chmod o= {path}")]
    if "\n" in dsn:
        return _UNUSED_DSN, [document.problem(place, f"{path} should hold nothing but the DSN, in one line")]
    return dsn, _dsn_problems(dsn, where=str(path))


def _dsn_problems(dsn: str, *, where: str) -> list[Problem]:
    try:
        check_dsn(dsn)
    except ValueError as error:
        return [Problem(where, str(error))]
    return []


def _load(
    document: Document, path: Path, check_rule: CheckRule, environment: Mapping[str, str] | None
) -> tuple[Settings | None, Path | None, list[Problem]]:
    """Read the file. Returns the settings (None when a key is wrong), the catalog's file if it is known, and the
    problems.
    """
    folder = path.absolute().parent
    data = {**{name: {} for name in TABLES}, **document.data}
    environment = os.environ if environment is None else environment
    database, problems = _fill_in_dsn(document, folder=folder, environment=environment)
    data["database"] = database
    settings = None
    try:
        settings = Settings.from_document(document, data=data, folder=folder)
    except ValidationError as error:
        problems += problems_of(error, document=document, model=Settings)
    problems += check_schedules_and_destinations(document, check_rule=check_rule)
    problems += check_ways_in(document)
    return settings, _catalog_file(data, folder), problems


def _settled(settings: Settings | None, problems: list[Problem]) -> Settings:
    if problems or settings is None:
        raise SettingsError(sorted_by_line(problems))
    return settings


def _catalog_file(data: dict[str, Any], folder: Path) -> Path | None:
    try:
        return CatalogSettings.model_validate(data["catalog"], context={"folder": folder}).file
    except ValidationError:
        return None
