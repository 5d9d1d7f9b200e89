"""How a command ends: exit codes, and one sentence instead of a traceback."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from exportd.cli.output import print_bug, print_error
from exportd.model.errors import ExportdError, PermanentError, SettingsError, TransientError


class Exit(IntEnum):
    """Exit codes, documented in docs/commands.md and stable."""

    DONE = 0
    FAILED = 1
    """It cannot work until something is changed; the sentence says what."""
    USAGE = 2
    """The configuration, the catalog or the arguments are wrong."""
    TRY_AGAIN = 3
    """Something was out of reach or busy."""
    BUG = 70
    """Our fault; a traceback is shown."""
    INTERRUPTED = 130
    """Ctrl-C."""


class DeclinedError(Exception):
    """The person who was asked said no. Nothing is wrong, so there is no reason code."""


def exit_code(error: BaseException) -> Exit:
    """The exit code of the weightiest error in ``error``, which may be a group."""
    match error:
        case BaseExceptionGroup():
            codes = {exit_code(exception) for exception in error.exceptions}
            return next(code for code in (Exit.BUG, Exit.USAGE, Exit.FAILED, Exit.TRY_AGAIN) if code in codes)
        case SettingsError():
            return Exit.USAGE
        case PermanentError() | DeclinedError():
            return Exit.FAILED
        case TransientError():
            return Exit.TRY_AGAIN
        case _:
            return Exit.BUG


@contextmanager
def reported() -> Iterator[None]:
    """Turn errors into a sentence on standard error and an exit code."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; the interpreter must not complain about it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.DONE)
    except Exception as error:
        code = exit_code(error)
        _say(error, code)
        sys.exit(code)


def _say(error: Exception, code: Exit) -> None:
    """Say it on standard error; without a reader there, the exit code says enough."""
    try:
        if code is Exit.BUG:
            print_bug(traceback.format_exc())
        else:
            for sentence in dict.fromkeys(_sentences(error)):
                print_error(sentence)
        sys.stderr.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # or the interpreter fails at exit


def _sentences(error: BaseException) -> Iterator[str]:
    match error:
        case BaseExceptionGroup():
            for exception in error.exceptions:
                yield from _sentences(exception)
        case SettingsError():
            yield from (str(problem) for problem in error.problems)
        case ExportdError():
            yield f"{error.sentence} [{error.reason}]"
        case _:
            yield str(error)
