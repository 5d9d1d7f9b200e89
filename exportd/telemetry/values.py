"""Makes the values of an event plain enough for JSON, and free of secrets. Pure."""

import math
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import date, timedelta
from enum import Enum
from functools import singledispatch
from pathlib import PurePath
from types import NoneType
from typing import Any
from uuid import UUID

from structlog.typing import EventDict, WrappedLogger

from exportd.model.foreign_text import logged, shown
from exportd.settings.secrets import MASK, mask_secrets, names_a_secret

_TRACEBACKS = {"exception", "stack"}

_MIN_SECRET_LENGTH = 4
"""A shorter one is masked only where its place marks it as a secret (in a DSN, say): replacing it everywhere would
garble every text."""


def plain_values(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """A structlog processor: ids, paths, times, enums, errors and collections become what JSON knows."""
    return {key: _plain(value) for key, value in event.items()}


def one_line_values(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """A structlog processor for lines that people read: no value but a traceback breaks its line."""
    return {
        key: shown(value) if isinstance(value, str) and key not in _TRACEBACKS else value
        for key, value in event.items()
    }


class SecretMask:
    """A structlog processor: masks passwords in DSNs, values of keys like ``password``, and the given secrets."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # The longest first: one secret may be a part of another.
        self._secrets = sorted(
            {secret for secret in secrets if len(secret) >= _MIN_SECRET_LENGTH}, key=len, reverse=True
        )

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """The event without secrets."""
        return {key: self._masked(key, value) for key, value in event.items()}

    def _masked(self, key: str, value: Any) -> Any:
        if names_a_secret(key) and value is not None:
            return MASK
        match value:
            case str():
                return self._masked_text(value)
            case list():
                return [self._masked("", item) for item in value]
            case dict():
                return {self._masked_text(name): self._masked(name, item) for name, item in value.items()}
            case _:
                return value

    def _masked_text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return mask_secrets(text)


@singledispatch
def _plain(value: object) -> Any:
    return _plain_text(repr(value))


@_plain.register
def _plain_text(value: str) -> Any:
    # Also lone surrogates (a file name that is not UTF-8), which cannot be written.
    return logged(str(value))


@_plain.register(NoneType)
@_plain.register(int)
def _plain_as_it_is(value: object) -> Any:
    return value.value if isinstance(value, Enum) else value  # an IntEnum is an int first


@_plain.register
def _plain_float(value: float) -> Any:
    return value if math.isfinite(value) else str(value)


@_plain.register
def _plain_enum(value: Enum) -> Any:
    return _plain(value.value)


@_plain.register(UUID)
@_plain.register(PurePath)
@_plain.register(timedelta)
def _plain_by_name(value: object) -> Any:
    return _plain_text(str(value))


@_plain.register
def _plain_time(value: date) -> Any:
    return value.isoformat()


@_plain.register
def _plain_error(value: BaseException) -> Any:
    return _plain_text(f"{type(value).__name__}: {value}")


@_plain.register(bytes)
@_plain.register(bytearray)
def _plain_bytes(value: bytes | bytearray) -> Any:
    return f"{len(value)} bytes"


@_plain.register(Mapping)
def _plain_mapping(value: Mapping[object, object]) -> Any:
    return {str(_plain(name)): _plain(item) for name, item in value.items()}


@_plain.register(list)
@_plain.register(tuple)
def _plain_list(value: list[object] | tuple[object, ...]) -> Any:
    return [_plain(item) for item in value]


@_plain.register(set)
@_plain.register(frozenset)
def _plain_set(value: AbstractSet[object]) -> Any:
    return sorted((_plain(item) for item in value), key=str)
