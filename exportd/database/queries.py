"""Loads the named queries of ``queries/<file>.sql``, and what is common to their rows.

A block begins with ``-- name: fire_schedule``, goes on with comment lines (what it does, its parameters) and the
statement, and ends at the next ``-- name:``. What stands before the first block is a comment on the file. A module
keeps the queries of a file in a constant and names them where it uses them (``_SQL["fire_schedule"]``); a test checks
that every name exists and that every query is used.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from exportd.model.errors import InvariantError

Queries = Mapping[str, str]
"""The statements of one file, by name."""

_RowT = TypeVar("_RowT")

_NAME_LINE = re.compile(r"^--[ \t]*name:(?P<name>.*)$", re.MULTILINE)
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Row(Protocol):
    """A row of a query, by column: an asyncpg.Record or a mapping."""

    def __getitem__(self, column: str, /) -> Any: ...


def only_row(row: _RowT | None) -> _RowT:
    """The row of a statement that always returns one, such as a sum or a row that was just inserted or locked."""
    if row is None:
        raise InvariantError("a statement that always returns a row returned none")
    return row


@cache
def load(file: str) -> Queries:
    """The named queries of ``queries/<file>.sql``. Raises ValueError when it is malformed."""
    path = resources.files(__package__) / "queries" / f"{file}.sql"
    return parse(path.read_text(encoding="utf-8"), source=path.name)


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
