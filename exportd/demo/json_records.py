"""Reads JSON lines into the same cells as CSV: each value's text, None for null. Pure.

Numbers keep their digits. Objects and lists become the text that Postgres gives to equal ``jsonb``, so that white
space and the order of names do not matter.
"""

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any


class _Number(str):
    """A number as it is written."""

    __slots__ = ()


_DECODER = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_Number)


def cells(line: str, names: Sequence[str]) -> list[str | None]:
    """The values of a record in the order of ``names``.

    Raises ValueError when the line is no object with exactly these names in this order.
    """
    record = _DECODER.decode(line)
    if not isinstance(record, dict) or list(record) != names:
        raise ValueError(f"the line is not an object with the expected names: {line[:100]!r}")
    return [value if value is None or isinstance(value, str) else _jsonb(value) for value in record.values()]


def _jsonb(value: Any) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{_string(name)}: {_jsonb(value[name])}" for name in sorted(value, key=_rank)) + "}"
        case list():
            return "[" + ", ".join(map(_jsonb, value)) + "]"
        case _Number():
            return _number(value)
        case str():
            return _string(value)
        case None:
            return "null"
        case _:
            return "true" if value else "false"


def _rank(name: str) -> tuple[int, bytes]:
    encoded = name.encode()
    return len(encoded), encoded


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _number(digits: str) -> str:
    if "e" in digits or "E" in digits:
        digits = format(Decimal(digits), "f")
    return digits.removeprefix("-") if digits.startswith("-0") and not digits.strip("-0.") else digits
