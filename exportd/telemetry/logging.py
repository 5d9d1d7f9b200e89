"""The daemon's log: structlog events as lines for people or JSON for programs, never with a secret.

Events are short fixed phrases (``job finished``); everything that varies is a key. The subject of some work is bound
once with ``bound(...)``. Then it is in every event of that task and its children, including those that libraries log
through the standard ``logging`` module. Values are converted to types that JSON knows.
"""

import logging
import math
import os
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from contextlib import suppress
from datetime import date, timedelta
from enum import Enum
from pathlib import PurePath
from typing import Any, Literal, TextIO, cast, get_args
from uuid import UUID

import stamina
import structlog
from stamina.instrumentation import RetryDetails
from structlog.typing import EventDict, Processor, WrappedLogger

from exportd.model.foreign_text import MASK, logged, mask_secrets, names_a_secret, shown

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "console", "json"]

_CHATTY_LIBRARIES = ("asyncio", "asyncpg", "botocore", "aiobotocore", "aiohttp", "google", "gcloud", "urllib3")
"""Messages of these libraries below a warning do not help operators, and some contain credentials."""

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "warn": 4, "error": 3, "exception": 3, "critical": 2, "fatal": 2}
"""Syslog's numbers for the levels, as journald reads them at the beginning of a line."""

_TRACEBACKS = {"exception", "stack"}

_MIN_SECRET_LENGTH = 4
"""A shorter secret is masked only where its place marks it as one (in a DSN, for example), because replacing it
everywhere would garble every text.
"""

_streams: "list[LogStream]" = []
"""The streams to which this process has logged. The last one is in use."""

_SILENCED = ("asyncpg.pool", "botocore.credentials", "aiobotocore.credentials")
"""Loggers that write a traceback at each retry when a database or a role is missing, which exportd's own events report.
"""


def configure(*, level: Level, line_format: Format, stream: TextIO | None = None, secrets: Iterable[str] = ()) -> None:
    """Sets up logging for the whole process, structlog's and the standard library's alike.

    ``stream`` is standard error by default; ``auto`` means ``console`` when it is a terminal. ``secrets``, such as the
    database's password, are masked wherever they occur. Lines for journald begin with their priority.
    """
    target = sys.stderr if stream is None else stream
    out = LogStream(target)
    _streams.append(out)
    threshold = logging.getLevelNamesMapping()[level.upper()]
    for_people: list[Processor] = [
        one_line_values,
        structlog.dev.ConsoleRenderer(
            colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback, sort_keys=False
        ),
    ]
    for_programs: list[Processor] = [structlog.processors.JSONRenderer(ensure_ascii=False)]
    enrich: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: list[Processor] = [
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        plain_values,
        SecretMask(secrets),
        *(for_people if line_format == "console" or (line_format == "auto" and out.isatty()) else for_programs),
    ]
    if is_journal(target, os.environ):
        render.append(journal_prefix)
    structlog.configure(
        processors=[*enrich, *render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, out)),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(cast(TextIO, out))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*enrich, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    _set_thresholds(threshold)


def dropped_lines() -> int:
    """How many lines this process could not write."""
    return sum(stream.dropped for stream in _streams)


def level() -> Level:
    """The least important level that is logged now."""
    name = logging.getLevelName(logging.getLogger().level).lower()
    return next((known for known in get_args(Level) if known == name), "info")


def set_level(wanted: Level) -> None:
    """Log from another level on, exportd's own events and those of libraries."""
    threshold = logging.getLevelNamesMapping()[wanted.upper()]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(threshold))
    _set_thresholds(threshold)


def _set_thresholds(threshold: int) -> None:
    logging.getLogger().setLevel(threshold)
    for library in _CHATTY_LIBRARIES:
        logging.getLogger(library).setLevel(max(threshold, logging.WARNING))
    _silence()
    # Without stamina's default hooks, one of which keeps its figures in a global registry.
    stamina.instrumentation.set_on_retry_hooks([_log_retry])


def leave_it_to_the_command() -> None:
    """Log only warnings, to standard error, without retries and messages of libraries.

    A command prints its own sentences, and standard output is only for its answer.
    """
    _silence()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    stamina.instrumentation.set_on_retry_hooks(())


def _silence() -> None:
    for library in _SILENCED:
        logging.getLogger(library).setLevel(logging.CRITICAL)


def _log_retry(details: RetryDetails) -> None:
    structlog.get_logger().debug("trying again", error=str(details.caused_by), after_s=round(details.wait_for, 2))


class LogStream:
    """Writes lines to ``stream`` and never raises. ``dropped`` is how many could not be written.

    The reader of a pipe may go away, and the disk of a file may be full. Each line is written by one call without
    Python's own buffer, which would keep what it could not write and fail again with every later line.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._descriptor = _descriptor(stream)
        self.dropped = 0

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        try:
            return self._stream.isatty()
        except (OSError, ValueError):
            return False

    def write(self, text: str) -> int:
        """Write whole lines, or count them as dropped; returns the number of characters that were given."""
        try:
            if self._descriptor is None:
                self._stream.write(text)
            else:
                _write_all(self._descriptor, text.encode("utf-8", "backslashreplace"))
        except (OSError, ValueError):  # ValueError: the stream is closed
            self.dropped += 1
        return len(text)

    def flush(self) -> None:
        """Write the lines that a stream without a descriptor has buffered."""
        if self._descriptor is None:
            with suppress(OSError, ValueError):
                self._stream.flush()


def journal_prefix(logger: WrappedLogger, method: str, line: Any) -> str:
    """A structlog processor, after the one that makes the line: begins it with its priority as journald reads it.

    That is ``<4>`` for a warning, before each line of a traceback too.
    """
    prefix = f"<{_PRIORITIES.get(method, 6)}>"
    return prefix + str(line).replace("\n", f"\n{prefix}")


def is_journal(stream: TextIO, environment: MutableMapping[str, str]) -> bool:
    """Whether a stream leads to journald: systemd writes its device and inode into ``JOURNAL_STREAM``."""
    descriptor = _descriptor(stream)
    if descriptor is None or not (wanted := environment.get("JOURNAL_STREAM")):
        return False
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return wanted == f"{status.st_dev}:{status.st_ino}"


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def plain_values(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """A structlog processor: converts ids, paths, times, enums, errors and collections to types that JSON knows."""
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


def _plain(value: object) -> Any:
    plain: Any
    match value:
        case Enum():  # before text and number, which one may be as well
            plain = _plain(value.value)
        case None | int():
            plain = value
        case float():
            plain = value if math.isfinite(value) else str(value)
        case str() | UUID() | PurePath() | timedelta():
            plain = logged(str(value))  # also lone surrogates (a file name that is not UTF-8), which cannot be written
        case date():
            plain = value.isoformat()
        case BaseException():
            plain = logged(f"{type(value).__name__}: {value}")
        case bytes() | bytearray():
            plain = f"{len(value)} bytes"
        case list() | tuple():
            plain = [_plain(item) for item in value]
        case set() | frozenset():
            plain = sorted((_plain(item) for item in value), key=str)
        case Mapping():
            plain = {str(_plain(name)): _plain(item) for name, item in value.items()}
        case _:
            plain = logged(repr(value))
    return plain
