"""Settings of a session that its server is told again once it is connected, and asked for before they matter. Pure.

A connection pooler takes the parameters of the connection's start and may drop them (PgBouncer does so with those in
``ignore_startup_parameters``). In transaction mode it also gives each transaction to another session of the server, so
that what was set in one is not set in the next.
"""

from collections.abc import Mapping, Sequence

from exportd.database.quoting import identifier, literal
from exportd.model.errors import PermanentError
from exportd.model.reason import Reason

POOLER_ADVICE = (
    "A connection pooler stands between exportd and the database and does not keep a session's state: it works in "
    "transaction mode. Let the DSN name the database itself, or a pool in session mode (PgBouncer: pool_mode = "
    "session)."
)


def set_statement(settings: Mapping[str, str]) -> str:
    """The statement that sets them all for the session, in one round trip."""
    return "; ".join(f"SET {identifier(name)} TO {literal(value)}" for name, value in settings.items())


def unsettled(names: Sequence[str]) -> PermanentError:
    """What to raise when a transaction does not have the settings that make values exact."""
    return PermanentError(
        f"The session has other settings than exportd gave it ({', '.join(sorted(names))}), so values might be written "
        f"in another way. {POOLER_ADVICE}",
        reason=Reason.DATABASE_REFUSED,
    )
