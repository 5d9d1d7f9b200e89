"""Who makes a request, and what they may do.

On the Unix socket the kernel knows, and no credentials are needed; a proxy that runs as one certain user names
persons. A program that has some is taken at them, on the socket too: it then sees its organization alone. Clients
that cannot do without asking for a token (the official SDK) give ``local`` as their access key id on the socket, with
any secret, and stay who the kernel says they are.
"""

from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from exportd.api.identity.client_table import Client, ClientTable, Role, is_secret
from exportd.api.identity.signing import Signer
from exportd.api.problems import Refusal
from exportd.api.transport.unix_socket import Peer
from exportd.model.clock import Clock
from exportd.model.entity import OrganizationId

TOKEN_LIFETIME_S = 18_000
"""Five hours, as m3ter's."""

LOCAL = "local"

_NO_CLIENT, _NO_HASH = UUID(int=0), bytes(32)
"""What a key that no program has is compared with."""

_PURPOSE = "access"
_ASK = {"www-authenticate": 'Bearer realm="exportd"'}


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


class Authenticator:
    """Knows users of this machine and programs with credentials."""

    def __init__(self, clients: ClientTable, access: Access, signer: Signer, clock: Clock) -> None:
        self._clients = clients
        self._access = access
        self._signer = signer
        self._clock = clock

    def is_administrator(self, peer: Peer) -> bool:
        """Whether a user of this machine is one, without credentials."""
        return not self._access.is_proxy(peer) and self._access.identity(peer).role is Role.ADMIN

    def person(self, peer: Peer | None, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Whom a request is of, as ``Proxy.person``; None where no proxy is believed."""
        return None if self._access.proxy is None else self._access.proxy.person(peer, headers)

    async def identify(self, peer: Peer | None, authorization: str | None, *, person: str | None = None) -> Identity:
        """Who it is; Refusal 401 when nothing was given, 403 when it is worth nothing (any more).

        Of a request of the proxy only the ``person`` counts whom it names.
        """
        if peer is not None and self._access.is_proxy(peer):
            return self._access.identity(peer, person)
        if authorization is None:
            if peer is None:
                raise Refusal(401, "Credentials are missing. Get a token from /oauth/token, and send it.", headers=_ASK)
            return self._access.identity(peer)
        scheme, _, token = authorization.partition(" ")
        payload = self._signer.verify(_PURPOSE, token.strip()) if scheme.lower() == "bearer" else None
        if payload is None:
            raise Refusal(403, "The access token is not one of ours. Get one from /oauth/token.")
        if payload["until"] <= self._clock.now().timestamp():
            raise Refusal(403, "The access token has expired. Get another one from /oauth/token.")
        if "uid" in payload:
            if peer is None or peer.uid != payload["uid"]:
                raise Refusal(403, "The access token is good only for the user of this machine who asked for it.")
            return self._access.identity(peer)
        client = await self._clients.get(UUID(payload["client"]))
        if client is None or not client.active:
            raise Refusal(403, "The credentials of this access token have been withdrawn. Ask for others.")
        return _identity(client)

    async def token(self, peer: Peer | None, authorization: str | None) -> str:
        """An access token for Basic credentials; older ones stay good. Refusal 401 for wrong ones."""
        key, secret = _basic(authorization)
        if key == LOCAL and peer is not None:
            return self._issue({"uid": peer.uid})
        client = await self.program(key, secret)
        if client is None:
            raise Refusal(401, "The access key id or the secret is wrong, or has been withdrawn.", headers=_ASK)
        return self._issue({"client": str(client.id)})

    async def program(self, key: str, secret: str) -> Client | None:
        """The program with these credentials. None for wrong or withdrawn ones, after as long whichever is wrong."""
        client = await self._clients.get(client_id_of(key))
        is_right = is_secret(secret, _NO_HASH if client is None else client.secret_sha256)
        return client if client is not None and is_right and client.active else None

    async def identity_of(self, client_id: UUID, role: Role) -> Identity | None:
        """A program that a person signed in as; None once its credentials are withdrawn, or in another role."""
        client = await self._clients.get(client_id)
        return _identity(client) if client is not None and client.active and client.role is role else None

    def _issue(self, payload: dict[str, object]) -> str:
        until = int(self._clock.now().timestamp()) + TOKEN_LIFETIME_S
        return self._signer.sign(_PURPOSE, {**payload, "until": until})


def client_id_of(key: str) -> UUID:
    """The program of an access key id, in whatever spelling; one that does not exist for what is no id."""
    try:
        return UUID(key)
    except ValueError:
        return _NO_CLIENT


def _identity(client: Client) -> Identity:
    return Identity(client.organization, str(client.id), client.role)


def _basic(authorization: str | None) -> tuple[str, str]:
    scheme, _, encoded = (authorization or "").partition(" ")
    try:
        key, colon, secret = b64decode(encoded.strip(), validate=True).decode().partition(":")
    except ValueError:
        key = colon = secret = ""
    if scheme.lower() != "basic" or not colon:
        raise Refusal(401, "Send the access key id and the secret by HTTP Basic authentication.", headers=_ASK)
    return key, secret
