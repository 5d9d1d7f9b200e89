"""Errors, sorted by what the caller should do about them, and the codes that say why something failed or was full.

    ExportdError
    ├── TransientError   try again: the database went away, a lock was busy, a store said 503
    ├── PermanentError   trying again is useless: fail the job and tell the person what to change
    └── SettingsError    what the person wrote is wrong: say where, change nothing, exit

Any other exception that escapes is a bug; InvariantError is one that was expected to be impossible. A package
translates the exceptions of its libraries (asyncpg, OSError, …) into these where it calls them, and keeps the cause
with ``raise … from``.

The codes stand in the job table, the manifest, the log and the metrics, and are stable: dashboards match on them.
"""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why something failed."""

    SETTINGS_INVALID = "SETTINGS_INVALID"
    DATABASE_UNREACHABLE = "DATABASE_UNREACHABLE"
    DATABASE_REFUSED = "DATABASE_REFUSED"
    DATABASE_CONNECTION_LOST = "DATABASE_CONNECTION_LOST"
    DATABASE_READ_ONLY = "DATABASE_READ_ONLY"
    DATABASE_IS_STANDBY = "DATABASE_IS_STANDBY"
    DATABASE_NOT_MIGRATED = "DATABASE_NOT_MIGRATED"
    DATABASE_PUT_BACK = "DATABASE_PUT_BACK"
    """The database is older than what was published: a volume was put back, or a copy was started."""
    PRIVILEGE_MISSING = "PRIVILEGE_MISSING"
    LOCK_NOT_AVAILABLE = "LOCK_NOT_AVAILABLE"
    TABLE_MISSING = "TABLE_MISSING"
    KEY_NOT_UNIQUE = "KEY_NOT_UNIQUE"
    CATALOG_MISMATCH = "CATALOG_MISMATCH"
    ENTITY_OUT_OF_ORDER = "ENTITY_OUT_OF_ORDER"
    """The entity does not fit its table, and the daemon knew it before the job began."""
    CAPTURE_MISSING = "CAPTURE_MISSING"
    CAPTURE_DAMAGED = "CAPTURE_DAMAGED"
    QUERY_FAILED = "QUERY_FAILED"
    NOTICE_DURING_COPY = "NOTICE_DURING_COPY"
    COPY_SILENT = "COPY_SILENT"
    ROWS_MISCOUNTED = "ROWS_MISCOUNTED"
    READ_BY_ITSELF = "READ_BY_ITSELF"
    """A job that was claimed together with others is put back: its next attempt is read in a snapshot of its own."""
    SPOOL_FULL = "SPOOL_FULL"
    SPOOL_QUOTA = "SPOOL_QUOTA"
    SPOOL_UNWRITABLE = "SPOOL_UNWRITABLE"
    SPOOL_DAMAGED = "SPOOL_DAMAGED"
    DESTINATION_UNAVAILABLE = "DESTINATION_UNAVAILABLE"
    DESTINATION_REFUSED = "DESTINATION_REFUSED"
    DESTINATION_MISSING = "DESTINATION_MISSING"
    MANIFEST_DAMAGED = "MANIFEST_DAMAGED"
    LEASE_LOST = "LEASE_LOST"
    INTERRUPTED = "INTERRUPTED"
    CANCELLED = "CANCELLED"
    JOB_UNFINISHED = "JOB_UNFINISHED"
    JOB_STATE_UNFIT = "JOB_STATE_UNFIT"
    """What was asked of a job is not possible in its state."""
    STILL_RUNNING = "STILL_RUNNING"
    """What was asked of a daemon is not possible while it runs."""
    NOT_FOUND = "NOT_FOUND"
    CODE_TAKEN = "CODE_TAKEN"
    VERSION_STALE = "VERSION_STALE"
    DECLARED = "DECLARED"
    """It stands in the configuration, and is edited there."""
    IN_USE = "IN_USE"
    QUOTA_REACHED = "QUOTA_REACHED"
    """The organization has as many as it may have."""
    QUOTA_BUSY = "QUOTA_BUSY"
    """The same, of what empties by itself: jobs that wait, changes of the last hour."""
    DAEMON_UNREACHABLE = "DAEMON_UNREACHABLE"
    DAEMON_REFUSED = "DAEMON_REFUSED"
    BUG = "BUG"


class FullReason(StrEnum):
    """Why an entity was exported completely instead of incrementally."""

    FIRST_RUN = "FIRST_RUN"
    ENTITY_ADDED = "ENTITY_ADDED"
    DESTINATION_ADDED = "DESTINATION_ADDED"
    AD_HOC = "AD_HOC"
    CATALOG_CHANGED = "CATALOG_CHANGED"
    CLUSTER_CHANGED = "CLUSTER_CHANGED"
    TIMELINE_CHANGED = "TIMELINE_CHANGED"
    SNAPSHOT_WENT_BACK = "SNAPSHOT_WENT_BACK"
    DATABASE_PUT_BACK = "DATABASE_PUT_BACK"
    """The spool or a destination remembers a run that is not in the database's history."""
    CAPTURE_CHANGED = "CAPTURE_CHANGED"
    PARTITIONS_CHANGED = "PARTITIONS_CHANGED"
    COLUMNS_CHANGED = "COLUMNS_CHANGED"
    TABLE_UNLOGGED = "TABLE_UNLOGGED"
    """It is empty after a crash, and nothing says so."""
    CHANGES_UNKNOWN = "CHANGES_UNKNOWN"
    IMAGES_UNREADABLE = "IMAGES_UNREADABLE"
    HORIZON_PASSED = "HORIZON_PASSED"
    REQUESTED = "REQUESTED"
    LOG_PRUNED = "LOG_PRUNED"
    """A back-fill was asked for, and the change log no longer reaches back to where it would begin."""


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
    """Something that the work needs is occupied or must not be used for now. The work is put back, and the attempt does
    not count.
    """


class AloneError(OccupiedError):
    """A job that was claimed together with others has to be read alone. It is put back at once, to be read alone in its
    next attempt.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, reason=Reason.READ_BY_ITSELF)


class PermanentError(ExportdError):
    """Trying again is useless until a person changes something."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem in something that a person has written.

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
    """Something impossible has happened: a bug in exportd. Unlike an ``assert``, it stays under ``python -O``."""
