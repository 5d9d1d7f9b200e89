"""Sizes as people write them: ``"6 GB"`` is 6,000,000,000 bytes, ``"512 MiB"`` is 512 × 2²⁰."""

import re
from decimal import Decimal

_UNITS = {"B": 1}
_UNITS |= {f"{prefix}B": 1000**power for power, prefix in enumerate("KMGTP", start=1)}
_UNITS |= {f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGTP", start=1)}
_BY_LOWER_CASE = {unit.lower(): factor for unit, factor in _UNITS.items()}

_SIZE = re.compile(r"(?P<number>[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?)\s*(?P<unit>[A-Za-z]*)")
_EXAMPLE = 'write a number of bytes or a text such as "6 GB" or "512 MiB"'


def parse_size(value: object) -> int:
    """Bytes from an integer or a text; ValueError with a sentence for everything else, zero and less
    included.
    """
    match value:
        case str():
            size_bytes = _parse_text(value)
        case int() if not isinstance(value, bool):
            size_bytes = value
        case _:
            raise ValueError(f"should be a size: {_EXAMPLE}")
    if size_bytes <= 0:
        raise ValueError(f"should be more than zero bytes: {_EXAMPLE}")
    return size_bytes


def format_size(size_bytes: int) -> str:
    """The shortest exact way to write a size, such as ``6 GB``."""
    for unit, factor in sorted(_UNITS.items(), key=lambda item: -item[1]):
        if size_bytes >= factor and size_bytes % factor == 0:
            return f"{size_bytes // factor} {unit}"
    return f"{size_bytes} B"


def _parse_text(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"should be a size: {_EXAMPLE}")
    unit = match["unit"]
    if not unit:
        return _whole(Decimal(match["number"]))
    factor = _BY_LOWER_CASE.get(unit.lower())
    if factor is None:
        raise ValueError(f"has the unknown unit {unit}: use one of {', '.join(_UNITS)}")
    return _whole(Decimal(match["number"]) * factor)


def _whole(size: Decimal) -> int:
    if size != size.to_integral_value():
        raise ValueError("should be a whole number of bytes")
    return int(size)
