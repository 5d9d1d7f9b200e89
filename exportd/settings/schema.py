"""Everything that can be configured. A key is declared once: its type, its limits, its effect, its scope.

The text under a key says what it means, its unit and why this default. The texts are the configuration reference
(``docs/configuration.md`` is made from this module) and part of the sentences about missing keys.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr

from exportd.model.foreign_text import (
    MAX_CRON_LENGTH,
    MAX_DECLARED,
    MAX_DESTINATIONS,
    check_name,
)
from exportd.model.schedule import ExportFormat, Rule, Unit, rule_from
from exportd.settings.control_schema import ControlSettings, MetricsSettings
from exportd.settings.destination_schema import DestinationSettings, GcsSettings, S3Settings
from exportd.settings.document import Document
from exportd.settings.dsn import check_dsn, check_reader_dsn, with_user
from exportd.settings.section import (
    BoundedCode,
    Code,
    Effect,
    EntityNames,
    FilePath,
    Name,
    OptionalFilePath,
    Organization,
    Scope,
    Section,
    Setting,
    SizeBytes,
    check_not_empty,
)

ALL_ENTITIES = "ALL"
"""In a schedule's ``entities``: every entity of the catalog, also those that are added later."""

MIN_AUDIT_DAYS = 30
"""The trigger of migration 0014 has it too."""


def check_daemon_name(name: str) -> str:
    """A name, or nothing; ValueError otherwise."""
    return check_name(name) if name else name


def _as_list(value: object) -> object:
    return [value] if value == ALL_ENTITIES else value


class DatabaseSettings(Section):
    """The database whose tables are exported. The daemon's own tables live in it too, in the schema `exportd`."""

    dsn: Annotated[str, Setting(Effect.LOGIN_AT_ONCE, Scope.HOST), AfterValidator(check_dsn), Field(repr=False)]
    """How to connect: `postgresql://user:password@host:port/database`. Give either this or `dsn_file`; the environment
    variable `EXPORTD_DATABASE_DSN` goes before both. Connect directly, not through a transaction pooler. Over a network
    add `?sslmode=verify-full&sslrootcert=FILE`; `exportd check` warns without. Special characters of the password are
    escaped, such as `%23` for `#`."""

    dsn_file: Annotated[FilePath | None, Setting(Effect.AT_ONCE, Scope.HOST)] = None
    """A file that holds nothing but the DSN, such as a systemd credential, so that the password stands in no
    configuration file. Users of the machine at large must not be able to read it, and may not be able to write it."""

    reader_user: Annotated[str, Setting(Effect.AT_ONCE, Scope.HOST), Field(max_length=63)] = ""
    """The role that reads the application's tables: the same DSN with this user. It may read the tables of the catalog
    and the change logs, and nothing else, so code of a table's owner that an export runs reaches nothing of exportd's.
    `exportd role sql` makes it. Without it the role of `dsn` reads too, which is fine where all owners are trusted."""

    reader_dsn: Annotated[
        str, Setting(Effect.AT_ONCE, Scope.HOST), AfterValidator(check_reader_dsn), Field(repr=False)
    ] = ""
    """The same as a DSN of its own, which must lead to the same database. Give one of `reader_user`, `reader_dsn` and
    `reader_dsn_file`."""

    reader_dsn_file: Annotated[OptionalFilePath, Setting(Effect.AT_ONCE, Scope.HOST)] = None
    """A file that holds nothing but that DSN."""

    lock_timeout_s: Annotated[float, Setting(Effect.AT_ONCE, Scope.HOST), Field(gt=0, le=60)] = 2.0
    """How long to wait for a lock on a table, in seconds, before giving way to the application and trying again later.
    Short, because the application's writes queue behind a waiting lock. More than 0.8 counts as 0.8: longer than that,
    Postgres would look for deadlocks, and end what the application does."""

    pool_size: Annotated[int, Setting(Effect.RESTART, Scope.HOST), Field(ge=1, le=100)] = 4
    """How many connections the daemon keeps for its own tables. COPY streams have connections of their own."""

    @property
    def reading_dsn(self) -> str | None:
        """The DSN of the second login, which reads the application's tables; None where there is one login only."""
        if self.reader_dsn:
            return self.reader_dsn
        return with_user(self.dsn, self.reader_user) if self.reader_user else None


