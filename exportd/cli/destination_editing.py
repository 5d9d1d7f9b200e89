"""``exportd destination show``, ``create``, ``edit``, ``delete``, ``pause`` and ``resume``: asked of the daemon."""

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from exportd.cli.daemon_address import OrganizationAddress
from exportd.cli.organization_client import OrganizationClient
from exportd.cli.output import AsJson, instant, print_answer, print_fields, print_json
from exportd.cli.pauses import asked_pause, pause_document, pause_words
from exportd.model.errors import SettingsError

_HERE = OrganizationAddress()

CodeArgument = Annotated[str, Parameter(name="CODE", help="The destination's code, or its id.")]
NewCode = Annotated[str, Parameter(name="CODE", help="A short name, unique in the organization.")]
Type = Annotated[Literal["S3", "GCS"], Parameter(help="Whose bucket it is.")]
Name = Annotated[str | None, Parameter(help="A name for people.")]
Bucket = Annotated[str | None, Parameter(help="The bucket's name.")]
Prefix = Annotated[str | None, Parameter(help="A folder inside the bucket; '' for none.")]
PartitionOrder = Annotated[
    Literal["TIME_FIRST", "TYPE_FIRST"] | None, Parameter(help="What comes first in the paths of files.")
]
RoleArn = Annotated[str | None, Parameter(help="S3: the role that exportd assumes.")]
ProjectNumber = Annotated[str | None, Parameter(help="GCS: the number of the project with the identity pool.")]
PoolId = Annotated[str | None, Parameter(help="GCS: the workload identity pool.")]
ProviderId = Annotated[str | None, Parameter(help="GCS: the provider in that pool.")]
ServiceAccount = Annotated[str | None, Parameter(help="GCS: the service account that exportd acts as, if any.")]


def show(code: CodeArgument, /, *, json: AsJson = False, at: OrganizationAddress = _HERE) -> None:
    """Show one destination: where it is, in which role it is written, whether it is paused, who edited it last."""
    client = at.organization_client()
    destination = client.get("destinations", code)
    pause = asked_pause(client, "destinations", destination)
    if json:
        print_json({**destination, "paused": pause_document(pause)})
    else:
        _print_fields(client, destination, state=pause_words(pause))


def create(
    code: NewCode,
    /,
    *,
    type: Type,  # noqa: A002 - it is the option's name
    bucket: Annotated[str, Parameter(help="The bucket's name.")],
    name: Name = None,
    prefix: Prefix = None,
    partition_order: PartitionOrder = None,
    role_arn: RoleArn = None,
    project_number: ProjectNumber = None,
    pool_id: PoolId = None,
    provider_id: ProviderId = None,
    service_account: ServiceAccount = None,
    json: AsJson = False,
    at: OrganizationAddress = _HERE,
) -> None:
    """Make a destination; a schedule delivers there when it names it. `destination check` tries it."""
    body = {
        "code": code,
        "name": name or code,
        "destinationType": type,
        "bucketName": bucket,
        "prefix": prefix or None,
        "partitionOrder": partition_order,
        "iamRoleArn": role_arn,
        "projectNumber": project_number,
        "poolId": pool_id,
        "providerId": provider_id,
        "serviceAccountEmail": service_account,
    }
    client = at.organization_client()
    _print(client, client.create("destinations", _given(body)), as_json=json)


def edit(
    code: CodeArgument,
    /,
    *,
    name: Name = None,
    bucket: Bucket = None,
    prefix: Prefix = None,
    partition_order: PartitionOrder = None,
    role_arn: RoleArn = None,
    project_number: ProjectNumber = None,
    pool_id: PoolId = None,
    provider_id: ProviderId = None,
    service_account: ServiceAccount = None,
    json: AsJson = False,
    at: OrganizationAddress = _HERE,
) -> None:
    """Change what is said and leave the rest. When the place is another, the next run there is complete."""
    changes = _given(
        {
            "name": name,
            "bucketName": bucket,
            "prefix": prefix,
            "partitionOrder": partition_order,
            "iamRoleArn": role_arn,
            "projectNumber": project_number,
            "poolId": pool_id,
            "providerId": provider_id,
            "serviceAccountEmail": service_account,
        }
    )
    if not changes:
        raise SettingsError.of("nothing to change was said: give an option, such as --prefix")
    client = at.organization_client()
    body = {**client.get("destinations", code), **changes}
    # An empty text takes away what was there.
    body = {field: value for field, value in body.items() if value != ""}
    _print(client, client.replace("destinations", body), as_json=json)


def delete(code: CodeArgument, /, *, json: AsJson = False, at: OrganizationAddress = _HERE) -> None:
    """Delete a destination that no schedule uses. The files there stay."""
    client = at.organization_client()
    print_answer(client.delete("destinations", code), f"deleted {code} of {client.organization}", as_json=json)


def pause(code: CodeArgument, /, *, json: AsJson = False, at: OrganizationAddress = _HERE) -> None:
    """Let jobs that deliver there wait until it is resumed. No change is lost."""
    answer = at.organization_client().operate("destinations", code, "pause")
    print_answer(answer, answer["message"], as_json=json)


def resume(code: CodeArgument, /, *, json: AsJson = False, at: OrganizationAddress = _HERE) -> None:
    """Deliver there again."""
    answer = at.organization_client().operate("destinations", code, "resume")
    print_answer(answer, answer["message"], as_json=json)


def _given(body: dict[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in body.items() if value is not None}


def _print(client: OrganizationClient, destination: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(destination)
    else:
        _print_fields(client, destination)


def _print_fields(client: OrganizationClient, destination: dict[str, Any], *, state: str = "") -> None:
    print_fields(
        {
            "destination": f"{destination['code']} of {client.organization}",
            "name": destination["name"],
            "id": destination["id"],
            "state": state,
            "type": destination.get("destinationType") or "DIRECTORY",
            "bucket": destination.get("bucketName"),
            "prefix": destination.get("prefix"),
            "partition order": destination.get("partitionOrder"),
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
