"""The sessions of the console: which browser belongs to which user of this machine, or to which program.

They are kept in memory: a session ends with the daemon, and its user opens the console again. The browser has a random
secret, of which only the SHA-256 is kept here.
"""

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from exportd.api.transport.client_limits import RateLimit
from exportd.model.clock import Clock

if TYPE_CHECKING:
    from exportd.api.identity.client_table import Role

FORWARDER_HEADER = "x-exportd-console"
"""The header that ``exportd console`` sends. Requests that it forwards may come from any user of that machine, so they
need a session.
"""

INVITATION_S = 60.0
"""How long the address that ``exportd console`` prints is valid, for one use."""

IDLE_S = 12 * 3600.0
MAX_SESSIONS_OF_A_USER = 32
"""The limit of sessions of a user. The one that was idle longest is ended for a new one."""


TRIES_TIME_S = 300.0
MAX_TRIES_OF_AN_ADDRESS = 20
MAX_TRIES_OF_A_KEY = 10
"""How often an address, and a key from any address, may try to sign in within that time. Successful tries count too."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program with credentials, in the role that it had when a person signed in with them."""

    client_id: UUID
    role: "Role"


Owner = int | str | Program
"""The owner of a session: a user of this machine, by number; a person, by the name that a proxy sends; or a program,
over TCP.
"""


@dataclass(slots=True)
class Session:
    """A browser that is signed in as ``owner``. ``notice`` is a sentence that the next page shows once.

    ``label`` is what pages call a program or a person.
    """

    owner: Owner
    read_only: bool
    used_at_s: float
    notice: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class _Invitation:
    owner: Owner
    read_only: bool
    until_s: float


@dataclass(slots=True)
class Sessions:
    """All sessions of this daemon. Secrets are texts of 43 characters with 256 random bits."""

    clock: Clock
    _invitations: dict[bytes, _Invitation] = field(default_factory=dict)
    _sessions: dict[bytes, Session] = field(default_factory=dict)
    _tries_of_addresses: RateLimit = field(default_factory=lambda: RateLimit(MAX_TRIES_OF_AN_ADDRESS, TRIES_TIME_S))
    _tries_of_keys: RateLimit = field(default_factory=lambda: RateLimit(MAX_TRIES_OF_A_KEY, TRIES_TIME_S))

    def wait_of_address_s(self, address: str) -> float:
        """Count a try to sign in from an address. Returns 0 when it may, else the seconds after which it may."""
        return self._tries_of_addresses.wait_s(address, self.clock.monotonic())

    def wait_of_key_s(self, key: str) -> float:
        """The same for a key, from any address."""
        return self._tries_of_keys.wait_s(key, self.clock.monotonic())

    def invite(self, owner: Owner, *, read_only: bool) -> str:
        """A secret with which a browser can begin a session, once, within a minute."""
        now_s = self.clock.monotonic()
        self._invitations = {key: found for key, found in self._invitations.items() if found.until_s > now_s}
        _leave_room([key for key, found in self._invitations.items() if found.owner == owner], self._invitations)
        secret = secrets.token_urlsafe(32)
        self._invitations[_digest(secret)] = _Invitation(owner, read_only, now_s + INVITATION_S)
        return secret

    def accept(self, invitation: str, owner: Owner) -> str | None:
        """Begin the session to which a user was invited. Returns its secret; None when the invitation is not valid for
        this user.
        """
        found = self._invitations.pop(_digest(invitation), None)
        if found is None or found.owner != owner or found.until_s <= self.clock.monotonic():
            return None
        return self.begin(owner, read_only=found.read_only)

    def begin(self, owner: Owner, *, read_only: bool, label: str = "") -> str:
        """Begin a session without an invitation. Returns its secret."""
        now_s = self.clock.monotonic()
        self._sessions = {key: found for key, found in self._sessions.items() if found.used_at_s + IDLE_S > now_s}
        own = sorted((found.used_at_s, key) for key, found in self._sessions.items() if found.owner == owner)
        _leave_room([key for _, key in own], self._sessions)
        secret = secrets.token_urlsafe(32)
        self._sessions[_digest(secret)] = Session(owner, read_only, now_s, label=label)
        return secret

    def find(self, secret: str, owner: Owner | None, *, is_use: bool = True) -> Session | None:
        """The user's session; None when the user has no such session. With ``is_use`` it counts as used now, which a
        page that refreshes by itself does not do.

        Without an ``owner``, over TCP, it is the session of a program.
        """
        found, now_s = self._sessions.get(_digest(secret)), self.clock.monotonic()
        if found is None or not _belongs(found, owner) or found.used_at_s + IDLE_S <= now_s:
            return None
        if is_use:
            found.used_at_s = now_s
        return found

    def end(self, secret: str) -> None:
        """Sign the browser out."""
        self._sessions.pop(_digest(secret), None)


def _belongs(session: Session, owner: Owner | None) -> bool:
    return isinstance(session.owner, Program) if owner is None else session.owner == owner


def _leave_room(keys: list[bytes], kept: dict[bytes, _Invitation] | dict[bytes, Session]) -> None:
    """Remove the first of a user's ``keys`` until there is room for another."""
    for key in keys[: max(0, len(keys) - MAX_SESSIONS_OF_A_USER + 1)]:
        del kept[key]


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
