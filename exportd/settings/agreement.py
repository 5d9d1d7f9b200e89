"""Which settings the daemons of one database have to agree on. Pure.

Whichever daemon takes a job decides by its own settings, and some of them decide for all. What only says how much a
host can do, where its files are and who may come in there may differ.
"""

from collections.abc import Mapping

from exportd.settings.difference import shown
from exportd.settings.schema import Settings

OF_THE_DATABASE = frozenset(
    {
        "spool.retention_hours",
        "limits.part_size",
        "limits.job_attempts",
        "capture.doorbell",
        "capture.horizon_hours",
        "capture.keep_hours",
        "s3.region",
        "s3.endpoint",
        "gcs.endpoint",
    }
)
"""What an export looks like, where it goes, how long it and the change log are kept, what triggers do."""

OF_THE_HOST = frozenset(
    {
        *("database.dsn", "database.dsn_file", "database.lock_timeout_s", "database.pool_size"),
        "catalog.file",  # its path; what is in it is compared entity by entity
        *("spool.directory", "spool.budget", "spool.free_space_floor"),
        *("limits.jobs", "limits.streams", "limits.stream_threshold", "limits.bytes_in_flight"),
        *("limits.delivery_timeout_s", "limits.shutdown_grace_s"),
        *("capture.poll_interval_s", "capture.prune_interval_s"),
        *("control.socket", "control.group", "control.operators", "control.admins", "control.listen", "control.hosts"),
        *("control.tls_certificate", "control.tls_key", "control.public_url", "control.signing_key_file"),
        *("log.level", "log.format"),
        *("s3.sts_endpoint", "s3.profile", "s3.ca_file"),
        *("gcs.token_file", "gcs.token_url", "gcs.token_command", "gcs.aws"),
    }
)
"""What may differ."""


def agreed(settings: Settings) -> Mapping[str, str]:
    """The values that should be the same everywhere, by key, for people to read."""
    values = {}
    for path in sorted(OF_THE_DATABASE):
        section, _, key = path.partition(".")
        values[path] = shown(getattr(getattr(settings, section), key))
    return values
