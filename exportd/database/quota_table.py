"""Enforces the quotas of organizations: counts, and refuses, in the transaction that would add something.

The transaction locks the organization's row in ``exportd.organization``. So when two transactions would take the last
place, one is refused. Call ``require_room`` before any other row is locked.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from exportd.database import queries
from exportd.database.queries import only_row
from exportd.database.unit_of_work import statements
from exportd.model.entity import OrganizationId
from exportd.model.errors import PermanentError, Reason
from exportd.settings.schema import QuotaSettings

if TYPE_CHECKING:
    from exportd.database.connector import Connection, Pool

_SQL = queries.load("quotas")

NEAR = 0.8
"""The share of a quota from which on its use is shown."""

MAX_SHOWN = 50
"""How many quotas are shown, the fullest first."""


class Quota(StrEnum):
    """The quotas, by their keys in ``[quotas]``."""

    SCHEDULES = "schedules"
    DESTINATIONS = "destinations"
    WAITING_JOBS = "waiting_jobs"
    ADHOC_JOBS = "adhoc_jobs"
    CLIENTS = "clients"
    CHANGES_PER_HOUR = "changes_per_hour"
    CONNECTIONS = "connections"


_WORDS = {
    Quota.SCHEDULES: "schedules that were made through the API",
    Quota.DESTINATIONS: "destinations that were made through the API",
    Quota.WAITING_JOBS: "jobs that wait",
    Quota.ADHOC_JOBS: "exports without a schedule that wait",
    Quota.CLIENTS: "programs with credentials",
    Quota.CHANGES_PER_HOUR: "changes within an hour",
}
_PASSING = {Quota.WAITING_JOBS, Quota.ADHOC_JOBS, Quota.CHANGES_PER_HOUR}
"""The quotas whose use decreases by itself."""

_OF_THE_DATABASE = [quota for quota in Quota if quota not in {Quota.CHANGES_PER_HOUR, Quota.CONNECTIONS}]
"""The quotas whose use is read from the tables, to show it to operators."""


@dataclass(frozen=True, slots=True)
class QuotaUse:
    """The use of a quota by an organization."""

    organization: OrganizationId
    quota: Quota
    used: int
    limit: int


async def require_room(
    connection: "Connection", organization: OrganizationId, quotas: QuotaSettings, *wanted: Quota
) -> None:
    """Check that an organization may have one more of each, until the end of the transaction.

    Raises PermanentError QUOTA_REACHED for things that stay until they are deleted, QUOTA_BUSY for those that go by
    themselves.
    """
    await connection.execute(_SQL["hold"], organization)
    used = only_row(await connection.fetchrow(_SQL["used"], organization))
    for quota in wanted:
        limit: int = getattr(quotas, quota)
        if used[quota.value] < limit:
            continue
        passing = quota in _PASSING
        advice = "Try again later" if passing else "Delete one that is not needed"
        raise PermanentError(
            f"The organization {organization!r} has {used[quota.value]} {_WORDS[quota]}; {limit} are allowed. {advice},"
            f" or ask the administrator of the daemon for more (quotas.{quota}).",
            reason=Reason.QUOTA_BUSY if passing else Reason.QUOTA_REACHED,
        )


async def admit_program(
    connection: "Connection", organization: OrganizationId | None, quotas: QuotaSettings, *wanted: Quota
) -> None:
    """The same for a request of an organization's program, which also counts as a change.

    None stands for a user of the machine, to whom quotas do not apply.
    """
    if organization is not None:
        await require_room(connection, organization, quotas, Quota.CHANGES_PER_HOUR, *wanted)


class QuotaTable:
    """Shows operators how much of their quotas the organizations have used.

    ``connections`` are those of this daemon's API, by organization.
    """

    def __init__(
        self, pool: "Pool", quotas: QuotaSettings, *, connections: Callable[[], Mapping[str, int]] = lambda: {}
    ) -> None:
        self._pool = pool
        self._quotas = quotas
        self._connections = connections

    async def near(self) -> list[QuotaUse]:
        """The quotas that are nearly or fully used, the fullest first. Raises TransientError when the database is out
        of reach.
        """
        limits = [getattr(self._quotas, quota) for quota in _OF_THE_DATABASE]
        async with statements(self._pool, "looking at the quotas") as connection:
            rows = await connection.fetch(_SQL["near"], _OF_THE_DATABASE, limits, NEAR, MAX_SHOWN)
        uses = [
            QuotaUse(OrganizationId(row["organization"]), Quota(row["quota"]), row["used"], row["bound"])
            for row in rows
        ]
        limit = self._quotas.connections
        uses += [
            QuotaUse(OrganizationId(organization), Quota.CONNECTIONS, used, limit)
            for organization, used in self._connections().items()
            if used >= NEAR * limit
        ]
        return sorted(uses, key=lambda use: (-use.used / use.limit, use.organization, use.quota))[:MAX_SHOWN]
