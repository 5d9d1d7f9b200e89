"""Errors, sorted by what the caller should do about them.

    ExportdError
    ├── TransientError   try again: the database went away, a lock was busy, a store said 503
    ├── PermanentError   trying again is useless: fail the job and tell the person what to change
    └── SettingsError    what the person wrote is wrong: say where, change nothing, exit

Any other exception that escapes is a bug; InvariantError is one that was expected to be impossible. A package
translates the exceptions of its libraries (asyncpg, OSError, …) into these where it calls them, and keeps the cause
with ``raise … from``.
"""

from dataclasses import dataclass

from exportd.model.reason import Reason


class ExportdError(Exception):
    """An error with a sentence for a person, and a reason code for a program.

    ``sentence`` says what was wrong, where, and what to do; it never holds a secret.
    """

    def __init__(self, sentence: str, *, reason: Reason) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.reason = reason


class TransientError(ExportdError):
    """Trying again later may help; not before ``retry_after_s`` seconds, if the other side has said so."""

    def __init__(self, sentence: str, *, reason: Reason, retry_after_s: float | None = None) -> None:
        super().__init__(sentence, reason=reason)
        self.retry_after_s = retry_after_s


class OccupiedError(TransientError):
    """What the work needs is taken, or left alone, for now: it is put back, and the attempt does not count."""


class AloneError(OccupiedError):
    """A job that was claimed together with others has to be read by itself: it is put back for that, at once."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, reason=Reason.READ_BY_ITSELF)


class PermanentError(ExportdError):
    """Trying again is useless until a person changes something."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in what a person wrote.

    ``where`` is ``file:line`` where that is known, else a key path or an object's name.
    """

    where: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.where}: {self.sentence}" if self.where else self.sentence


class SettingsError(ExportdError):
    """The configuration, the catalog or a command's argument is wrong; carries every problem found."""

    def __init__(self, problems: list[Problem] | tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems), reason=Reason.SETTINGS_INVALID)
        self.problems = tuple(problems)

    @classmethod
    def of(cls, sentence: str, *, where: str = "") -> "SettingsError":
        return cls((Problem(where, sentence),))


class InvariantError(Exception):
    """What cannot happen has happened: a bug of ours. Unlike an ``assert``, it stays under ``python -O``."""
