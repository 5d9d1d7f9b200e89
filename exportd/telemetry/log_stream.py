"""Where the lines of the log go. A line that cannot be written is dropped and counted: the work is worth more.

The reader of a pipe may go away, and the disk of a file may be full. Each line is one write, past Python's own buffer,
which would keep what it could not write and fail again with every later line.
"""

import os
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, TextIO

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "warn": 4, "error": 3, "exception": 3, "critical": 2, "fatal": 2}
"""Syslog's numbers for the levels, as journald reads them at the beginning of a line."""


class LogStream:
    """Writes lines to ``stream`` and never raises. ``dropped`` is how many could not be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._descriptor = _descriptor(stream)
        self.dropped = 0

    def isatty(self) -> bool:
        """Whether a person reads it at a terminal."""
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
        """Have the lines written that a stream without a descriptor holds back."""
        if self._descriptor is None:
            with suppress(OSError, ValueError):
                self._stream.flush()


class JournalPrefix:
    """A structlog processor, after the one that makes the line: says the line's priority as journald reads it."""

    def __call__(self, logger: Any, method: str, line: Any) -> str:
        """The line with ``<4>`` before it for a warning, and before each line of a traceback too."""
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