class DaemonSettings(Section):
    """How the daemon is known among those of the database."""

    name: Annotated[str, Setting(Effect.RESTART, Scope.HOST), AfterValidator(check_daemon_name)] = ""
    """By what name it is known, instead of the host's. A daemon takes the place of one that has stopped and had the
    same name and configuration file: give containers, whose host names and disks are new each time, a name that
    stays."""


class CatalogSettings(Section):
    """What can be exported."""

    # The path belongs to the host; the daemons compare the content entity by entity.
    file: Annotated[FilePath, Setting(Effect.NEXT_JOB, Scope.HOST)] = Path("entities.toml")
    """The catalog: which entity is which table, with which fields. `exportd catalog draft` proposes one."""


class SpoolSettings(Section):
    """The local directory of finished files: uploads read from it, and downloads too."""

    directory: Annotated[FilePath, Setting(Effect.RESTART, Scope.HOST)] = Path("/var/lib/exportd/spool")
    """Where the files go. It belongs to one daemon alone and should be on a disk that survives a restart."""

    ephemeral: Annotated[bool, Setting(Effect.RESTART, Scope.HOST)] = False
    """Whether the directory is gone when the daemon stops, as in most containers. The other daemons then do not wait a
    day for this one to come back: they forget it when it stops, or fifteen minutes after it was last seen."""

    budget: Annotated[SizeBytes, Setting(Effect.AT_ONCE, Scope.HOST)] = 50 * 1000**3
    """How much of the disk the spool's files may take; a small one takes 4 kB. The journal takes 16 MB beside it. A
    full spool slows the reading down, then fails the job; it never fills the disk."""

    free_space_floor: Annotated[SizeBytes, Setting(Effect.AT_ONCE, Scope.HOST)] = 1000**3
    """How much of the file system stays free in any case, for everything else that lives there."""

    retention_hours: Annotated[float, Setting(Effect.AT_ONCE, Scope.DATABASE), Field(ge=0, le=24 * 366)] = 24
    """How long the files of a finished job stay for download, in hours. 0 removes them as soon as it is finished."""


