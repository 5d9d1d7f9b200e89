"""The schedules, destinations and jobs of one organization, asked of the daemon. Documents are those of docs/api.md."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal
from urllib.parse import quote
from uuid import UUID

from exportd.cli.socket_client import SocketClient
from exportd.model.errors import PermanentError
from exportd.model.reason import Reason

Document = dict[str, Any]
Kind = Literal["schedules", "destinations"]


class OrganizationClient:
    """Raises what ``SocketClient.request`` raises; and PermanentError NOT_FOUND for a code that nothing has."""

    def __init__(self, client: SocketClient, organization: str) -> None:
        self.client = client
        self.organization = organization

    def listed(self, kind: Kind) -> Iterator[Document]:
        """All of a kind, page by page, the newest first."""
        query = {"pageSize": "100"}
        while True:
            page = self.client.request("GET", self._path(kind), query=query)
            yield from page["data"]
            if not page.get("nextToken"):
                return
            query["nextToken"] = page["nextToken"]

    def id_of(self, kind: Kind, code: str) -> str:
        """The id of what has this code; an id is taken as it is."""
        for each in self.listed(kind):
            if code in {each["code"], each["id"]}:
                return str(each["id"])
        word = kind.removesuffix("s")
        raise PermanentError(
            f"The organization {self.organization} has no {word} {code}. `exportd {word} list` shows them.",
            reason=Reason.NOT_FOUND,
        )

    def ids_of(self, kind: Kind, codes: Sequence[str]) -> list[str]:
        return [self.id_of(kind, code) for code in codes]

    def get(self, kind: Kind, code: str) -> Document:
        return self._document("GET", self._path(kind, self.id_of(kind, code)))

    def create(self, kind: Kind, body: Document) -> Document:
        return self._document("POST", self._path(kind), body)

    def replace(self, kind: Kind, body: Document) -> Document:
        """``body`` is what was read, with changes; PermanentError when somebody has edited it meanwhile."""
        return self._document("PUT", self._path(kind, body["id"]), body)

    def delete(self, kind: Kind, code: str) -> Document:
        return self._document("DELETE", self._path(kind, self.id_of(kind, code)))

    def operate(self, kind: Kind, code: str, verb: str, body: Document | None = None) -> Document:
        """One of the daemon's own verbs, such as ``pause``."""
        return self._document("POST", f"/v1/{kind}/{self.id_of(kind, code)}/{verb}", body)

    def export(self, body: Document) -> UUID:
        """Ask for an export without a schedule; the job."""
        return UUID(self._document("POST", self._path("adhoc"), body)["jobId"])

    def _path(self, *parts: str) -> str:
        return "/".join(("/organizations", quote(self.organization, safe=""), "dataexports", *parts))

    def _document(self, method: str, path: str, body: Document | None = None) -> Document:
        answer: Document = self.client.request(method, path, body=body)
        return answer
