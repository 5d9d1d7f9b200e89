"""Who makes a request, and what they may do.

On the Unix socket the kernel identifies the user, and no credentials are needed. A proxy that runs as a certain user
names persons. A program with credentials is identified by them, also on the socket, and then sees only its
organization. Clients that cannot work without a token (the official SDK) use ``local`` as their access key id on the
socket, with any secret. They keep the identity that the kernel reports.
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
"""The secret's hash with which an unknown key is compared, so that it takes as long as a known one."""

_PURPOSE = "access"
_ASK = {"www-authenticate": 'Bearer realm="exportd"'}


@dataclass(frozen=True, slots=True)
class Viewer:
    """The objects that a request may see and change: those of ``organization``; None means of every organization.

    ``name`` is used for ``createdBy``, ``lastModifiedBy`` and the audit log.
    """

    organization: OrganizationId | None
    name: str

    @property
    def sees_machine(self) -> bool:
        """Whether hosts, directories and tables are shown, which only users of the machine see."""
        return self.organization is None

    def sees(self, organization: str) -> bool:
        return self.organization in {None, organization}

    def of(self, organization: str | None) -> OrganizationId | None:
        """The organization of a list, when ``organization`` was requested. Raises Refusal 403 for one that may not be
        seen.
        """
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
    """An authenticating proxy in front of the Unix socket: the process with the user id ``uid`` names the person in a
    header.

    ``header`` is in lower case. ``people`` are the persons that are allowed, by the names that the proxy uses.
    """

    header: str
    uid: int
    people: Mapping[str, Identity]

    def person(self, peer: Peer | None, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """The person whom the proxy names; None when the request does not come from the proxy.

        Raises Refusal 403 for a request of the proxy without the header, and for any other request with it.
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
    """The roles of this machine's users. Every user who can open the socket may read.

    Requests of the ``proxy`` come from persons.
    """

    own_uid: int
    operators: frozenset[int]
    admins: frozenset[int]
    proxy: Proxy | None = None

    def is_proxy(self, peer: Peer | None) -> bool:
        return self.proxy is not None and peer is not None and peer.uid == self.proxy.uid

    def identity(self, peer: Peer, person: str | None = None) -> Identity:
        """The identity of a peer. ``person`` is named by the proxy. Raises Refusal 403 for an unknown person."""
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
    """Identifies users of this machine and programs with credentials."""

    def __init__(self, clients: ClientTable, access: Access, signer: Signer, clock: Clock) -> None:
        self._clients = clients
        self._access = access
        self._signer = signer
        self._clock = clock

    def is_administrator(self, peer: Peer) -> bool:
        """Whether a user of this machine is an administrator, without credentials."""
        return not self._access.is_proxy(peer) and self._access.identity(peer).role is Role.ADMIN

    def person(self, peer: Peer | None, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Whom a request is of, as ``Proxy.person``; None where no proxy is believed."""
        return None if self._access.proxy is None else self._access.proxy.person(peer, headers)

    async def identify(self, peer: Peer | None, authorization: str | None, *, person: str | None = None) -> Identity:
        """The identity of a request. Raises Refusal 401 without credentials, and 403 for credentials that are not valid
        (any more).

        A request of the proxy is identified only by the ``person`` that it names.
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
        """Make an access token for Basic credentials. Older tokens stay valid. Raises Refusal 401 for wrong
        credentials.
        """
        key, secret = _basic(authorization)
        if key == LOCAL and peer is not None:
            return self._issue({"uid": peer.uid})
        client = await self.program(key, secret)
        if client is None:
            raise Refusal(401, "The access key id or the secret is wrong, or has been withdrawn.", headers=_ASK)
        return self._issue({"client": str(client.id)})

    async def program(self, key: str, secret: str) -> Client | None:
        """The program with these credentials; None for wrong or withdrawn ones. It takes the same time in all cases."""
        client = await self._clients.get(client_id_of(key))
        is_right = is_secret(secret, _NO_HASH if client is None else client.secret_sha256)
        return client if client is not None and is_right and client.active else None

    async def identity_of(self, client_id: UUID, role: Role) -> Identity | None:
        """The identity of a program as which a person signed in; None when its credentials were withdrawn or its role
        was changed.
        """
        client = await self._clients.get(client_id)
        return _identity(client) if client is not None and client.active and client.role is role else None

    def _issue(self, payload: dict[str, object]) -> str:
        until = int(self._clock.now().timestamp()) + TOKEN_LIFETIME_S
        return self._signer.sign(_PURPOSE, {**payload, "until": until})


def client_id_of(key: str) -> UUID:
    """The program's id for an access key id in any spelling. For anything else, the id of no program."""
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
