"""``exportd destination``: where files are delivered, and whether that works. ``list`` works without a daemon too;
``check`` tries a destination from this process.
"""

import sys
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
from cyclopts import App, Parameter

from exportd.cli import completion
from exportd.cli.configuration import DEFAULT_CONFIG, ConfigPath, connector, load
from exportd.cli.daemon_client import DaemonAddress, OrganizationAddress, OrganizationOption, one_of, pages
from exportd.cli.output import (
    AsJson,
    Exit,
    instant,
    pause_words,
    print_answer,
    print_error,
    print_fields,
    print_json,
    print_line,
    print_list,
    print_script,
)
from exportd.cli.socket_client import Document, SocketClient
from exportd.destinations import finding
from exportd.model.errors import SettingsError

app = App(name="destination")

_DAEMON = DaemonAddress()
_HERE = OrganizationAddress()

CodeArgument = Annotated[
    str, Parameter(name="CODE", help="The destination's code, or its id.", completer=completion.DESTINATIONS)
]
NewCode = Annotated[str, Parameter(name="CODE", help="A short name, unique in the organization.")]
Type = Annotated[Literal["S3", "GCS"], Parameter(help="Whose bucket it is.")]
Bucket = Annotated[str | None, Parameter(help="The bucket's name.")]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationOptions:
    """The options for creating and editing a destination."""

    name: Annotated[str | None, Parameter(help="A name for people.")] = None
    prefix: Annotated[str | None, Parameter(help="A folder inside the bucket; '' for none.")] = None
    partition_order: Annotated[
        Literal["TIME_FIRST", "TYPE_FIRST"] | None, Parameter(help="What comes first in the paths of files.")
    ] = None
    empty_files: Annotated[
        bool | None, Parameter(help="Whether an entity without records has a file, or is in the manifest only.")
    ] = None
    role_arn: Annotated[str | None, Parameter(help="S3: the role that exportd assumes.")] = None
    project_number: Annotated[str | None, Parameter(help="GCS: the number of the project with the identity pool.")] = (
        None
    )
    pool_id: Annotated[str | None, Parameter(help="GCS: the workload identity pool.")] = None
    provider_id: Annotated[str | None, Parameter(help="GCS: the provider in that pool.")] = None
    service_account: Annotated[str | None, Parameter(help="GCS: the service account that exportd acts as, if any.")] = (
        None
    )

    def fields(self) -> dict[str, Any]:
        """The fields of the API; None for what was not given."""
        return {
            "name": self.name,
            "prefix": self.prefix,
            "partitionOrder": self.partition_order,
            "emptyFiles": self.empty_files,
            "iamRoleArn": self.role_arn,
            "projectNumber": self.project_number,
            "poolId": self.pool_id,
            "providerId": self.provider_id,
            "serviceAccountEmail": self.service_account,
        }


_UNSAID = DestinationOptions()

_EXITS = {
    finding.CheckVerdict.GOOD: Exit.DONE,
    finding.CheckVerdict.LACKING: Exit.FAILED,
    finding.CheckVerdict.OUT_OF_REACH: Exit.TRY_AGAIN,
}
"""Of a check."""


@app.command
def show(code: CodeArgument, /, *, json: AsJson = False, at: OrganizationAddress = _HERE) -> None:
    """Show one destination: where it is, in which role it is written, whether it is paused, who edited it last."""
    client = at.organization_client()
    _print(client.details("destinations", client.id_of("destinations", code)), as_json=json)


@app.command
def create(
    code: NewCode,
    /,
    *,
    type: Type,  # noqa: A002 - it is the option's name
    bucket: Annotated[str, Parameter(help="The bucket's name.")],
    options: DestinationOptions = _UNSAID,
    json: AsJson = False,
    at: OrganizationAddress = _HERE,
) -> None:
    """Make a destination; a schedule delivers there when it names it. `destination check` tries it."""
    body = {
        **options.fields(),
        "code": code,
        "name": options.name or code,
        "destinationType": type,
        "bucketName": bucket,
        "prefix": options.prefix or None,
    }
    client = at.organization_client()
    created = client.create("destinations", _given(body))
    _print(client.details("destinations", created["id"]), as_json=json)


@app.command
def edit(
    code: CodeArgument,
    /,
    *,
    bucket: Bucket = None,
    options: DestinationOptions = _UNSAID,
    json: AsJson = False,
    at: OrganizationAddress = _HERE,
) -> None:
    """Change what is given and leave the rest. When the place is another, the next run there is complete."""
    changes = _given({"bucketName": bucket, **options.fields()})
    if not changes:
        raise SettingsError.of("there is nothing to change: give an option, such as --prefix")
    client = at.organization_client()
    body = {**client.get("destinations", code), **changes}
    # An empty text removes the value.
    body = {field: value for field, value in body.items() if value != ""}
    replaced = client.replace("destinations", body)
    _print(client.details("destinations", replaced["id"]), as_json=json)


