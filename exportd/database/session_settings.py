"""The settings of sessions that are set again after connecting, and checked before they matter. Pure.

A connection pooler receives the startup parameters of a connection and may drop them (PgBouncer drops those in
``ignore_startup_parameters``). In transaction mode it also gives each transaction to another session of the server, so
that a setting made in one is missing in the next.
"""

from collections.abc import Mapping, Sequence

from exportd.database.quoting import identifier, literal
from exportd.model.errors import PermanentError, Reason

# Files must be the same whatever the server, the database or the role sets; and COPY must not be interrupted
# by notices (asyncpg loses data then) or by time-outs meant for applications.
EXPORT_SETTINGS: Mapping[str, str] = {
    "client_min_messages": "error",
    "row_security": "off",  # an error instead of rows silently missing
    # The keys of a window are sorted instead: a fifth less time, because neighbours in the index come one by one.
    "enable_hashagg": "off",
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "quote_all_identifiers": "off",  # regclass and its kin
    "xmlbinary": "base64",
    "lc_monetary": "C",
    # Deleted records are read back from their text form.
    "array_nulls": "on",
    "xmloption": "content",
    "transform_null_equals": "off",
    "standard_conforming_strings": "on",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
"""The settings of sessions that read the application's tables."""

EXACT_SETTINGS: Mapping[str, str] = {
    name: value
    for name, value in EXPORT_SETTINGS.items()
    if name not in {"enable_hashagg", "statement_timeout", "idle_in_transaction_session_timeout"}
} | {"search_path": "pg_catalog", "client_encoding": "UTF8"}
"""The settings that decide how values are written and which rows are visible. They are checked in each snapshot."""

POOLER_ADVICE = (
    "A connection pooler stands between exportd and the database and does not keep a session's state: it works in "
    "transaction mode. Let the DSN name the database itself, or a pool in session mode (PgBouncer: pool_mode = "
    "session)."
)


def set_statement(settings: Mapping[str, str]) -> str:
    """The statement that sets them all for the session, in one round trip."""
    return "; ".join(f"SET {identifier(name)} TO {literal(value)}" for name, value in settings.items())


def unsettled(names: Sequence[str]) -> PermanentError:
    """The error for a transaction without the settings that make values exact."""
    return PermanentError(
        f"The session has other settings than exportd gave it ({', '.join(sorted(names))}), so values might be written "
        f"in another way. {POOLER_ADVICE}",
        reason=Reason.DATABASE_REFUSED,
    )
