"""Where the daemon is, and whose objects a command is about: the options that its clients share."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter, validators

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

TimeoutOption = Annotated[
    float | None,
    Parameter(
        name="--timeout",
        env_var="EXPORTD_TIMEOUT",
        validator=validators.Number(gt=0),
        help="How many seconds the daemon may take to answer (default: 60; to reload, 300).",
    ),
]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonAddress:
    """The daemon that is asked."""

    socket: SocketPath = None
    config: ConfigPath = DEFAULT_CONFIG
    timeout: TimeoutOption = None

    def client(self, *, usual_timeout_s: float = TIMEOUT_S) -> SocketClient:
        """Raises SettingsError as ``SocketClient.found``."""
        return SocketClient.found(self.socket, self.config, timeout_s=self.timeout or usual_timeout_s)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationAddress(DaemonAddress):
    """An organization at a daemon."""

    organization: OrganizationOption = None

    def organization_client(self) -> OrganizationClient:
        """Raises SettingsError when the organization is not said and there is not exactly one."""
        client = self.client()
        return OrganizationClient(client, self.organization or _only_organization(client))


def _only_organization(client: SocketClient) -> str:
    found: list[str] = client.request("GET", "/v1/organizations")["data"]
    if len(found) == 1:
        return found[0]
    several = f"there are several organizations ({', '.join(found)})"
    problem = several if found else "no organization has a schedule or destination yet"
    raise SettingsError.of(f"{problem}: say --organization, or set EXPORTD_ORGANIZATION")
