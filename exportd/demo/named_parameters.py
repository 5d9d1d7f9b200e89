"""Statements with parameters by name: ``:bills`` instead of ``$7``. Pure."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

Value = int | str | UUID | datetime | Sequence[UUID] | Sequence[str]

_NAME = re.compile(r"(?<![:\w]):([a-z]\w*)")


def bind(statement: str, values: Mapping[str, Value]) -> tuple[str, list[Value]]:
    """The statement with numbered, typed parameters, and the values in their order; unused ones are left out.

    KeyError for a parameter without a value. A colon inside of a literal must not be followed by a small letter.
    """
    order: dict[str, int] = {}

    def numbered(match: re.Match[str]) -> str:
        name = match[1]
        number = order.setdefault(name, len(order) + 1)
        return f"${number}::{_type(values[name])}"

    text = _NAME.sub(numbered, statement)
    return text, [values[name] for name in order]


def _type(value: Value) -> str:
    match value:
        case int():
            return "bigint"
        case str():
            return "text"
        case UUID():
            return "uuid"
        case datetime():
            return "timestamptz"
        case [UUID(), *_]:
            return "uuid[]"
        case _:
            return "text[]"
