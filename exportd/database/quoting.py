"""Quotes identifiers and literals and writes comments: the only place that does.

What cannot be a parameter (a table in COPY, a name in CREATE TRIGGER) is quoted here, always, so that a name with a
quote, a capital or a keyword in it means exactly that name. Text that is printed for people goes through ``comment``:
owners choose the names of tables and triggers, and a line break in a name would turn the rest of it into SQL.
"""

from collections.abc import Iterable

from exportd.model.entity import TableName
from exportd.model.foreign_text import shown


def identifier(name: str) -> str:
    """The name as a double-quoted identifier. Raises ValueError for an empty name and for a NUL character."""
    if not name:
        raise ValueError("an identifier cannot be empty")
    _refuse_nul(name)
    return '"' + name.replace('"', '""') + '"'


def table(name: TableName) -> str:
    """The table with its schema, both quoted."""
    return f"{identifier(name.schema)}.{identifier(name.name)}"


def literal(value: str) -> str:
    """The text as a string constant that means the same whatever ``standard_conforming_strings`` says.

    Raises ValueError for a NUL character, which no text in Postgres can hold.
    """
    _refuse_nul(value)
    quoted = value.replace("'", "''")
    if "\\" in quoted:
        return "E'" + quoted.replace("\\", "\\\\") + "'"
    return f"'{quoted}'"


def array(values: Iterable[str]) -> str:
    """The texts in the form of a ``text[]`` value of Postgres: one parameter for thousands of texts.

    Raises ValueError for a NUL character.
    """
    text = ",".join('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values)
    _refuse_nul(text)
    return f"{{{text}}}"


def dollar_quoted(value: str) -> str:
    """The text as a dollar-quoted constant, which leaves a function's body readable. Raises ValueError for NUL."""
    _refuse_nul(value)
    tag, number = "$exportd$", 1
    while tag in value:
        number += 1
        tag = f"$exportd{number}$"
    # A text that ends within the tag ("…$exportd") would end the constant early.
    return f"{tag}{value}{tag}" if not value.endswith(tag[:-1]) else literal(value)


_COMMENT = "-- "


def comment(text: str) -> str:
    """The text as one comment line, without its line end. What is not printable (a line break) is shown escaped."""
    return _COMMENT + shown(text)


def is_comment(statement: str) -> bool:
    """Whether it is what ``comment`` gives."""
    return statement.startswith(_COMMENT)


def _refuse_nul(text: str) -> None:
    if "\0" in text:
        raise ValueError("a NUL character cannot be part of a name or text in Postgres")
