import asyncio
import errno

import asyncpg
import pytest

from exportd.database.translator import translate, translated
from exportd.model.errors import ExportdError, PermanentError, Reason, TransientError


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (asyncpg.LockNotAvailableError("busy"), TransientError, Reason.LOCK_NOT_AVAILABLE),
        (asyncpg.SerializationError("again"), TransientError, Reason.QUERY_FAILED),
        (asyncpg.DeadlockDetectedError("again"), TransientError, Reason.QUERY_FAILED),
        (asyncpg.AdminShutdownError("bye"), TransientError, Reason.DATABASE_CONNECTION_LOST),
        (asyncpg.TooManyConnectionsError("full"), TransientError, Reason.DATABASE_UNREACHABLE),
        (asyncpg.CannotConnectNowError("starting"), TransientError, Reason.DATABASE_UNREACHABLE),
        (asyncpg.DiskFullError("full"), TransientError, Reason.QUERY_FAILED),
        (asyncpg.QueryCanceledError("cancelled"), TransientError, Reason.QUERY_FAILED),
        (asyncpg.ConnectionDoesNotExistError("gone"), TransientError, Reason.DATABASE_CONNECTION_LOST),
        (asyncpg.InterfaceError("connection is closed"), TransientError, Reason.DATABASE_CONNECTION_LOST),
        (OSError(errno.ECONNRESET, "reset"), TransientError, Reason.DATABASE_CONNECTION_LOST),
        (asyncpg.InternalClientError("cannot"), TransientError, Reason.DATABASE_CONNECTION_LOST),
        (TimeoutError(), TransientError, Reason.DATABASE_CONNECTION_LOST),
        (asyncpg.InsufficientPrivilegeError("no"), PermanentError, Reason.PRIVILEGE_MISSING),
        (asyncpg.UndefinedTableError("no table"), PermanentError, Reason.TABLE_MISSING),
        (asyncpg.InvalidSchemaNameError("no schema"), PermanentError, Reason.TABLE_MISSING),
        (asyncpg.InvalidSQLStatementNameError("gone"), PermanentError, Reason.DATABASE_REFUSED),
        (asyncpg.DuplicatePreparedStatementError("there"), PermanentError, Reason.DATABASE_REFUSED),
        (
            asyncpg.ProtocolViolationError("unsupported startup parameter: jit"),
            PermanentError,
            Reason.DATABASE_REFUSED,
        ),
        (asyncpg.ProtocolViolationError("what"), TransientError, Reason.DATABASE_CONNECTION_LOST),
        (asyncpg.InvalidPasswordError("no"), PermanentError, Reason.DATABASE_REFUSED),
        (asyncpg.InvalidCatalogNameError("no"), PermanentError, Reason.DATABASE_REFUSED),
        (asyncpg.PostgresSyntaxError("what"), PermanentError, Reason.QUERY_FAILED),
        (asyncpg.DivisionByZeroError("what"), PermanentError, Reason.QUERY_FAILED),
        (asyncpg.InterfaceError("wrong number of arguments"), PermanentError, Reason.QUERY_FAILED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_error_says_whether_to_try_again(error: Exception, kind: type[ExportdError], reason: Reason) -> None:
    translation = translate(error, doing="reading ACCOUNTS")
    assert type(translation) is kind
    assert translation.reason is reason
    assert "while reading ACCOUNTS" in translation.sentence


def test_an_error_of_ours_is_not_translated_again() -> None:
    error = PermanentError("The table is gone.", reason=Reason.TABLE_MISSING)
    assert translate(error, doing="reading") is error


def test_the_cause_is_kept_and_the_servers_words_are_in_the_sentence() -> None:
    cause = asyncpg.UndefinedTableError('relation "x" does not exist')
    with pytest.raises(PermanentError, match='relation "x" does not exist') as raised, translated("reading"):
        raise cause
    assert raised.value.__cause__ is cause


def test_a_password_in_the_servers_words_is_masked() -> None:
    error = asyncpg.PostgresError("cannot reach postgresql://ann:hunter2@db/app")
    assert "hunter2" not in translate(error, doing="reading").sentence


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyError("bug")])
def test_cancellation_and_bugs_pass_untouched(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, translated("reading"):
        raise error
    assert raised.value is error
