"""The daemon that a command calls: the options that say where it is, and requests about one organization."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from uuid import UUID

from cyclopts import Parameter, validators

from exportd.cli import completion
from exportd.cli.configuration import DEFAULT_CONFIG, ConfigPath
from exportd.cli.output import print_error
from exportd.cli.socket_client import DEFAULT_SOCKET, TIMEOUT_S, Document, NoDaemonError, SocketClient, SocketPath
from exportd.model.errors import PermanentError, Reason, SettingsError
from exportd.model.foreign_text import url_segment

OrganizationOption = Annotated[
    str | None,
    Parameter(
        name="--organization",
        env_var="EXPORTD_ORGANIZATION",
        completer=completion.ORGANIZATIONS,
        help="The organization; may be left out where there is only one.",
    ),
]

DestinationsOption = Annotated[
    list[str] | None,
    Parameter(
        consume_multiple=True,
        negative="",
        help="Codes of the destinations; with none, files are for download only.",
        completer=completion.DESTINATIONS,
    ),
]

FormatName = Literal["CSV", "JSONL"]

TimeoutOption = Annotated[
    float | None,
    Parameter(
        name="--timeout",
        env_var="EXPORTD_TIMEOUT",
        validator=validators.Number(gt=0),
        help="How many seconds the daemon may take to answer (default: 60; to reload or install capture, 300).",
    ),
]

LONG_TIMEOUT_S = 300.0
"""The timeout of requests that wait for locks or check everything."""

Kind = Literal["schedules", "destinations"]
T = TypeVar("T")


class OrganizationClient:
    """The schedules, destinations and exports of one organization.

    Raises what ``SocketClient.request`` raises, and PermanentError NOT_FOUND for a code that does not exist.
    """

    def __init__(self, client: SocketClient, organization: str) -> None:
        self.client = client
        self.organization = organization

    def listed(self, kind: Kind) -> Iterator[Document]:
        """All of a kind, the newest first."""
        return pages(self.client, self._path(kind))

    def id_of(self, kind: Kind, code: str) -> str:
        """The id of the object with this code. An id is accepted too."""
        for document in self.listed(kind):
            if code in {document["code"], document["id"]}:
                return str(document["id"])
        word = kind.removesuffix("s")
        raise PermanentError(
            f"The organization {self.organization} has no {word} {code}. `exportd {word} list` shows them.",
            reason=Reason.NOT_FOUND,
        )

    def ids_of(self, kind: Kind, codes: Sequence[str]) -> list[str]:
        return [self.id_of(kind, code) for code in codes]

    def get(self, kind: Kind, code: str) -> Document:
        """The object as its organization sees it, which ``replace`` takes."""
        return self.client.request("GET", self._path(kind, self.id_of(kind, code)))

    def details(self, kind: Kind, object_id: str) -> Document:
        """The object as operators see it."""
        return self.client.request("GET", f"/v1/{kind}/{object_id}")

    def create(self, kind: Kind, body: Document) -> Document:
        return self.client.request("POST", self._path(kind), body=body)

    def replace(self, kind: Kind, body: Document) -> Document:
        """Replace an object. ``body`` is what was read, with changes. Raises PermanentError when it was
        edited since.
        """
        return self.client.request("PUT", self._path(kind, body["id"]), body=body)

    def delete(self, kind: Kind, code: str) -> Document:
        return self.client.request("DELETE", self._path(kind, self.id_of(kind, code)))

    def operate(self, kind: Kind, code: str, verb: str, body: Document | None = None) -> Document:
        """Run an operation on an object, such as ``pause``."""
        return self.client.request("POST", f"/v1/{kind}/{self.id_of(kind, code)}/{verb}", body=body)

    def export(self, body: Document) -> UUID:
        """Request an export without a schedule. Returns the job."""
        return UUID(self.client.request("POST", self._path("adhoc"), body=body)["jobId"])

    def preview_export(self, body: Document) -> Document:
        """Preview such an export. Nothing is run."""
        query = {"organization": self.organization}
        return self.client.request("POST", "/v1/adhoc/preview", query=query, body=body)

    def _path(self, *parts: str) -> str:
        return "/".join(("/organizations", url_segment(self.organization), "dataexports", *parts))


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonAddress:
    """The daemon that is asked."""

    socket: SocketPath = None
    config: ConfigPath = DEFAULT_CONFIG
    timeout: TimeoutOption = None

    def client(self, *, usual_timeout_s: float = TIMEOUT_S) -> SocketClient:
        """Raises SettingsError as ``SocketClient.found``, and when the daemon works with another database."""
        client = SocketClient.found(self.socket, self.config, timeout_s=self.timeout or usual_timeout_s)
        if self.socket is None and self.config != DEFAULT_CONFIG and client.path == DEFAULT_SOCKET:
            _require_same_database(client, self.config)
        return client

    def ask_or_read(
        self,
        ask: Callable[[SocketClient], T],
        read: Callable[[Path], Awaitable[T]],
        *,
        usual_timeout_s: float = TIMEOUT_S,
    ) -> T:
        """The answer of the daemon; if none listens, the result of ``read`` with the configuration.

        For commands that have to work without a daemon. They say so on standard error.
        """
        try:
            return ask(self.client(usual_timeout_s=usual_timeout_s))
        except NoDaemonError as missing:
            import anyio

            from exportd.telemetry.logging import leave_it_to_the_command

            leave_it_to_the_command()
            found = anyio.run(read, self.config)
            print_error(f"no daemon listens at {missing.path}: the database was used directly")
            return found


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationAddress(DaemonAddress):
    """An organization at a daemon."""

    organization: OrganizationOption = None

    def organization_client(self) -> OrganizationClient:
        """Raises SettingsError when the organization is not said and there is not exactly one."""
        client = self.client()
        return OrganizationClient(client, self.organization or _only_organization(client))


def pages(client: SocketClient, path: str, **query: str | None) -> Iterator[Document]:
    """Everything that a list of the API holds, page by page."""
    asked = {"pageSize": "100", **{name: value for name, value in query.items() if value is not None}}
    while True:
        page = client.request("GET", path, query=asked)
        yield from page["data"]
        if not page.get("nextToken"):
            return
        asked["nextToken"] = page["nextToken"]


def one_of(kind: Kind, code: str, called_so: Iterable[T], owner_of: Callable[[T], str], organization: str | None) -> T:
    """The one that is meant of those that have the ``code``: that of the ``organization``, if one is said.

    Raises SettingsError when several organizations have one, PermanentError NOT_FOUND when there is none.
    """
    word = kind.removesuffix("s")
    meant = [one for one in called_so if organization in {None, owner_of(one)}]
    if len(meant) > 1:
        owners = ", ".join(sorted(map(owner_of, meant)))
        raise SettingsError.of(f"several organizations have a {word} {code} ({owners}): say --organization")
    if not meant:
        whose = f" of the organization {organization}" if organization is not None else ""
        raise PermanentError(
            f"There is no {word} {code}{whose}. `exportd {word} list` shows them.", reason=Reason.NOT_FOUND
        )
    return meant[0]


def _require_same_database(client: SocketClient, config: Path) -> None:
    """Refuse a daemon with another database. A configuration without a socket leads to the usual daemon, which may have
    another configuration.
    """
    from exportd.cli.configuration import load
    from exportd.settings.dsn import Address

    try:
        wanted = str(Address.of(load(config)[0].database.dsn))
    except SettingsError:
        return  # nothing to compare with; what the command needs of it is asked for later
    found = str(client.request("GET", "/v1/status")["database"])
    if _without_user(found) != _without_user(wanted):
        raise SettingsError.of(
            f"names no socket, and the daemon at {client.path} works with the {found}, not with the {wanted}. Set "
            "control.socket, or name the daemon that is meant by --socket",
            where=str(config),
        )


def _without_user(address: str) -> str:
    return address.rpartition(" as ")[0]


def _only_organization(client: SocketClient) -> str:
    found: list[str] = client.request("GET", "/v1/organizations")["data"]
    if len(found) == 1:
        return found[0]
    several = f"there are several organizations ({', '.join(found)})"
    problem = several if found else "no organization has a schedule or destination yet"
    raise SettingsError.of(f"{problem}: say --organization, or set EXPORTD_ORGANIZATION")
