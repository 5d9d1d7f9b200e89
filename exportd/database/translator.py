"""Translates what asyncpg and the operating system raise into the errors of ``exportd.model.errors``.

The SQLSTATE decides whether to try again (the server went away, a lock was busy) or not (a table or a right is
missing, the query is wrong). The sentence holds the server's own message, which names the object.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from exportd.database.session_settings import POOLER_ADVICE
from exportd.model.errors import ExportdError, PermanentError, Reason, TransientError
from exportd.model.foreign_text import mask_secrets

FOREIGN_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # Raised when a pooled connection is used in the moment in which its server ends (asyncpg's issue 1069).
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
"""The errors that the database driver and the operating system can raise. Everything else is a bug and is not
translated.
"""

# By SQLSTATE, or by its class (the first two characters) where the whole class means the same.
_TRANSIENT = {
    "08": Reason.DATABASE_CONNECTION_LOST,
    "25006": Reason.DATABASE_READ_ONLY,  # default_transaction_read_only, a server that is being switched over
    "25P03": Reason.DATABASE_CONNECTION_LOST,  # idle_in_transaction_session_timeout
    "40": Reason.QUERY_FAILED,  # serialization failure, deadlock
    "53": Reason.QUERY_FAILED,  # disk full, out of memory: the server may have room again later
    "53300": Reason.DATABASE_UNREACHABLE,  # too many connections
    "55006": Reason.LOCK_NOT_AVAILABLE,  # object in use
    "55P03": Reason.LOCK_NOT_AVAILABLE,
    "57014": Reason.QUERY_FAILED,  # cancelled by a person or a timeout
    "57P01": Reason.DATABASE_CONNECTION_LOST,  # admin shutdown
    "57P02": Reason.DATABASE_CONNECTION_LOST,  # crash shutdown
    "57P03": Reason.DATABASE_UNREACHABLE,  # starting up
    "57P05": Reason.DATABASE_CONNECTION_LOST,  # idle_session_timeout
    "58030": Reason.QUERY_FAILED,  # input/output error on the server
    "72": Reason.QUERY_FAILED,  # snapshot too old
}
_PERMANENT = {
    "28": Reason.DATABASE_REFUSED,  # password, pg_hba.conf
    "3D": Reason.DATABASE_REFUSED,  # no such database
    "3F000": Reason.TABLE_MISSING,  # no such schema
    "42501": Reason.PRIVILEGE_MISSING,
    "42P01": Reason.TABLE_MISSING,
    "57P04": Reason.DATABASE_REFUSED,  # database dropped
}
_OTHER_SESSION = {"26000", "42P05"}
"""A prepared statement is missing or exists already: a pooler has passed the query to another session of the server."""
_STARTUP_PARAMETER = "unsupported startup parameter"
_ADVICE = {
    Reason.PRIVILEGE_MISSING: "Grant the right to the daemon's role.",
    Reason.LOCK_NOT_AVAILABLE: "Another session holds the lock; it is tried again.",
}


def translate(error: BaseException, *, doing: str) -> ExportdError:
    """The error for what happened while ``doing`` something ("reading ACCOUNTS").

    An ExportdError is returned as it is. The caller raises the result ``from`` the original.
    """
    if isinstance(error, ExportdError):
        return error
    if isinstance(error, asyncpg.PostgresError):
        return _translate_sqlstate(error, doing=doing)
    if _is_lost_connection(error):
        return TransientError(
            f"The connection to the database was lost while {doing}: {_message(error)}",
            reason=Reason.DATABASE_CONNECTION_LOST,
        )
    return PermanentError(f"The database failed while {doing}: {_message(error)}", reason=Reason.QUERY_FAILED)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raises what the block raises, translated. Cancellation and bugs pass untouched."""
    try:
        yield
    except FOREIGN_ERRORS as error:
        raise translate(error, doing=doing) from error


def _translate_sqlstate(error: asyncpg.PostgresError, *, doing: str) -> ExportdError:
    code = error.sqlstate or ""
    sentence = f"The database reported an error while {doing}: {_message(error)}"
    if code in _OTHER_SESSION:
        return PermanentError(f"{sentence}. {POOLER_ADVICE}", reason=Reason.DATABASE_REFUSED)
    if _STARTUP_PARAMETER in str(error):
        return PermanentError(
            f"{sentence}. A connection pooler refuses a setting of the session: let the DSN name the database itself, "
            "or let the pooler ignore the parameter (PgBouncer: ignore_startup_parameters); exportd sets it once more "
            "afterwards.",
            reason=Reason.DATABASE_REFUSED,
        )
    if reason := _TRANSIENT.get(code) or _TRANSIENT.get(code[:2]):
        return TransientError(_with_advice(sentence, reason), reason=reason)
    reason = _PERMANENT.get(code) or _PERMANENT.get(code[:2]) or Reason.QUERY_FAILED
    return PermanentError(_with_advice(sentence, reason), reason=reason)


def _with_advice(sentence: str, reason: Reason) -> str:
    advice = _ADVICE.get(reason)
    return f"{sentence}. {advice}" if advice else sentence


def _is_lost_connection(error: BaseException) -> bool:
    if isinstance(error, asyncpg.InterfaceError):
        # asyncpg has no class of its own for using a connection whose server went away.
        text = str(error)
        return "connection is closed" in text or "connection was closed" in text or "pool is clos" in text
    return isinstance(error, OSError | TimeoutError | asyncpg.InternalClientError)


def _message(error: BaseException) -> str:
    """The error's own message with its detail, in one line, without secrets."""
    words = [str(error) or type(error).__name__]
    detail = getattr(error, "detail", None)
    if isinstance(detail, str):
        words.append(detail)
    return mask_secrets(" ".join(" ".join(words).split())).rstrip(".")
