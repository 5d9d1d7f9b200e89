"""The collaborators of the API's operations, grouped by resource: each router gets the group that it uses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from exportd.api.downloads import SpoolDownloads
from exportd.api.exposition import Exposition
from exportd.api.identity.access import Authenticator
from exportd.api.identity.client_table import ClientTable
from exportd.api.identity.signing import Signer
from exportd.api.job_watcher import JobWatcher
from exportd.api.schemas.operations import LogLevelName
from exportd.api.schemas.status import LocalStatus
from exportd.api.status_reader import DestinationCondition, StatusReader
from exportd.api.transport.client_limits import ConnectionCount, RateLimit
from exportd.capture.installer import CaptureInstaller
from exportd.consumer.verifier import DeliveryVerifier
from exportd.database.unit_of_work import Auditor
from exportd.destinations.checker import StoredDestinationChecker
from exportd.destinations.open_destinations import DestinationRefresher
from exportd.destinations.operations import DestinationOperator
from exportd.destinations.table import DestinationTable
from exportd.extraction.previewer import Previewer
from exportd.fleet.table import DaemonTable
from exportd.jobs.job_table import JobTable
from exportd.jobs.operations import JobOperator
from exportd.jobs.requests import OwnedJobTable
from exportd.model.clock import Clock
from exportd.model.entity import Entity, EntityCode
from exportd.model.schedule import Rule
from exportd.schedules.editing import OwnedScheduleTable
from exportd.schedules.operations import ScheduleOperator
from exportd.settings.difference import Difference


class Reload(Protocol):
    """Puts the configuration file into effect."""

    async def __call__(self, *, dry_run: bool) -> Difference:
        """Put the file into effect and return what it changes. Raises SettingsError with every problem, or the error
        that prevents the check.
        """
        ...


@dataclass(frozen=True, slots=True)
class LogLevelSwitch:
    """How much this daemon logs."""

    get: Callable[[], LogLevelName]
    set: Callable[[LogLevelName], None]


@dataclass(frozen=True, slots=True)
class ScheduleCollaborators:
    """``entities`` are those of the catalog. ``check_rule`` finds the problems of a schedule's rule."""

    table: OwnedScheduleTable
    operator: ScheduleOperator
    previewer: Previewer
    entities: Mapping[EntityCode, Entity]
    check_rule: Callable[[Rule], list[str]]


@dataclass(frozen=True, slots=True)
class DestinationCollaborators:
    """The destinations of the database, and those that this daemon has open (``live``)."""

    table: DestinationTable
    operator: DestinationOperator
    live: DestinationRefresher
    checker: StoredDestinationChecker
    verifier: DeliveryVerifier


@dataclass(frozen=True, slots=True)
class JobCollaborators:
    """``owned`` has jobs as their organization sees them, ``table`` everything about each job.

    ``public_url`` is the address at which clients call this server; empty means as in the request. One user may follow
    up to ``streams`` streams of events. The files of a finished job are kept for ``retention``.
    """

    owned: OwnedJobTable
    table: JobTable
    operator: JobOperator
    watcher: JobWatcher
    downloads: SpoolDownloads
    public_url: str
    streams: int
    retention: timedelta


@dataclass(frozen=True, slots=True)
class AccessCollaborators:
    """Finds out who makes a request, and keeps the programs that have credentials."""

    authenticator: Authenticator
    clients: ClientTable


@dataclass(frozen=True, slots=True)
class StatusCollaborators:
    """``local`` returns what this daemon knows of itself, ``shared`` what the database says, ``condition`` this
    daemon's view of a destination.
    """

    local: Callable[[], LocalStatus]
    shared: StatusReader
    condition: DestinationCondition
    exposition: Exposition


@dataclass(frozen=True, slots=True)
class HostCollaborators:
    """The daemon's process, the other daemons of the database, and the capture of the catalog's entities."""

    capture: CaptureInstaller
    entities: Mapping[EntityCode, Entity]
    daemons: DaemonTable
    log_level: LogLevelSwitch
    auditor: Auditor
    reload: Reload


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The limits of requests of an organization, in a time and at once, and of requests for tokens of an address."""

    organization: RateLimit
    token: RateLimit
    connections: ConnectionCount


@dataclass(frozen=True, slots=True)
class Collaborators:
    """All collaborators of the operations."""

    schedules: ScheduleCollaborators
    destinations: DestinationCollaborators
    jobs: JobCollaborators
    access: AccessCollaborators
    status: StatusCollaborators
    host: HostCollaborators
    limits: RequestLimits
    signer: Signer
    clock: Clock