@app.command
def delete(code: CodeArgument, /, *, json: AsJson = False, at: OrganizationAddress = _HERE) -> None:
    """Delete a destination that no schedule uses. The files there stay."""
    client = at.organization_client()
    print_answer(client.delete("destinations", code), f"deleted {code} of {client.organization}", as_json=json)


@app.command
def pause(code: CodeArgument, /, *, json: AsJson = False, at: OrganizationAddress = _HERE) -> None:
    """Let jobs that deliver there wait until it is resumed. No change is lost."""
    answer = at.organization_client().operate("destinations", code, "pause")
    print_answer(answer, answer["message"], as_json=json)


@app.command
def resume(code: CodeArgument, /, *, json: AsJson = False, at: OrganizationAddress = _HERE) -> None:
    """Deliver there again."""
    answer = at.organization_client().operate("destinations", code, "resume")
    print_answer(answer, answer["message"], as_json=json)


@app.command(name="list")
def list_destinations(*, json: AsJson = False, at: DaemonAddress = _DAEMON) -> None:
    """List destinations: those of the configuration, and those made through the API."""

    async def read(config: Path) -> list[Document]:
        from exportd.cli.without_daemon import read_destinations

        return await read_destinations(config)

    print_list(
        at.ask_or_read(_all, read),
        {
            "ORGANIZATION": itemgetter("organization"),
            "CODE": itemgetter("code"),
            "TYPE": itemgetter("destinationType"),
            "PLACE": itemgetter("place"),
            "ORIGIN": itemgetter("origin"),
            "STATE": lambda destination: pause_words(destination.get("paused")),
        },
        as_json=json,
    )


@app.command
def check(
    code: Annotated[str, Parameter(completer=completion.DESTINATIONS)],
    *,
    organization: OrganizationOption = None,
    json: AsJson = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Write, look at, read and remove a probe at a destination; say what is missing, and what to grant."""
    sys.exit(anyio.run(_check, code, organization, json, config))


async def _check(code: str, organization: str | None, as_json: bool, config: ConfigPath) -> int:
    from exportd.api.schemas.destination import destination_check, place_of
    from exportd.cli.without_daemon import find_destinations
    from exportd.destinations.checker import DestinationChecker
    from exportd.destinations.opener import DestinationOpener, declared
    from exportd.model.clock import SystemClock
    from exportd.telemetry.logging import leave_it_to_the_command

    leave_it_to_the_command()
    settings, _ = load(config)
    known = await find_destinations(settings, connector(settings))
    for problem in known.problems:
        print_error(problem)
    called_so = (destination for destination in known.found if destination.code == code)
    destination = one_of("destinations", code, called_so, attrgetter("organization"), organization)
    (declaration,) = declared([destination])
    checker = DestinationChecker(DestinationOpener(settings), SystemClock())
    result = await checker.check(destination)
    grants = await checker.grants(destination) if result.lacking or as_json else ()
    if as_json:
        print_json(destination_check(declaration, result, grants).model_dump(mode="json", by_alias=True))
    else:
        print_line(f"destination {destination.code} of {destination.organization}: {place_of(declaration)}")
        for line in finding.lines(result, grants, kind=destination.type):
            print_script(line)
    return _EXITS[result.verdict]


def _all(client: SocketClient) -> list[Document]:
    return sorted(pages(client, "/v1/destinations"), key=itemgetter("organization", "code"))


def _given(body: dict[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in body.items() if value is not None}


def _print(destination: Document, *, as_json: bool) -> None:
    """A destination as operators see it."""
    if as_json:
        print_json(destination)
        return
    print_fields(
        {
            "destination": f"{destination['code']} of {destination['organization']}",
            "name": destination["name"],
            "id": destination["id"],
            "state": pause_words(destination.get("paused")),
            "type": destination["destinationType"],
            "bucket": destination.get("bucketName"),
            "prefix": destination.get("prefix"),
            "partition order": destination.get("partitionOrder"),
            "empty files": "yes" if destination.get("emptyFiles", True) else "no: in the manifest only",
            "role": destination.get("iamRoleArn"),
            "project number": destination.get("projectNumber"),
            "pool": destination.get("poolId"),
            "provider": destination.get("providerId"),
            "service account": destination.get("serviceAccountEmail"),
            "created": f"{instant(destination['dtCreated'])} by {destination['createdBy']}",
            "last edited": f"{instant(destination['dtLastModified'])} by {destination['lastModifiedBy']}",
            "version": destination["version"],
        }
    )
