"""Programs that use the API with credentials, and the roles in which programs and users do."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import TYPE_CHECKING
from uuid import UUID

from exportd.database import queries
from exportd.database.queries import only_row
from exportd.database.quota_table import Quota, require_room
from exportd.database.unit_of_work import statements, transaction, write_audit
from exportd.model.entity import OrganizationId
from exportd.model.errors import PermanentError, Reason
from exportd.settings.schema import DEFAULT_QUOTAS, QuotaSettings

if TYPE_CHECKING:
    import asyncpg

    from exportd.database.connector import Connection, Pool

_SQL = queries.load("control")

_SECRET_BYTES = 32


class Role(IntEnum):
    """The roles. Each may do everything that the roles before it may."""

    READER = 1
    """Look at everything, and download."""
    OPERATOR = 2
    """Create, edit and delete schedules and destinations, ask for exports, pause, run, cancel and retry."""
    ADMIN = 3
    """Hand out credentials, take capture away, set the log level."""


@dataclass(frozen=True, slots=True)
class Client:
    """A program; ``id`` is its access key id. Of the secret only a hash is kept."""

    id: UUID
    organization: OrganizationId
    name: str
    role: Role
    active: bool
    created_at: datetime
    created_by: str
    secret_sha256: bytes = field(repr=False)


class ClientTable:
    """``exportd.api_client``. All methods raise TransientError when the database is away."""

    def __init__(self, pool: "Pool", quotas: QuotaSettings = DEFAULT_QUOTAS) -> None:
        self._pool = pool
        self._quotas = quotas

    async def create(self, organization: OrganizationId, name: str, role: Role, *, actor: str) -> tuple[Client, str]:
        """Create a program. Returns it with its secret, of which only a hash is stored. Raises PermanentError
        QUOTA_REACHED.
        """
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        async with transaction(self._pool, "creating a client") as connection:
            await require_room(connection, organization, self._quotas, Quota.CLIENTS)
            row = await connection.fetchrow(
                _SQL["insert_client"], organization, name, role.name.lower(), _hash(secret), actor
            )
            client = _client_from_row(only_row(row))
            await _note(connection, "client created", client, actor)
        return client, secret

    async def get(self, client_id: UUID) -> Client | None:
        """The program, active or not; None when it does not exist."""
        async with statements(self._pool, "reading a client") as connection:
            row = await connection.fetchrow(_SQL["client"], client_id)
        return None if row is None else _client_from_row(row)

    async def all(self) -> list[Client]:
        """Every program, the oldest first."""
        async with statements(self._pool, "reading the clients") as connection:
            return [_client_from_row(row) for row in await connection.fetch(_SQL["clients"])]

    async def deactivate(self, client_id: UUID, *, actor: str) -> Client:
        """Withdraw a program's credentials: its secret and its tokens are not valid any more. Raises PermanentError
        NOT_FOUND.
        """
        async with transaction(self._pool, "deactivating a client") as connection:
            row = await connection.fetchrow(_SQL["deactivate_client"], client_id)
            if row is None:
                raise PermanentError(
                    f"There is no client {client_id}. Look at the list of clients.", reason=Reason.NOT_FOUND
                )
            client = _client_from_row(row)
            await _note(connection, "client deactivated", client, actor)
        return client


def is_secret(secret: str, sha256: bytes) -> bool:
    """Whether a secret has this hash. It takes the same time for any secret."""
    return hmac.compare_digest(_hash(secret), sha256)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="replace")).digest()


def _client_from_row(row: "asyncpg.Record") -> Client:
    return Client(
        row["id"],
        OrganizationId(row["organization"]),
        row["name"],
        Role[row["role"].upper()],
        row["active"],
        row["created_at"],
        row["created_by"],
        bytes(row["secret_sha256"]),
    )


async def _note(connection: "Connection", action: str, client: Client, actor: str) -> None:
    await write_audit(
        connection,
        action,
        actor=actor,
        organization=client.organization,
        object_id=client.id,
        details={"name": client.name, "role": client.role.name},
    )
