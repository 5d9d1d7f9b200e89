"""Opens destinations: makes the store of what is declared, in the configuration or in the database.

The clouds' libraries take a second to import, so they are imported where a bucket of that cloud is opened.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from exportd.destinations.circuit import circuit_for
from exportd.destinations.open_destinations import Destination, Destinations
from exportd.destinations.record import DestinationDeclaration
from exportd.model.dialect_name import DialectName
from exportd.model.entity import OrganizationId
from exportd.model.errors import SettingsError
from exportd.model.schedule import DestinationCode
from exportd.settings.destination_schema import (
    DestinationSettings,
    DirectoryDestination,
    GcsDestination,
    GcsSettings,
    S3Destination,
)
from exportd.settings.schema import Settings
from exportd.stores.directory.store import DirectoryStore
from exportd.stores.gcs.identity import (
    Anonymous,
    AwsRole,
    CredentialsFile,
    GcsIdentity,
    SubjectTokenSource,
    TokenCommand,
    TokenFile,
    TokenUrl,
    WorkloadIdentity,
)
from exportd.stores.layout import Layout, PartitionOrder
from exportd.stores.location import Location, Scheme
from exportd.stores.s3.options import S3Access
from exportd.stores.store import Store

if TYPE_CHECKING:
    from exportd.stores.s3.connector import S3Connector

_KEPT_ELSEWHERE = {"code", "organization", "name"}
"""Settings that are columns of their own. The others say where a destination is and by which right; no secret."""

_ADAPTER: TypeAdapter[Any] = TypeAdapter(DestinationSettings)


class DestinationOpener:
    """Makes destinations. One serves the whole daemon, for what buckets of a cloud share is expensive to make."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._s3_connector: S3Connector | None = None

    def adopt(self, settings: Settings) -> bool:
        """Use other settings from now on; returns whether they open the same destinations in another way."""
        before, self._settings = self._settings, settings
        return _shared(before) != _shared(settings)

    def differs(self, settings: Settings) -> bool:
        """Whether these settings would open the same destinations in another way."""
        return _shared(self._settings) != _shared(settings)

    def open_all(self) -> Destinations:
        """What the configuration declares. Nothing is touched yet. Raises SettingsError when one cannot be."""
        return Destinations(self.open(declared) for declared in self._settings.destination)

    def open(self, declared: DestinationSettings) -> Destination:
        """One destination. Nothing is touched yet. Raises SettingsError when it cannot be."""
        return Destination(
            organization=OrganizationId(declared.organization),
            code=DestinationCode(declared.code),
            store=self._store(declared),
            layout=Layout(declared.prefix, PartitionOrder(declared.partition_order)),
            location=_location(declared),
            loader_kit=tuple(DialectName(name) for name in declared.loader_kit),
            circuit=circuit_for(self._settings.limits.delivery_timeout_s),
        )

    async def own_identity(self, declared: S3Destination) -> str:
        """The ARN that the daemon's own credentials have, which a role's trust policy names.

        Raises TransientError or PermanentError.
        """
        from exportd.stores.s3.errors import translated

        access = self._s3_access(declared)
        with translated(
            f"STS at {access.sts_endpoint}" if access.sts_endpoint else "STS", doing="asking for our own identity"
        ):
            return await self._s3().own_identity(access)

    def _store(self, declared: DestinationSettings) -> Store:
        match declared:
            case DirectoryDestination():
                return DirectoryStore(declared.directory)
            case S3Destination():
                return self._s3_store(declared)
            case GcsDestination():
                return self._gcs_store(declared)

    def _s3_store(self, declared: S3Destination) -> Store:
        from exportd.stores.s3.options import S3Options, piece_bytes_for
        from exportd.stores.s3.store import S3Store

        return S3Store(
            declared.bucket,
            self._s3_access(declared),
            self._s3(),
            options=S3Options(declared.checksum, declared.encryption, declared.kms_key),
            piece_bytes=piece_bytes_for(self._settings.limits.part_size),
        )

    def _s3_access(self, declared: S3Destination) -> S3Access:
        shared = self._settings.s3
        return S3Access(
            region=declared.region or shared.region,
            endpoint=declared.endpoint or shared.endpoint,
            sts_endpoint=shared.sts_endpoint,
            profile=declared.profile or shared.profile,
            role_arn=declared.role_arn,
            external_id=declared.external_id or declared.organization,
            ca_file=shared.ca_file,
        )

    def _s3(self) -> "S3Connector":
        from exportd.stores.s3.connector import S3Connector

        if self._s3_connector is None:
            self._s3_connector = S3Connector()
        return self._s3_connector

    def _gcs_store(self, declared: GcsDestination) -> Store:
        from exportd.stores.gcs.store import GcsStore

        return GcsStore(
            declared.bucket, _gcs_identity(declared, self._settings.gcs), endpoint=self._settings.gcs.endpoint
        )


