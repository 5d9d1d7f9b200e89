"""What a user of this machine, or a program, may do."""

import grp
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from exportd.api.transport.peer import Peer
from exportd.model.entity import OrganizationId
from exportd.model.errors import SettingsError


class Role(IntEnum):
    """A role may do everything that the roles before it may."""

    READER = 1
    """Look at everything, and download."""
    OPERATOR = 2
    """Create, edit and delete schedules and destinations, ask for exports, pause, run, cancel and retry."""
    ADMIN = 3
    """Hand out credentials, take capture away, set the log level."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who makes a request. ``organization`` is the only one that they may see; None means every one.

    ``name`` is what ``createdBy``, ``lastModifiedBy`` and the audit log say.
    """

    name: str
    role: Role
    organization: OrganizationId | None


@dataclass(frozen=True, slots=True)
class Access:
    """Which users of this machine may do what. Every user who can open the socket may read."""

    own_uid: int
    operators: frozenset[int]
    admins: frozenset[int]

    def identity(self, peer: Peer) -> Identity:
        if peer.uid in {0, self.own_uid} or peer.groups & self.admins:
            role = Role.ADMIN
        elif peer.groups & self.operators:
            role = Role.OPERATOR
        else:
            role = Role.READER
        return Identity(f"unix:{peer.name}", role, None)


def group_ids(names: Iterable[str]) -> frozenset[int]:
    """The numbers of groups of this machine. Raises SettingsError for one that does not exist."""
    return frozenset(group_id(name) for name in names)


def group_id(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise SettingsError.of(
            f"this machine has no group {name!r}; create it, or name another", where="control"
        ) from None
