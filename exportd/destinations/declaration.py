"""Destinations of the configuration as the API's table keeps them, and back."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from exportd.destinations.open_destinations import Destination
from exportd.destinations.opener import DestinationOpener
from exportd.destinations.record import DestinationDeclaration
from exportd.model.entity import OrganizationId
from exportd.model.errors import SettingsError
from exportd.model.schedule import DestinationCode
from exportd.settings.destination_schema import DestinationSettings

_KEPT_ELSEWHERE = {"code", "organization", "name"}
"""In columns of their own. Everything else says where a destination is and whose rights are used there; no secret."""

_ADAPTER: TypeAdapter[Any] = TypeAdapter(DestinationSettings)


def declared(settings: Iterable[DestinationSettings]) -> tuple[DestinationDeclaration, ...]:
    """The destinations of the configuration."""
    return tuple(
        DestinationDeclaration(
            OrganizationId(setting.organization),
            DestinationCode(setting.code),
            setting.name or setting.code,
            _settings(setting),
        )
        for setting in settings
    )


def open_declared(declaration: DestinationDeclaration, opener: DestinationOpener) -> Destination:
    """A destination that was made through the API. Nothing is touched yet. Raises SettingsError when it cannot be."""
    return opener.open(settings_of(declaration))


def settings_of(declaration: DestinationDeclaration) -> DestinationSettings:
    """What the configuration would say of it. Raises SettingsError when it could not."""
    document = {**declaration.settings, "organization": declaration.organization, "code": declaration.code}
    try:
        settings: DestinationSettings = _ADAPTER.validate_python(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        raise SettingsError.of(first["msg"], where=place) from error
    return settings


def _settings(settings: DestinationSettings) -> Mapping[str, Any]:
    return settings.model_dump(mode="json", exclude_defaults=True, exclude=_KEPT_ELSEWHERE) | {"type": settings.type}
