"""Loads the named queries of a station from ``queries/<station>.sql``.

A block begins with ``-- name: fire_schedule``, goes on with comment lines (what it does, its parameters) and
the statement, and ends at the next ``-- name:``. What stands before the first block is a comment on the
file. Stations assign the queries to module constants, so that an unknown name fails at import.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

Queries = Mapping[str, str]
"""The statements of one station, by name."""

_NAME_LINE = re.compile(r"^--[ \t]*name:(?P<name>.*)$", re.MULTILINE)
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@cache
def load(station: str) -> Queries:
    """The named queries of a station. Raises ValueError when its file is malformed."""
    path = resources.files(__package__) / "queries" / f"{station}.sql"
    return parse(path.read_text(encoding="utf-8"), source=f"{station}.sql")


def stations() -> tuple[str, ...]:
    """The stations that have queries, in alphabetical order."""
    names = (path.name for path in (resources.files(__package__) / "queries").iterdir())
    return tuple(sorted(name.removesuffix(".sql") for name in names if name.endswith(".sql")))


def parse(text: str, *, source: str) -> Queries:
    """The named statements of a file's text, without the comments around them and the closing semicolon.

    Raises ValueError, naming ``source``, for a bad or repeated name and for a block without a statement.
    """
    starts = list(_NAME_LINE.finditer(text))
    if _statement(text[: starts[0].start() if starts else len(text)]):
        raise ValueError(f"{source}: a statement stands before the first '-- name:' line")
    ends = [start.start() for start in starts[1:]] + [len(text)]
    statements: dict[str, str] = {}
    for start, end in zip(starts, ends, strict=True):
        name = start["name"].strip()
        if not _NAME.fullmatch(name):
            raise ValueError(f"{source}: {name!r} is no name for a query; use lower case and underscores")
        if name in statements:
            raise ValueError(f"{source}: two queries are named {name}")
        statements[name] = _statement(text[start.end() : end])
        if not statements[name]:
            raise ValueError(f"{source}: the query {name} has no statement")
    return MappingProxyType(statements)


def _statement(block: str) -> str:
    """The block without leading and trailing comment lines; comments inside the statement stay."""
    lines = block.strip().splitlines()
    while lines and _is_comment(lines[0]):
        del lines[0]
    while lines and _is_comment(lines[-1]):
        del lines[-1]
    return "\n".join(lines).strip().removesuffix(";").rstrip()


def _is_comment(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("--")
