"""The base of all tables of the configuration: strictness, the kinds of values, and the metadata of a setting.

Pure. Sizes are written as people write them: ``"6 GB"`` is 6,000,000,000 bytes, ``"512 MiB"`` is 512 × 2²⁰.
"""

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from exportd.model.foreign_text import (
    MAX_CODE_LENGTH,
    MAX_ENTITIES,
    MAX_NAME_LENGTH,
    MAX_NAMES,
    MAX_PATH_LENGTH,
    MAX_SIZE_BYTES,
    MAX_TEXT_LENGTH,
    check_code,
    check_name,
    check_organization,
)

_UNITS = {"B": 1}
_UNITS |= {f"{prefix}B": 1000**power for power, prefix in enumerate("KMGTP", start=1)}
_UNITS |= {f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGTP", start=1)}
_BY_LOWER_CASE = {unit.lower(): factor for unit, factor in _UNITS.items()}

_SIZE = re.compile(r"(?P<number>[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?)\s*(?P<unit>[A-Za-z]*)")
_EXAMPLE = 'write a number of bytes or a text such as "6 GB" or "512 MiB"'

_HOST_AND_PORT = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9.-]+)):(?P<port>[0-9]{1,5})")

_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_STANDARD_HEADERS = {
    *("accept", "accept-encoding", "accept-language", "authorization", "connection", "content-length", "content-type"),
    *("cookie", "expect", "host", "origin", "range", "referer", "transfer-encoding", "user-agent"),
}

Item = TypeVar("Item")


class Section(BaseModel):
    """A table of the configuration: unknown keys are errors, a text is never taken for a number, and has a bound."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        validate_default=True,
        str_max_length=MAX_TEXT_LENGTH,
    )


class Effect(StrEnum):
    """When a reload puts a new value into effect."""

    AT_ONCE = "at once"
    NEXT_JOB = "next job"
    """A running job keeps the value with which it began."""
    RESTART = "restart"
    """The daemon keeps the old value until it is started again."""
    LOGIN_AT_ONCE = "at once; restart for another database"
    """For a DSN: another user or password is used at once, another server or database after a restart."""


class Scope(StrEnum):
    """Whether the daemons of one database may have different values of a setting.

    Any daemon may run any job with its own settings. So settings that decide the content of exports, how long things
    are kept and what the triggers do have to be the same for all of them.
    """

    HOST = "host"
    """May differ: what a host can do, where its files are, who may log in there."""
    DATABASE = "database"
    """Has to be the same for all daemons of the database; they report it when it is not."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The metadata of a key, in its annotation. Each key has exactly one."""

    effect: Effect
    scope: Scope


def check_listen(text: str) -> str:
    """``host:port`` or empty; ValueError otherwise."""
    if text:
        split_listen(text)
    return text


def split_listen(text: str) -> tuple[str, int]:
    """Host and port of ``127.0.0.1:8443`` or ``[::1]:8443``. Raises ValueError with a sentence."""
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise ValueError('should be an address and a port, such as "127.0.0.1:8443"')
    return match["v6"] or match["host"], int(match["port"])


def is_loopback(text: str) -> bool:
    """Whether only this machine can reach a ``host:port``."""
    host, _ = split_listen(text)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_header(text: str) -> str:
    """The name of a header that has no meaning of its own; or empty. ValueError otherwise."""
    if text and not (_HEADER.fullmatch(text) and len(text) <= MAX_NAME_LENGTH):
        raise ValueError('should be the name of a header, such as "X-Forwarded-Email"')
    if text.lower() in _STANDARD_HEADERS or text.lower().startswith(("sec-", "x-exportd-")):
        raise ValueError('means something else: choose a header of the proxy\'s own, such as "X-Forwarded-Email"')
    return text


def check_public_url(text: str) -> str:
    """A URL without query or fragment, without a slash at its end; or empty. ValueError otherwise."""
    if not text:
        return text
    try:
        parts = urlsplit(text)
        known = parts.scheme in {"http", "https"} and parts.hostname and not parts.query and not parts.fragment
    except ValueError:
        known = False
    if not known or not text.isprintable() or " " in text:
        raise ValueError('should be a URL such as "https://exports.example.com"')
    return text.rstrip("/")


def parse_size(value: object) -> int:
    """Bytes from an integer or a text; ValueError with a sentence for everything else, zero and less included."""
    match value:
        case str():
            size_bytes = _parse_text(value)
        case int() if not isinstance(value, bool):
            size_bytes = value
        case _:
            raise ValueError(f"should be a size: {_EXAMPLE}")
    if size_bytes <= 0:
        raise ValueError(f"should be more than zero bytes: {_EXAMPLE}")
    if size_bytes > MAX_SIZE_BYTES:
        raise ValueError(f"should be less than 8 EiB: {_EXAMPLE}")
    return size_bytes


def format_size(size_bytes: int) -> str:
    """The shortest exact way to write a size, such as ``6 GB``."""
    for unit, factor in sorted(_UNITS.items(), key=lambda item: -item[1]):
        if size_bytes >= factor and size_bytes % factor == 0:
            return f"{size_bytes // factor} {unit}"
    return f"{size_bytes} B"


def _parse_text(text: str) -> int:
    match = _SIZE.fullmatch(text.strip()) if len(text) <= MAX_NAME_LENGTH else None
    if match is None:
        raise ValueError(f"should be a size: {_EXAMPLE}")
    factor = _BY_LOWER_CASE.get(match["unit"].lower() or "b")
    if factor is None:
        raise ValueError(f"has the unknown unit {match['unit']}: use one of {', '.join(_UNITS)}")
    size = Fraction(match["number"]) * factor
    if size.denominator != 1:
        raise ValueError("should be a whole number of bytes")
    return int(size)


def _absolute(value: object, info: ValidationInfo) -> object:
    """Make a path absolute. It is relative to the configuration file's folder, which the loader passes as the
    context.
    """
    match value:
        case Path():
            path = value
        case str() if value.startswith("~"):
            raise ValueError("should be a whole path: ~ is not expanded here")
        case str() if len(value) > MAX_PATH_LENGTH:
            raise ValueError(f"should have at most {MAX_PATH_LENGTH} characters, but has {len(value)}")
        case str() if value and "\x00" not in value:
            path = Path(value)
        case _:
            raise ValueError("should be a path in quotes")
    folder = (info.context or {}).get("folder")
    return path if folder is None else folder / path


def check_not_empty(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """At least one item; pydantic's own check does not count those that have a problem."""
    if not items:
        raise ValueError("should have at least one item, but is empty")
    return items


def _absolute_if_given(value: object, info: ValidationInfo) -> object:
    return None if value is None or value == "" else _absolute(value, info)


FilePath = Annotated[Path, BeforeValidator(_absolute)]
OptionalFilePath = Annotated[Path | None, BeforeValidator(_absolute_if_given)]
SizeBytes = Annotated[int, BeforeValidator(parse_size)]
Code = Annotated[str, AfterValidator(check_code)]
Organization = Annotated[str, AfterValidator(check_organization)]
Name = Annotated[str, AfterValidator(check_name)]
BoundedCode = Annotated[str, Field(max_length=MAX_CODE_LENGTH)]
"""A code that is only looked up, so only its length is checked."""

Names = Annotated[
    tuple[Annotated[str, Field(max_length=MAX_NAME_LENGTH)], ...], Field(strict=False, max_length=MAX_NAMES)
]
"""Names of groups, hosts and the like."""

EntityNames = Annotated[tuple[BoundedCode, ...], Field(strict=False, max_length=MAX_ENTITIES)]
