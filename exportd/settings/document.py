"""A TOML document with the place of every key, so that each problem can say ``file:line: key: sentence``."""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from exportd.model.errors import Problem, SettingsError
from exportd.settings.lines import KeyPath, Lines, locate

_PLACE = re.compile(r" \(at (?:line (?P<line>\d+), column \d+|end of document)\)$")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Document:
    """``name`` is the file as the person named it, ``data`` what ``tomllib`` read from its ``text``.

    Documents compare equal whatever they hold, so that equal settings from different files are equal.
    """

    name: str = field(compare=False)
    data: dict[str, Any] = field(compare=False, repr=False)
    text: str = field(default="", compare=False, repr=False)

    @cached_property
    def lines(self) -> Lines:
        """Found with the first problem: that takes longer than reading the file, and most files have no problem."""
        return locate(self.text)

    def where(self, path: KeyPath) -> str:
        """``file:line`` of a key path (or of the nearest thing around it)."""
        line = self.lines.of(path)
        return self.name if line is None else f"{self.name}:{line}"

    def problem(self, path: KeyPath, sentence: str, *, about: KeyPath | None = None) -> Problem:
        """A problem at the line of ``path``, whose sentence names ``about`` instead when that is given."""
        subject = path if about is None else about
        return Problem(self.where(path), f"{format_path(subject)}: {sentence}" if subject else sentence)


def parse(text: str, *, name: str) -> Document:
    """Reads a TOML text; a syntax error is a SettingsError with its line."""
    try:
        data = tomllib.loads(text)
    except RecursionError as error:
        raise SettingsError.of("is nested too deeply to be read", where=name) from error
    except ValueError as error:  # TOMLDecodeError, and an integer of thousands of digits
        raise SettingsError([_syntax_problem(error, name=name, text=text)]) from error
    return Document(name, data, text)


def sorted_by_line(problems: Iterable[Problem]) -> list[Problem]:
    """In the order in which a person meets them, file by file."""
    return sorted(problems, key=_place)


def format_path(path: KeyPath) -> str:
    """A key path as a person reads it: ``schedule[1].cron``."""
    shown = ""
    for step in path:
        if isinstance(step, int):
            shown += f"[{step}]"
        else:
            key = step if _BARE_KEY.fullmatch(step) else '"' + step.encode("unicode_escape").decode() + '"'
            shown += f".{key}" if shown else key
    return shown


def _place(problem: Problem) -> tuple[str, int]:
    name, _, line = problem.where.rpartition(":")
    return (name, int(line)) if line.isdecimal() else (problem.where, 0)


def _syntax_problem(error: ValueError, *, name: str, text: str) -> Problem:
    message = str(error)
    place = _PLACE.search(message)
    if place is None:
        return Problem(name, f"is not valid TOML: {message}")
    line = int(place["line"]) if place["line"] else text.count("\n") + 1
    return Problem(f"{name}:{line}", f"is not valid TOML: {message[: place.start()]}")
