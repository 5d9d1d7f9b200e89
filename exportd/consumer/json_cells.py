"""Converts JSONL to CSV without loss: numbers keep their digits, objects and lists their exact text. Pure.

JSON readers, including DuckDB's, convert numbers to machine numbers. Here only strings are decoded, null becomes an
empty cell, and everything else is copied as it is written.
"""

import json
import re
from collections.abc import Collection, Sequence

_SPACE = r"[ \t\r\n]*+"
_STRING = r'"(?:[^"\\]++|\\.)*+"'
_NAME = re.compile(rf"{_SPACE}({_STRING}){_SPACE}:{_SPACE}")
_STRING_VALUE = re.compile(_STRING)
_PLAIN_VALUE = re.compile(r"[^,}\]\s]++")
_BRACKETS = re.compile(rf"{_STRING}|([{{\[])|([}}\]])")
_NEXT = re.compile(rf"{_SPACE}([,}}])")


def csv_record(line: str, names: Sequence[str], documents: Collection[str] = ()) -> str:
    """The record as a line of CSV, its cells in the order of ``names``; those of ``documents`` are JSON, as in CSV.

    Raises ValueError when the line is no object with exactly these names in this order.
    """
    found: list[str] = []
    cells: list[str] = []
    position = line.find("{") + 1
    while position:
        name = _matched(_NAME, line, position)
        start = name.end()
        end = _end_of_value(line, start)
        found.append(_decoded(name[1]))
        cells.append(_cell(line[start:end], is_document=found[-1] in documents))
        separator = _matched(_NEXT, line, end)
        if separator[1] == "}":
            break
        position = separator.end()
    if found != list(names):
        raise ValueError(f"the record does not have the fields of its manifest: {line[:100]!r}")
    return ",".join(cells) + "\n"


def csv_header(names: Sequence[str]) -> str:
    """The header line of such a file."""
    return ",".join(_quoted(name) for name in names) + "\n"


def _end_of_value(line: str, start: int) -> int:
    first = line[start : start + 1]
    if first == '"':
        return _matched(_STRING_VALUE, line, start).end()
    if first not in {"{", "["}:
        return _matched(_PLAIN_VALUE, line, start).end()
    depth = 0
    for bracket in _BRACKETS.finditer(line, start):
        depth += (bracket[1] is not None) - (bracket[2] is not None)
        if depth == 0:
            return bracket.end()
    raise ValueError(f"the record ends inside of a value: {line[:100]!r}")


def _cell(value: str, *, is_document: bool) -> str:
    if value == "null":
        return ""
    return _quoted(_decoded(value) if value.startswith('"') and not is_document else value)


def _decoded(literal: str) -> str:
    # Most strings have no escapes. The decoder, which also refuses control characters, would take half of the time.
    return literal[1:-1] if "\\" not in literal and literal.isprintable() else str(json.loads(literal))


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _matched(pattern: re.Pattern[str], line: str, position: int) -> re.Match[str]:
    match = pattern.match(line, position)
    if match is None:
        raise ValueError(f"the line is no JSON object at character {position}: {line[:100]!r}")
    return match