class LimitSettings(Section):
    """How much is done at once, and how long to keep trying."""

    jobs: Annotated[int, Setting(Effect.AT_ONCE, Scope.HOST), Field(ge=1, le=64)] = 2
    """How many jobs run at the same time."""

    jobs_together: Annotated[int, Setting(Effect.AT_ONCE, Scope.HOST), Field(ge=1, le=1000)] = 50
    """How many short jobs over the same entities take one place together: they are read in one snapshot, which costs
    the database a fraction. Short are jobs of schedules whose last run had at most 1 MB and was read within half a
    minute. The first runs of schedules are read together, too. 1: each job runs by itself."""

    short_jobs: Annotated[int, Setting(Effect.AT_ONCE, Scope.HOST), Field(ge=0, le=64)] = 1
    """How many short jobs run beside these while long ones take every place; those that share a snapshot count as one.
    So a large export does not hold up the small ones. 0 is none."""

    delivering_jobs: Annotated[int, Setting(Effect.AT_ONCE, Scope.HOST), Field(ge=0, le=256)] = 8
    """How many jobs run beside these while they only deliver: their files are complete, and they have waited for their
    destinations for a quarter of a second. So a bucket that is far away, or slow, does not hold up what is to be read.
    Those that share a snapshot count as one. 0 is none."""

    stalled_jobs: Annotated[int, Setting(Effect.AT_ONCE, Scope.HOST), Field(ge=1, le=64)] = 2
    """How many jobs run beside these while they wait for the database: for a lock, or for rows that do not come. Of
    these places one table gets all but one. So a table that is locked, slow or hostile does not hold up the others."""

    streams: Annotated[int, Setting(Effect.NEXT_JOB, Scope.HOST), Field(ge=1, le=64)] = 2
    """How many COPY streams, each with its connection, one job reads with. Each costs the database up to one core."""

    stream_threshold: Annotated[SizeBytes, Setting(Effect.NEXT_JOB, Scope.HOST)] = 256 * 1000**2
    """From which table size on several streams share one table. Small tables are not worth the connections."""

    part_size: Annotated[SizeBytes, Setting(Effect.NEXT_JOB, Scope.DATABASE)] = 6 * 1000**3
    """The largest file, as delivered (compressed). Only a single row that is larger by itself exceeds it."""

    bytes_in_flight: Annotated[SizeBytes, Setting(Effect.RESTART, Scope.HOST)] = 64 * 1024**2
    """How much memory the uploads of all jobs together may hold. Constant, whatever the size of the tables."""

    job_attempts: Annotated[int, Setting(Effect.NEXT_JOB, Scope.DATABASE), Field(ge=1, le=100)] = 5
    """How often a job is tried when the cause may pass (database away, destination away) before it has failed."""

    silence_timeout_s: Annotated[float, Setting(Effect.NEXT_JOB, Scope.HOST), Field(ge=1, le=86400)] = 1800.0
    """How long a COPY may send nothing, in seconds, before the job's attempt ends. An index or a policy of a table may
    call a function of its owner, and that may sleep. A large table that has to be sorted first sends nothing either, so
    this is long."""

    delivery_timeout_s: Annotated[float, Setting(Effect.NEXT_JOB, Scope.HOST), Field(gt=0, le=3600)] = 120.0
    """How long each request to a destination that fails or throttles is repeated before the job's attempt ends, in
    seconds. After that the destination gets no requests for a quarter of that time, then for longer and longer, up to
    five times as long."""

    shutdown_grace_s: Annotated[float, Setting(Effect.AT_ONCE, Scope.HOST), Field(ge=0, le=3600)] = 30.0
    """How long running jobs may go on after a stop was asked for, in seconds. What is not finished by then goes back to
    the queue. Keep it below systemd's `TimeoutStopSec`."""


class QuotaSettings(Section):
    """How much one organization may have. What the configuration declares does not count: it is not the organization's.

    A request that would exceed one is refused with 403, or with 429 where waiting helps.
    """

    schedules: Annotated[int, Setting(Effect.AT_ONCE, Scope.DATABASE), Field(ge=1, le=100_000)] = 200
    """Schedules that are made through the API."""

    destinations: Annotated[int, Setting(Effect.AT_ONCE, Scope.DATABASE), Field(ge=1, le=100_000)] = 50
    """Destinations that are made through the API."""

    waiting_jobs: Annotated[int, Setting(Effect.AT_ONCE, Scope.DATABASE), Field(ge=1, le=100_000)] = 100
    """Jobs that wait, of schedules and without. With so many no export can be asked for and no schedule be made, for
    its first run would wait too; what is due is queued all the same."""

    adhoc_jobs: Annotated[int, Setting(Effect.AT_ONCE, Scope.DATABASE), Field(ge=1, le=100_000)] = 20
    """Exports without a schedule that wait. One that is equal to one that waits is that one, and does not count."""

    clients: Annotated[int, Setting(Effect.AT_ONCE, Scope.DATABASE), Field(ge=1, le=100_000)] = 20
    """Programs with credentials."""

    changes_per_hour: Annotated[int, Setting(Effect.AT_ONCE, Scope.DATABASE), Field(ge=1, le=1_000_000)] = 1000
    """Changes through the API, and exports that are asked for. Each leaves a row in the audit log."""

    streams: Annotated[int, Setting(Effect.AT_ONCE, Scope.HOST), Field(ge=1, le=32)] = 8
    """Streams of events that one user of the machine may follow at the same time. A daemon has 32."""

    connections: Annotated[int, Setting(Effect.AT_ONCE, Scope.HOST), Field(ge=1, le=256)] = 32
    """Connections over TCP on which its requests and downloads are being answered. A listener has 256."""

    spool_share: Annotated[float, Setting(Effect.AT_ONCE, Scope.HOST), Field(gt=0, le=1)] = 0.5
    """Which share of `spool.budget` the files of one organization may take, finished jobs' too. Beyond it its jobs wait
    for its own files to go, and others go on. The only job of an organization in the spool may be larger."""


