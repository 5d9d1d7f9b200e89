"""What becomes of a schedule or destination when one of several daemons says what its configuration declares. Pure.

Daemons of one database should declare the same. Where they do not, none takes away what another declares, and of two
ways to declare the same thing the one that was written last is in effect: a daemon that merely starts again with what
it has always said does not undo what has been written elsewhere since.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Key = tuple[str, str]
"""Organization and code."""

Document = Mapping[str, Any]
"""What a declaration says, as JSON, besides who it is."""


class Fate(StrEnum):
    """What becomes of a thing."""

    NEW = "NEW"
    EDITED = "EDITED"
    """It gets what the daemon declares."""
    UNCHANGED = "UNCHANGED"
    GONE = "GONE"


@dataclass(frozen=True, slots=True)
class Declared:
    """What has been declared so far: ``before`` by this daemon itself, ``elsewhere`` by the others."""

    before: Mapping[Key, Document] = field(default_factory=dict)
    elsewhere: Mapping[Key, Sequence[Document]] = field(default_factory=dict)

    def fate(self, key: Key, *, present: Document | None, own: bool, now: Document | None) -> Fate:
        """Of one thing: ``present`` as it is, ``now`` as this daemon declares it (None: not at all).

        ``own``: it belongs to the configuration, and not to the API.
        """
        elsewhere = self.elsewhere.get(key, ())
        if now is None:
            return Fate.GONE if own and not elsewhere else Fate.UNCHANGED
        if present is None:
            return Fate.NEW
        if own and (present == now or (now == self.before.get(key) and present in elsewhere)):
            return Fate.UNCHANGED
        return Fate.EDITED


ALONE = Declared()
"""Nobody has declared anything yet."""
