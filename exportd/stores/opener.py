"""Opens a place that a person has named."""

from pathlib import Path

from exportd.model.errors import PermanentError, SettingsError
from exportd.model.reason import Reason
from exportd.stores.directory_store import DirectoryStore
from exportd.stores.location import Location, Scheme
from exportd.stores.store import Store


def open_location(location: Location) -> Store:
    """The store at ``location``; its keys of interest begin with ``location.prefix``. To be closed by the caller.

    Raises PermanentError NOT_FOUND for a directory that is not there, SettingsError for a kind that cannot be opened.
    """
    match location.scheme:
        case Scheme.DIRECTORY:
            return DirectoryStore(_existing(location.path))
        case Scheme.S3 | Scheme.GCS:
            raise SettingsError.of(
                f"{location} cannot be read from here yet: copy it to a directory, and name that one instead."
            )


def _existing(path: Path) -> Path:
    if not path.is_dir():
        raise PermanentError(
            f"{path} is no directory. Name the destination's directory, or the one that holds a copy of its objects.",
            reason=Reason.NOT_FOUND,
        )
    return path
