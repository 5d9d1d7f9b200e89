"""The daemons of a database, as one of them sees them. Pure."""

from exportd.api.schemas.fields import Answer, Moment
from exportd.fleet.disagreement import Disagreement, Subject
from exportd.fleet.record import DaemonRecord


class KnownDaemon(Answer):
    """A daemon of the database; ``id`` is its spool's. One that does not run is expected back for a day."""

    id: str
    host: str
    pid: int
    version: str
    running: bool
    started_at: Moment
    seen_at: Moment


class DisagreementStatus(Answer):
    """What this daemon and another do not have in common, and should; the message says what to do."""

    daemon_id: str
    host: str
    about: Subject
    message: str


def shown_daemon(daemon: DaemonRecord) -> KnownDaemon:
    return KnownDaemon(
        id=str(daemon.spool_id),
        host=daemon.host,
        pid=daemon.pid,
        version=daemon.version,
        running=daemon.running,
        started_at=daemon.started_at,
        seen_at=daemon.seen_at,
    )


def shown_disagreement(disagreement: Disagreement) -> DisagreementStatus:
    return DisagreementStatus(
        daemon_id=str(disagreement.spool_id),
        host=disagreement.host,
        about=disagreement.subject,
        message=disagreement.sentence,
    )
