"""Finds out who makes a request.

On the Unix socket the kernel knows, and no credentials are needed; a proxy that runs as one certain user names
persons. A program that has some is taken at them, on the socket too: it then sees its organization alone. Clients
that cannot do without asking for a token (the official SDK) give ``local`` as their access key id on the socket, with
any secret, and stay who the kernel says they are.
"""

import binascii
from base64 import b64decode
from uuid import UUID

from exportd.api.identity.access import Access, Identity, Proxy, Role
from exportd.api.identity.client_table import Client, ClientTable, is_secret
from exportd.api.identity.signing import Signer
from exportd.api.problems import Refusal
from exportd.api.transport.unix_socket import Peer
from exportd.model.clock import Clock

TOKEN_LIFETIME_S = 18_000
"""Five hours, as m3ter's."""

LOCAL = "local"

_NO_CLIENT, _NO_HASH = UUID(int=0), bytes(32)
"""What a key that no program has is compared with."""

_PURPOSE = "access"
_ASK = {"www-authenticate": 'Bearer realm="exportd"'}


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

    @property
    def proxy(self) -> Proxy | None:
        """What is believed when it names persons."""
        return self._access.proxy

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
    except (ValueError, binascii.Error):
        key = colon = secret = ""
    if scheme.lower() != "basic" or not colon:
        raise Refusal(401, "Send the access key id and the secret by HTTP Basic authentication.", headers=_ASK)
    return key, secret
