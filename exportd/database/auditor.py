"""Writes down what operators do that changes no row of ours: to capture, to the log level of this daemon."""

from typing import TYPE_CHECKING

from exportd.database.audit_writer import write_audit
from exportd.database.translator import translated

if TYPE_CHECKING:
    from exportd.database.connector import Pool


class Auditor:
    """``exportd.audit``. Written before the deed: what cannot be written down is not done."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    async def write(self, action: str, *, actor: str, **details: object) -> None:
        """Add an entry. Raises TransientError when the database is out of reach."""
        with translated("writing the audit log"):
            async with self._pool.acquire() as connection:
                await write_audit(
                    connection, actor=actor, action=action, organization=None, object_id=None, details=details
                )
