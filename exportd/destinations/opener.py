"""Opens a declared destination: its store, the layout of its keys, its circuit."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from exportd.destinations.circuit import circuit_for
from exportd.destinations.open_destinations import Destination, Destinations
from exportd.destinations.record import DestinationDeclaration
from exportd.model.entity import OrganizationId
from exportd.model.errors import SettingsError
from exportd.model.schedule import DestinationCode, DialectName
from exportd.settings.destination_schema import DestinationSettings, S3Destination
from exportd.settings.schema import Settings
from exportd.stores.layout import Layout, PartitionOrder
from exportd.stores.location import location_of
from exportd.stores.opener import StoreOpener, require_own, shared_settings

_KEPT_ELSEWHERE = {"code", "organization", "name"}
"""Settings that have columns of their own. The others say where a destination is and with which rights; they hold no
secret.
"""

_ADAPTER: TypeAdapter[Any] = TypeAdapter(DestinationSettings)


class DestinationOpener:
    """Opens destinations with the daemon's settings. One instance serves the daemon."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stores = StoreOpener()

    def adopt(self, settings: Settings) -> bool:
        """Use other settings from now on. Returns whether they change what destinations depend on."""
        before, self._settings = self._settings, settings
        return _shared(before) != _shared(settings)

    def differs(self, settings: Settings) -> bool:
        """Whether these settings would open the same destinations differently."""
        return _shared(self._settings) != _shared(settings)

    def settings_made(self, declaration: DestinationDeclaration) -> DestinationSettings:
        """The settings of a destination that was made through the API.

        Raises SettingsError when there are none, or when they name what is another organization's.
        """
        made = settings_of(declaration)
        require_own(made, self._settings)
        return made

    def open_all(self) -> Destinations:
        """Open all destinations of the configuration. No request is made yet. Raises SettingsError when one cannot be
        opened.
        """
        return Destinations(self.open(declared) for declared in self._settings.destination)

    def open(self, declared: DestinationSettings, *, afresh: bool = False) -> Destination:
        """Open one destination. No request is made yet. Raises SettingsError when it cannot be opened.

        With ``afresh`` it shares no connections or credentials with others and reads its credentials anew, as a check
        has to.
        """
        return Destination(
            organization=OrganizationId(declared.organization),
            code=DestinationCode(declared.code),
            store=self._stores.open(declared, self._settings, afresh=afresh),
            layout=layout_of(declared),
            location=location_of(declared),
            loader_kit=tuple(DialectName(dialect) for dialect in declared.loader_kit),
            empty_files=declared.empty_files,
            circuit=circuit_for(self._settings.limits.delivery_timeout_s),
        )

    def open_made(self, declaration: DestinationDeclaration) -> Destination:
        """Open one that was made through the API. No request is made yet. Raises SettingsError when it cannot be
        opened.
        """
        return self.open(self.settings_made(declaration))

    async def own_identity(self, declared: S3Destination) -> str:
        """As ``StoreOpener.own_identity``."""
        return await self._stores.own_identity(declared, self._settings)


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


def layout_of(declared: DestinationSettings) -> Layout:
    """How its keys are named."""
    return Layout(declared.prefix, PartitionOrder(declared.partition_order))


def _settings(settings: DestinationSettings) -> Mapping[str, Any]:
    return settings.model_dump(mode="json", exclude_defaults=True, exclude=_KEPT_ELSEWHERE) | {"type": settings.type}


def _shared(settings: Settings) -> tuple[object, ...]:
    """What all destinations depend on."""
    return *shared_settings(settings), settings.limits.delivery_timeout_s
