"""A TOML document with the place of every key, so that each problem can say ``file:line: key: sentence``.

``tomllib`` reports only the line of a syntax error. The scanner reads a text that ``tomllib`` has accepted, and records
the line of every key, table and array item. It only needs to find the ends of values.
"""

import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from exportd.model.errors import Problem, SettingsError

KeyPath = tuple[str | int, ...]
"""The path to a value: keys, and indexes of array items from 0 (``("schedule", 0, "cron")``)."""

_BARE_KEY = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_BLANKS = frozenset(" \t")
_BLANKS_AND_LINE_ENDS = frozenset(" \t\r\n")
_SCALAR_ENDS = frozenset(",]}#\r\n")


@dataclass(frozen=True, slots=True)
class Lines:
    """The line (from 1) of every key path of one text."""

    by_path: Mapping[KeyPath, int]

    def of(self, path: KeyPath) -> int | None:
        """The line of the longest known beginning of ``path``; None when not even its first key is there.

        A missing key is reported where its table begins.
        """
        for length in range(len(path), 0, -1):
            line = self.by_path.get(path[:length])
            if line is not None:
                return line
        return None


def locate(text: str) -> Lines:
    """Finds the lines of a text that ``tomllib.loads`` accepts; ValueError, or some lines, for another text."""
    scanner = _Scanner(text)
    scanner.scan_document()
    return Lines(scanner.lines)


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._line_starts = [0, *(index + 1 for index, character in enumerate(text) if character == "\n")]
        self._tables_in: dict[KeyPath, int] = {}  # how many [[…]] tables an array has so far
        self.lines: dict[KeyPath, int] = {}

    def scan_document(self) -> None:
        table: KeyPath = ()
        while True:
            self._skip(_BLANKS_AND_LINE_ENDS)
            if not self._peek():
                return
            if self._peek() == "[":
                table = self._scan_header()
            else:
                self._scan_pair(table)

    def _scan_header(self) -> KeyPath:
        line = self._line()
        is_array = self._text.startswith("[[", self._position)
        brackets = 2 if is_array else 1
        self._position += brackets
        names = self._scan_dotted_key()
        self._position += brackets
        path: KeyPath = ()
        for name in names[:-1]:
            path = self._newest((*path, name))
            self.lines.setdefault(path, line)
        path = (*path, names[-1])
        if not is_array:
            self.lines[path] = line  # a table opened by [a.b] before [a] belongs to its own header
            return path
        self.lines.setdefault(path, line)
        self._tables_in[path] = self._tables_in.get(path, 0) + 1
        path = self._newest(path)
        self.lines[path] = line
        return path

    def _newest(self, path: KeyPath) -> KeyPath:
        """The path with indexes: inside an array of tables, a header means the table that was opened last."""
        tables = self._tables_in.get(path, 0)
        return (*path, tables - 1) if tables else path

    def _scan_pair(self, table: KeyPath) -> None:
        line = self._line()
        path = table
        for name in self._scan_dotted_key():
            path = (*path, name)
            self.lines.setdefault(path, line)
        if self._peek() != "=":
            raise ValueError(f"= is missing on line {self._line()}")
        self._position += 1
        self._skip(_BLANKS)
        self._scan_value(path)

    def _scan_dotted_key(self) -> list[str]:
        names = []
        while True:
            self._skip(_BLANKS)
            names.append(self._scan_key())
            self._skip(_BLANKS)
            if self._peek() != ".":
                return names
            self._position += 1

    def _scan_key(self) -> str:
        start = self._position
        if self._peek() in {'"', "'"}:
            self._scan_string()
            decoded: str = tomllib.loads(f"key = {self._text[start : self._position]}")["key"]
            return decoded
        self._skip(_BARE_KEY)
        if self._position == start:
            raise ValueError(f"there is no key on line {self._line()}")
        return self._text[start : self._position]

    def _scan_value(self, path: KeyPath) -> None:
        match self._peek():
            case '"' | "'":
                self._scan_string()
            case "[":
                self._scan_array(path)
            case "{":
                self._scan_inline_table(path)
            case _:
                self._scan_scalar()

    def _scan_scalar(self) -> None:
        start = self._position
        while self._peek() and self._peek() not in _SCALAR_ENDS:
            self._position += 1
        if self._position == start:  # an array would go on looking for its next item here, for ever
            raise ValueError(f"there is no value on line {self._line()}")

    def _scan_array(self, path: KeyPath) -> None:
        self._position += 1
        index = 0
        while self._next_item("]"):
            self.lines[(*path, index)] = self._line()
            self._scan_value((*path, index))
            index += 1

    def _scan_inline_table(self, path: KeyPath) -> None:
        self._position += 1
        while self._next_item("}"):
            self._scan_pair(path)

    def _next_item(self, closing: str) -> bool:
        """Skip to the next item of an array or inline table. Returns False after its end."""
        self._skip(_BLANKS_AND_LINE_ENDS)
        if self._peek() == ",":
            self._position += 1
            self._skip(_BLANKS_AND_LINE_ENDS)
        if not self._peek():
            raise ValueError(f"the text ends before {closing}")
        if self._peek() != closing:
            return True
        self._position += 1
        return False

    def _scan_string(self) -> None:
        quote = self._peek()
        if not self._text.startswith(quote * 3, self._position):
            self._position = self._closing(quote, self._position + 1) + 1
            return
        self._position = self._closing(quote * 3, self._position + 3) + 3
        for _ in range(2):  # up to two more quotes at the end belong to the content
            if self._peek() == quote:
                self._position += 1

    def _closing(self, quotes: str, position: int) -> int:
        while not self._text.startswith(quotes, position):
            if position >= len(self._text):
                raise ValueError(f"the text ends before {quotes}")
            escape = quotes[0] == '"' and self._text[position] == "\\"
            position += 2 if escape else 1
        return position

    def _skip(self, characters: frozenset[str]) -> None:
        """Skips these characters; comments too, where line ends are skipped."""
        while character := self._peek():
            if character in characters:
                self._position += 1
            elif character == "#" and "\n" in characters:
                end = self._text.find("\n", self._position)
                self._position = len(self._text) if end < 0 else end
            else:
                return

    def _peek(self) -> str:
        return self._text[self._position] if self._position < len(self._text) else ""

    def _line(self) -> int:
        return bisect_right(self._line_starts, self._position)


_PLACE = re.compile(r" \(at (?:line (?P<line>\d+), column \d+|end of document)\)$")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Document:
    """A TOML file. ``name`` is its path as the person wrote it, ``data`` what ``tomllib`` has read from its ``text``.

    All documents compare equal, so that equal settings from different files are equal.
    """

    name: str = field(compare=False)
    data: dict[str, Any] = field(compare=False, repr=False)
    text: str = field(default="", compare=False, repr=False)

    @cached_property
    def lines(self) -> Lines:
        """Computed for the first problem, because it takes longer than reading the file, and most files have none."""
        return locate(self.text)

    def tables(self, kind: str) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
        """Each ``[[kind]]`` with its key path. Items that are not tables are left out."""
        tables = self.data.get(kind)
        for index, table in enumerate(tables if isinstance(tables, list | tuple) else ()):
            if isinstance(table, dict):
                yield (kind, index), table

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
    """The problems in the order of the lines, file by file."""
    return sorted(problems, key=_place)


def format_path(path: KeyPath) -> str:
    """A key path in words: ``schedule[1].cron``."""
    shown = ""
    for step in path:
        if isinstance(step, int):
            shown += f"[{step}]"
        else:
            key = step if _BARE.fullmatch(step) else '"' + step.encode("unicode_escape").decode() + '"'
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
