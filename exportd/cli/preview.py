"""``exportd preview``: what a schedule's next run would hold, asked of the daemon."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

from cyclopts import Parameter

from exportd.cli.configuration import DEFAULT_CONFIG, ConfigPath
from exportd.cli.output import AsJson, print_json, print_line, print_table, size
from exportd.cli.socket_client import SocketClient, SocketPath
from exportd.model.errors import PermanentError, SettingsError
from exportd.model.reason import Reason


def preview(
    schedule: Annotated[str, Parameter(name="SCHEDULE", help="The schedule's code, or its id.")],
    /,
    *,
    organization: Annotated[
        str | None,
        Parameter(env_var="EXPORTD_ORGANIZATION", help="Whose schedule it is; not needed for an id."),
    ] = None,
    json: AsJson = False,
    socket: SocketPath = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Show what a run of a schedule would hold if it began now: full or not and why, rows, sizes. Runs nothing."""
    client = SocketClient.found(socket, config)
    answer = client.request("GET", f"/v1/schedules/{_id_of(client, schedule, organization)}/preview")
    if json:
        print_json(answer)
    else:
        _print(answer)


def _id_of(client: SocketClient, schedule: str, organization: str | None) -> str:
    """Raises SettingsError for a code without an organization, PermanentError NOT_FOUND when nothing has the code."""
    try:
        return str(UUID(schedule))
    except ValueError:
        pass
    if organization is None:
        raise SettingsError.of(
            f"whose schedule {schedule!r} is meant? Codes are an organization's", where="--organization"
        )
    for each in _schedules(client, organization):
        if each["code"] == schedule:
            return str(each["id"])
    raise PermanentError(f"The organization {organization} has no schedule {schedule!r}.", reason=Reason.NOT_FOUND)


def _schedules(client: SocketClient, organization: str) -> Iterator[Mapping[str, Any]]:
    path = f"/organizations/{quote(organization, safe='')}/dataexports/schedules"
    query = {"pageSize": "100"}
    while True:
        page = client.request("GET", path, query=query)
        yield from page["data"]
        if not page.get("nextToken"):
            return
        query["nextToken"] = page["nextToken"]


def _print(answer: Mapping[str, Any]) -> None:
    print_table(
        ["ENTITY", "MODE", "REASON", "ROWS", "DELETED", "SIZE"],
        [
            (
                each["entity"],
                each["mode"],
                each.get("reason"),
                _figure(f"{each['rows']:,}", each, "rows"),
                _figure(f"{each['deletedRows']:,}", each, "deletedRows"),
                _figure(size(each["contentBytes"]), each, "contentBytes"),
            )
            for each in answer["entities"]
        ],
        numbers=["ROWS", "DELETED", "SIZE"],
    )
    print_line()
    print_line(
        f"In all {answer['rows']:,} rows ({answer['deletedRows']:,} deleted), {size(answer['contentBytes'])} before"
        " compression. ~ marks estimates."
    )


def _figure(text: str, entity: Mapping[str, Any], name: str) -> str:
    return f"~{text}" if name in entity["estimated"] else text
