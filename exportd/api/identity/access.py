"""What a user of this machine, or a program, may do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from exportd.api.problems import Refusal
from exportd.api.transport.unix_socket import Peer
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
class Proxy:
    """An authenticating proxy in front of the Unix socket: what runs as ``uid`` names the person in a header.

    ``header`` is in lower case. ``people`` are who may come, by what the proxy calls them.
    """

    header: str
    uid: int
    people: Mapping[str, Identity]

    def person(self, peer: Peer | None, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Whom a request is of, as the proxy says; None when it does not come from the proxy.

        Raises Refusal 403 for one that comes from elsewhere and has the header, and for one of the proxy without.
        """
        name = self.header.encode()
        sent = [value.decode(errors="replace") for found, value in headers if found == name]
        if peer is None or peer.uid != self.uid:
            if sent:
                raise Refusal(403, f"The header {self.header} is believed from the user of control.proxy_user alone.")
            return None
        if len(sent) != 1 or not sent[0]:
            raise Refusal(403, f"The proxy has to name the person in the header {self.header}, once in each request.")
        return sent[0]


@dataclass(frozen=True, slots=True)
class Access:
    """Which users of this machine may do what. Every user who can open the socket may read.

    Behind the ``proxy`` are persons.
    """

    own_uid: int
    operators: frozenset[int]
    admins: frozenset[int]
    proxy: Proxy | None = None

    def is_proxy(self, peer: Peer | None) -> bool:
        return self.proxy is not None and peer is not None and peer.uid == self.proxy.uid

    def identity(self, peer: Peer, person: str | None = None) -> Identity:
        """Who it is; ``person`` is whom the proxy names. Raises Refusal 403 for a person who is not known."""
        if self.proxy is not None and self.is_proxy(peer):
            found = self.proxy.people.get(person or "")
            if found is None:
                raise Refusal(403, "You are not one of control.user. Ask the administrator of this daemon.")
            return found
        if peer.uid in {0, self.own_uid} or peer.groups & self.admins:
            role = Role.ADMIN
        elif peer.groups & self.operators:
            role = Role.OPERATOR
        else:
            role = Role.READER
        return Identity(None, f"unix:{peer.name}", role)