DEFAULT_QUOTAS = QuotaSettings()


class RetentionSettings(Section):
    """How long exportd's own rows stay in the database. What a schedule's next run needs stays longer."""

    jobs: Annotated[float, Setting(Effect.AT_ONCE, Scope.DATABASE), Field(ge=1, le=36_600)] = 90
    """How long a job that has ended can be looked at, in days; as long stay schedules and destinations that were
    deleted. The files of jobs are another matter: see `spool.retention_hours`."""

    audit: Annotated[float, Setting(Effect.AT_ONCE, Scope.DATABASE), Field(ge=MIN_AUDIT_DAYS, le=36_600)] = 400
    """How long the audit log says who did what, in days. The database itself refuses to delete rows that are younger
    than 30 days."""


class CaptureSettings(Section):
    """The change log that the triggers write."""

    doorbell: Annotated[bool, Setting(Effect.AT_ONCE, Scope.DATABASE)] = True
    """Whether a trigger may send one NOTIFY after a quiet time, so that waiting changes show at once. Switched off by
    itself where prepared transactions are allowed, for NOTIFY would make them fail."""

    poll_interval_s: Annotated[float, Setting(Effect.AT_ONCE, Scope.HOST), Field(ge=1, le=3600)] = 30.0
    """How often to look for waiting changes and due work when no notification arrives, in seconds."""

    prune_interval_s: Annotated[float, Setting(Effect.AT_ONCE, Scope.HOST), Field(ge=1, le=86400)] = 300.0
    """How often rows of the change log that no schedule needs any more are deleted, in seconds."""

    horizon_hours: Annotated[float, Setting(Effect.AT_ONCE, Scope.DATABASE), Field(ge=1, le=24 * 366)] = 168
    """How long a schedule that does not succeed may hold the change log back, in hours. After that its next run is
    full. Long enough for a week-end and a holiday."""

    keep_hours: Annotated[float, Setting(Effect.AT_ONCE, Scope.DATABASE), Field(ge=0, le=24 * 366)] = 24
    """How long the change log keeps what a run held after the run has succeeded, in hours. So long, a back-fill from
    that run holds the changes since, and not everything."""


