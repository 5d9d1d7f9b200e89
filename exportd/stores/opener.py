"""Opens a place that a person has named. The clouds' libraries are imported for those who need them."""

import os
from pathlib import Path

from exportd.model.errors import PermanentError, SettingsError
from exportd.model.reason import Reason
from exportd.stores.directory.store import DirectoryStore
from exportd.stores.location import Location, Scheme
from exportd.stores.store import Store


def open_location(location: Location) -> Store:
    """The store at ``location``; its keys of interest begin with ``location.prefix``. To be closed by the caller.

    Buckets are read with the credentials, and at the address, that the clouds' own tools would take from the
    environment. Raises PermanentError NOT_FOUND for a directory that is not there.
    """
    match location.scheme:
        case Scheme.DIRECTORY:
            return DirectoryStore(_existing(location.path))
        case Scheme.S3:
            return _s3_store(location.root)
        case Scheme.GCS:
            return _gcs_store(location.root)


def _s3_store(bucket: str) -> Store:
    from exportd.stores.s3.connector import S3Connector
    from exportd.stores.s3.options import S3Access
    from exportd.stores.s3.store import S3Store

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    return S3Store(bucket, S3Access(endpoint=endpoint), S3Connector())


def _gcs_store(bucket: str) -> Store:
    from exportd.stores.gcs.identity import Anonymous, CredentialsFile
    from exportd.stores.gcs.store import GcsStore

    emulator = os.environ.get("STORAGE_EMULATOR_HOST", "")
    if emulator:
        return GcsStore(bucket, Anonymous(), endpoint=emulator)
    file = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if not file:
        raise SettingsError.of(
            f"There are no credentials for gs://{bucket}: name their file in GOOGLE_APPLICATION_CREDENTIALS."
        )
    return GcsStore(bucket, CredentialsFile(Path(file)))


def _existing(path: Path) -> Path:
    if not path.is_dir():
        raise PermanentError(
            f"{path} is no directory. Name the destination's directory, or the one that holds a copy of its objects.",
            reason=Reason.NOT_FOUND,
        )
    return path
