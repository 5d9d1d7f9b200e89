"""Builds a store from its description: a destination's settings, or a location that a person has named.

Only this module knows what each kind of store needs. The clouds' libraries take a second to import, so they are
imported when a bucket is opened.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from exportd.model.errors import PermanentError, Reason, SettingsError
from exportd.settings.destination_schema import (
    DestinationSettings,
    DirectoryDestination,
    GcsDestination,
    S3Destination,
    Scheme,
)
from exportd.settings.schema import Settings
from exportd.stores.directory.store import CallTurns, DirectoryStore
from exportd.stores.gcs.identity import Anonymous, CredentialsFile, GcsIdentity, identity_of, require_own_pool
from exportd.stores.location import Location
from exportd.stores.s3.options import S3Access, S3Options, access_of, piece_bytes_for
from exportd.stores.store import Store

if TYPE_CHECKING:
    from exportd.stores.gcs.requester import GcsTokens
    from exportd.stores.s3.connector import S3Connector


class StoreOpener:
    """Opens stores, without sending a request. One instance serves the daemon, because the buckets of a cloud share
    objects that are expensive to make.

    The caller closes the stores.
    """

    def __init__(self) -> None:
        self._s3_connector: S3Connector | None = None
        self._gcs_tokens: GcsTokens = WeakValueDictionary()
        self._file_turns = CallTurns()

    def open(self, declared: DestinationSettings, settings: Settings, *, afresh: bool = False) -> Store:
        """The store of a destination. With ``afresh`` it has its own connections, and reads its credentials again.

        Raises SettingsError when its settings do not suffice.
        """
        match declared:
            case DirectoryDestination():
                return DirectoryStore(declared.directory, turns=self._file_turns)
            case S3Destination():
                return self._s3_store(
                    declared.bucket,
                    access_of(declared, settings.s3),
                    S3Options(declared.checksum, declared.encryption, declared.kms_key),
                    largest_file_bytes=settings.limits.part_size,
                    afresh=afresh,
                )
            case GcsDestination():
                identity, tokens = identity_of(declared, settings.gcs), None if afresh else self._gcs_tokens
                return _gcs_store(declared.bucket, identity, settings.gcs.endpoint, tokens)

    async def own_identity(self, declared: S3Destination, settings: Settings) -> str:
        """The ARN of the daemon's own credentials, which the trust policy of a role names.

        Raises TransientError or PermanentError.
        """
        from exportd.stores.s3.errors import translated

        access = access_of(declared, settings.s3)
        with translated(f"STS at {access.sts_endpoint}" if access.sts_endpoint else "STS", doing="asking who we are"):
            return await self._s3().afresh().own_identity(access)

    def _s3_store(
        self,
        bucket: str,
        access: S3Access,
        options: S3Options | None = None,
        *,
        largest_file_bytes: int = 0,
        afresh: bool = False,
    ) -> Store:
        from exportd.stores.s3.store import S3Store

        connector = self._s3().afresh() if afresh else self._s3()
        return S3Store(bucket, access, connector, options=options, piece_bytes=piece_bytes_for(largest_file_bytes))

    def _s3(self) -> "S3Connector":
        from exportd.stores.s3.connector import S3Connector

        if self._s3_connector is None:
            self._s3_connector = S3Connector()
        return self._s3_connector


def open_location(location: Location) -> Store:
    """The store at a location. Its relevant keys begin with ``location.prefix``.

    Buckets are read with the credentials, and at the address, that the clouds' own tools would take from the
    environment. Raises PermanentError NOT_FOUND for a directory that is not there, SettingsError where credentials
    are missing.
    """
    match location.scheme:
        case Scheme.DIRECTORY:
            return DirectoryStore(_existing(location.path))
        case Scheme.S3:
            endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
            return StoreOpener()._s3_store(location.root, S3Access(endpoint=endpoint))
        case Scheme.GCS:
            emulator = os.environ.get("STORAGE_EMULATOR_HOST", "")
            identity = Anonymous() if emulator else _google_credentials(location)
            return _gcs_store(location.root, identity, emulator)


def require_own(declared: DestinationSettings, settings: Settings) -> None:
    """Refuse settings that name what belongs to another organization, for a destination of the API. Raises
    SettingsError.

    For a role of AWS its trust policy decides that (``sts:ExternalId``).
    """
    require_own_pool(declared, settings.gcs)


def shared_settings(settings: Settings) -> tuple[object, ...]:
    """The settings on which the stores of all destinations depend."""
    return settings.s3, settings.gcs, settings.limits.part_size


def _gcs_store(bucket: str, identity: GcsIdentity, endpoint: str, tokens: "GcsTokens | None" = None) -> Store:
    from exportd.stores.gcs.store import GcsStore

    return GcsStore(bucket, identity, endpoint=endpoint, tokens=tokens)


def _google_credentials(location: Location) -> CredentialsFile:
    file = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if not file:
        raise SettingsError.of(
            f"There are no credentials for gs://{location.root}: name their file in GOOGLE_APPLICATION_CREDENTIALS."
        )
    return CredentialsFile(Path(file))


def _existing(path: Path) -> Path:
    if not path.is_dir():
        raise PermanentError(
            f"{path} is no directory. Name the destination's directory, or the one that holds a copy of its objects.",
            reason=Reason.NOT_FOUND,
        )
    return path
