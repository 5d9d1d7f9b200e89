"""A job's id, as a person gives it to a command."""

from uuid import UUID

from exportd.model.errors import SettingsError
from exportd.model.job import JobId


def parse_job_id(text: str) -> JobId:
    """Raises SettingsError for what is none."""
    try:
        return JobId(UUID(text))
    except ValueError:
        raise SettingsError.of(f"{text!r} is no job: it has to be the id of one, as manifests are named.") from None
