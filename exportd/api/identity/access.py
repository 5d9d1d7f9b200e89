"""What a user of this machine, or a program, may do."""

from dataclasses import dataclass
from enum import IntEnum

from exportd.api.problems import Refusal
from exportd.api.transport.peer import Peer
from exportd.model.entity import OrganizationId


class Role(IntEnum):
    """A role may do everything that the roles before it may."""

    READER = 1
    """Look at everything, and download."""
    OPERATOR = 2
    """Create, edit and delete schedules and destinations, ask for exports, pause, run, cancel and retry."""
    ADMIN = 3
    """Hand out credentials, take capture away, set the log level."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Whose objects a request may see, and act on: ``organization`` is the only one; None means every one.

    ``name`` is what ``createdBy``, ``lastModifiedBy`` and the audit log say.
    """

    organization: OrganizationId | None
    name: str

    @property
    def sees_machine(self) -> bool:
        """Whether hosts, directories and tables are shown: to users of the machine, who see every organization."""
        return self.organization is None

    def sees(self, organization: str) -> bool:
        return self.organization in {None, organization}

    def of(self, organization: str | None) -> OrganizationId | None:
        """Of which organization a list is that was asked for ``organization``. Raises Refusal 403 for a hidden one."""
        if organization is None:
            return self.organization
        if not self.sees(organization):
            raise Refusal(
                403, "organization: this is not one that you may see. Leave it out, or give that of your credentials."
            )
        return OrganizationId(organization)


@dataclass(frozen=True, slots=True)
class Identity(Viewer):
    """Who makes a request, and in which role."""

    role: Role


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
        return Identity(None, f"unix:{peer.name}", role)
