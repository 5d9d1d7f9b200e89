"""The bounds of what a manifest may hold: it may come from a place where others can write. Pure.

A consumer reads whatever lies at a destination under a manifest's name. So a document has a size, a list a length, a
number the range of Postgres's own, a time a year that every calendar has, and a name no control characters: it is
printed, and it becomes an identifier of other databases.
"""

from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import AwareDatetime, Field, StringConstraints

MAX_MANIFEST_BYTES: Final = 16 << 20
"""Enough for some 50,000 files. A longer document is not read, and not written either."""

MAX_MANIFEST_VALUES: Final = 500_000
"""Values in a document, whatever they are: a reader of JSON needs a hundred bytes for an empty list of two."""

MAX_ENTITIES: Final = 10_000
MAX_FIELDS: Final = 2_000
"""More than the columns that a table of Postgres can have."""

MAX_KEY_FIELDS: Final = 64
MAX_PARTS: Final = 100_000
MAX_REDELIVERED_JOBS: Final = 100_000

_MAX_TEXT_LENGTH = 1_000
_MAX_KEY_LENGTH = 4_096
_MAX_SNAPSHOT_LENGTH = 1 << 20
_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"

Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Snapshot = Annotated[
    str, StringConstraints(pattern=r"^[0-9]+:[0-9]+:([0-9]+(,[0-9]+)*)?$", max_length=_MAX_SNAPSHOT_LENGTH)
]
Text = Annotated[str, StringConstraints(max_length=_MAX_TEXT_LENGTH, pattern=_PRINTABLE)]

NAME: Final = StringConstraints(min_length=1, max_length=_MAX_TEXT_LENGTH, pattern=_PRINTABLE)
"""The rule of names, which cannot be empty."""

Named = Annotated[str, NAME]

Key = Annotated[str, StringConstraints(min_length=1, max_length=_MAX_KEY_LENGTH, pattern=_PRINTABLE)]

Moment = Annotated[AwareDatetime, Field(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(9999, 1, 1, tzinfo=UTC))]
"""A time that can be written in every time zone."""


def oversize_of(document: bytes) -> str | None:
    """Why a document is too large to be read, None when it is not. Before anything reads it as JSON."""
    if len(document) > MAX_MANIFEST_BYTES:
        return f"it has more than {MAX_MANIFEST_BYTES} bytes"
    # Each value but the first follows one of these characters. Those in texts count too: there are few.
    if sum(document.count(character) for character in (b",", b"[", b"{")) > MAX_MANIFEST_VALUES:
        return f"it has more than {MAX_MANIFEST_VALUES} values"
    return None
