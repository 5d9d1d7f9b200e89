"""Opens what is declared as a destination: makes its store, in the cloud that it is in.

The clouds' libraries take a second to import, so only who opens a bucket does.
"""

from typing import TYPE_CHECKING, assert_never

from exportd.destinations import Destination, Destinations
from exportd.model.entity import OrganizationId
from exportd.model.schedule import DestinationCode
from exportd.settings.destination_schema import (
    DestinationSettings,
    DirectoryDestination,
    GcsDestination,
    S3Destination,
)
from exportd.settings.schema import Settings
from exportd.stores.circuit import circuit_for
from exportd.stores.directory_store import DirectoryStore
from exportd.stores.layout import Layout, PartitionOrder
from exportd.stores.s3_access import S3Access
from exportd.stores.store import Store

if TYPE_CHECKING:
    from exportd.stores.s3_connector import S3Connector


class DestinationOpener:
    """Makes destinations. One serves the daemon, for what buckets of a cloud share is expensive to make."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._s3_connector: S3Connector | None = None

    def open_all(self) -> Destinations:
        """What the configuration declares. Nothing is touched yet."""
        return Destinations(self.open(each) for each in self._settings.destination)

    def open(self, declared: DestinationSettings) -> Destination:
        """One destination. Nothing is touched yet."""
        return Destination(
            organization=OrganizationId(declared.organization),
            code=DestinationCode(declared.code),
            store=self._store(declared),
            layout=Layout(declared.prefix, PartitionOrder(declared.partition_order)),
            circuit=circuit_for(self._settings.limits.delivery_timeout_s),
        )

    def _store(self, declared: DestinationSettings) -> Store:
        match declared:
            case DirectoryDestination():
                return DirectoryStore(declared.directory)
            case S3Destination():
                return self._s3_store(declared)
            case GcsDestination():
                raise NotImplementedError
            case _:
                assert_never(declared)

    def _s3_store(self, declared: S3Destination) -> Store:
        from exportd.stores.s3_connector import S3Connector
        from exportd.stores.s3_store import S3Options, S3Store, piece_bytes_for

        shared = self._settings.s3
        if self._s3_connector is None:
            self._s3_connector = S3Connector()
        return S3Store(
            declared.bucket,
            S3Access(
                region=declared.region or shared.region,
                endpoint=declared.endpoint or shared.endpoint,
                sts_endpoint=shared.sts_endpoint,
                profile=declared.profile or shared.profile,
                role_arn=declared.role_arn,
                external_id=declared.external_id or declared.organization,
                ca_file=shared.ca_file,
            ),
            self._s3_connector,
            options=S3Options(declared.checksum, declared.encryption, declared.kms_key),
            piece_bytes=piece_bytes_for(self._settings.limits.part_size),
        )