def declared(settings: Iterable[DestinationSettings]) -> tuple[DestinationDeclaration, ...]:
    """The destinations of the configuration, as the database keeps them."""
    return tuple(
        DestinationDeclaration(
            OrganizationId(setting.organization),
            DestinationCode(setting.code),
            setting.name or setting.code,
            _settings(setting),
        )
        for setting in settings
    )


def settings_of(declaration: DestinationDeclaration) -> DestinationSettings:
    """The settings that the configuration would have for it. Raises SettingsError when there are none."""
    document = {**declaration.settings, "organization": declaration.organization, "code": declaration.code}
    try:
        settings: DestinationSettings = _ADAPTER.validate_python(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        raise SettingsError.of(first["msg"], where=place) from error
    return settings


def open_declared(declaration: DestinationDeclaration, opener: DestinationOpener) -> Destination:
    """Open a destination of the database. Nothing is touched yet. Raises SettingsError when it cannot be opened."""
    return opener.open(settings_of(declaration))


def _settings(settings: DestinationSettings) -> Mapping[str, Any]:
    return settings.model_dump(mode="json", exclude_defaults=True, exclude=_KEPT_ELSEWHERE) | {"type": settings.type}


def _shared(settings: Settings) -> tuple[object, ...]:
    """What all destinations depend on."""
    return settings.s3, settings.gcs, settings.limits.part_size, settings.limits.delivery_timeout_s


def _location(declared: DestinationSettings) -> Location:
    match declared:
        case DirectoryDestination():
            return Location(Scheme.DIRECTORY, str(declared.directory))
        case S3Destination():
            return Location(Scheme.S3, declared.bucket)
        case GcsDestination():
            return Location(Scheme.GCS, declared.bucket)


def _gcs_identity(declared: GcsDestination, shared: GcsSettings) -> GcsIdentity:
    """The identity that writes there. Raises SettingsError when the settings name none."""
    if shared.endpoint:
        return Anonymous()
    if declared.credentials_file is not None:
        return CredentialsFile(declared.credentials_file)
    if not declared.pool_id:
        raise SettingsError.of(
            f"The destination {declared.code} does not say who writes there: give project_number, pool_id and "
            "provider_id, or a credentials_file."
        )
    source = _token_source(shared)
    if source is None:
        raise SettingsError.of(
            f"The destination {declared.code} has a workload identity pool, but [gcs] does not say where exportd's own "
            "token comes from: give token_file, token_url, token_command or aws."
        )
    return WorkloadIdentity(
        declared.project_number, declared.pool_id, declared.provider_id, source, declared.service_account
    )


def _token_source(shared: GcsSettings) -> SubjectTokenSource | None:
    if shared.token_file is not None:
        return TokenFile(shared.token_file)
    if shared.token_url:
        return TokenUrl(shared.token_url)
    if shared.token_command:
        return TokenCommand(shared.token_command)
    return AwsRole() if shared.aws else None