class LogSettings(Section):
    """What the daemon says, on standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Setting(Effect.AT_ONCE, Scope.HOST)] = "info"
    """The least important messages that are shown."""

    format: Annotated[Literal["auto", "console", "json"], Setting(Effect.AT_ONCE, Scope.HOST)] = "auto"
    """`console` for people, `json` (one object a line) for programs; `auto` is `console` on a terminal."""


class ScheduleSettings(Section):
    """What is exported when. Give `unit` and `period` (and perhaps `offset`), or `cron`. All times are UTC."""

    code: Code
    """The name of the schedule, unique within the organization. A new code is a new schedule, with a full first run."""

    organization: Organization
    """Whose rows are exported: the `orgId` of paths and the value of the tenant columns."""

    name: Name | None = None
    """A name for people to read; the code when left out."""

    entities: Annotated[EntityNames, BeforeValidator(_as_list), AfterValidator(check_not_empty)]
    """The entities of the catalog to export, such as `["ACCOUNTS", "BILLS"]`, or `"ALL"`."""

    format: Annotated[ExportFormat, Field(strict=False)] = ExportFormat.CSV
    """The format of the files."""

    destinations: Annotated[tuple[BoundedCode, ...], Field(strict=False, max_length=MAX_DESTINATIONS)] = ()
    """The codes of the destinations that receive the files. With none, they are kept for download only."""

    unit: Annotated[Unit | None, Field(strict=False)] = None
    """The unit of `period`."""

    period: int | None = None
    """Every how many units: from 15 minutes to 3 days. The first run is at once."""

    offset: int | None = None
    """Where in the hour (minutes, with `HOUR`) or in the day (hours, with `DAY`) the regular runs begin. Without it
    they are counted from the schedule's creation."""

    cron: Annotated[str | None, Field(max_length=MAX_CRON_LENGTH)] = None
    """Five fields: minute, hour, day of month, month, day of week. No two runs closer than 15 minutes or further apart
    than 3 days."""

    @property
    def rule(self) -> Rule:
        """When it fires. The loader has made sure that there is exactly one way."""
        return rule_from(self.model_dump(include={"unit", "period", "offset", "cron"}))


class Settings(Section):
    """The configuration file."""

    database: DatabaseSettings
    """The database whose tables are exported."""

    daemon: DaemonSettings = Field(default_factory=DaemonSettings)
    """This daemon among others."""

    catalog: CatalogSettings = Field(default_factory=CatalogSettings)
    """What can be exported."""

    spool: SpoolSettings = Field(default_factory=SpoolSettings)
    """The local directory of finished files."""

    limits: LimitSettings = Field(default_factory=LimitSettings)
    """How much is done at once."""

    quotas: QuotaSettings = Field(default_factory=QuotaSettings)
    """How much one organization may have."""

    retention: RetentionSettings = Field(default_factory=RetentionSettings)
    """How long exportd's own rows stay in the database."""

    capture: CaptureSettings = Field(default_factory=CaptureSettings)
    """The change log."""

    control: ControlSettings = Field(default_factory=ControlSettings)
    """The HTTP API."""

    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    """The address for monitoring."""

    log: LogSettings = Field(default_factory=LogSettings)
    """What the daemon says."""

    s3: S3Settings = Field(default_factory=S3Settings)
    """What all S3 destinations share."""

    gcs: GcsSettings = Field(default_factory=GcsSettings)
    """What all destinations in Google Cloud Storage share."""

    destination: Annotated[tuple[DestinationSettings, ...], Field(strict=False, max_length=MAX_DECLARED)] = ()
    """Where files are delivered."""

    schedule: Annotated[tuple[ScheduleSettings, ...], Field(strict=False, max_length=MAX_DECLARED)] = ()
    """What is exported when."""

    _document: Document | None = PrivateAttr(default=None)

    @classmethod
    def from_document(cls, document: Document, *, data: dict[str, Any], folder: Path) -> "Settings":
        """Validates ``data``; pydantic's ValidationError when it is wrong."""
        settings = cls.model_validate(data, context={"folder": folder})
        settings._document = document
        return settings

    @property
    def document(self) -> Document:
        """The file they were read from; a nameless one without text for settings that were made in code."""
        return self._document or Document("", self.model_dump())

    def without_document(self) -> "Settings":
        """The same without the text of the file, which takes as much memory again; only its name is kept.

        Problems that are reported later have no line then.
        """
        settings = self.model_copy()
        settings._document = Document(self.document.name, {})
        return settings


TABLES: Mapping[str, type[Section]] = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
"""The tables of the file, by name; without the lists ``destination`` and ``schedule``, whose items change at once."""

LiveSettings = Callable[[], Settings]
"""Returns the settings in effect, which a reload swaps: a service asks for them whenever it needs a value."""
