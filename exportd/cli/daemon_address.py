"""Where the daemon is, and whose objects a command is about: the options that its clients share."""

import tomllib
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter

from exportd.cli.configuration import DEFAULT_CONFIG, ConfigPath
from exportd.cli.organization_client import OrganizationClient
from exportd.cli.socket_client import TIMEOUT_S, SocketClient, SocketPath
from exportd.model.errors import SettingsError

OrganizationOption = Annotated[
    str | None,
    Parameter(
        name="--organization",
        env_var="EXPORTD_ORGANIZATION",
        help="The organization; may be left out where there is only one.",
    ),
]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonAddress:
    """The daemon that is asked."""

    socket: SocketPath = None
    config: ConfigPath = DEFAULT_CONFIG

    def client(self, *, timeout_s: float = TIMEOUT_S) -> SocketClient:
        """Raises SettingsError as ``SocketClient.found``."""
        return SocketClient.found(self.socket, self.config, timeout_s=timeout_s)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationAddress(DaemonAddress):
    """An organization at a daemon."""

    organization: OrganizationOption = None

    def organization_client(self) -> OrganizationClient:
        """Raises SettingsError when the organization is not said and there is not exactly one."""
        client = self.client()
        return OrganizationClient(client, self.organization or self._only_organization(client))

    def _only_organization(self, client: SocketClient) -> str:
        """The one that destinations at the daemon and what the configuration declares belong to."""
        at_daemon = {str(each["organization"]) for each in client.request("GET", "/v1/status")["destinations"]}
        found = sorted(at_daemon | _declared_organizations(self.config))
        if len(found) == 1:
            return found[0]
        several = f"there are several organizations ({', '.join(found)})" if found else "no organization is known yet"
        raise SettingsError.of(f"{several}: say --organization, or set EXPORTD_ORGANIZATION")


def _declared_organizations(config: Any) -> set[str]:
    """Those in the configuration, as far as it can be read: the daemon alone decides whether it is right."""
    try:
        with config.open("rb") as file:
            document = tomllib.load(file)
    except (OSError, ValueError, RecursionError):
        return set()
    tables = [each for name in ("schedule", "destination") for each in _tables(document.get(name))]
    return {each["organization"] for each in tables if isinstance(each.get("organization"), str)}


def _tables(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
