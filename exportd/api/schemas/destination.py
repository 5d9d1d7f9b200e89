"""Destinations: buckets of S3 and of Google Cloud Storage. Pure."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag
from pydantic.json_schema import WithJsonSchema

from exportd.api.schemas.fields import (
    READ_ONLY,
    Answer,
    Code,
    DisplayName,
    Moment,
    OfOneKind,
    PauseStatus,
    RequestBody,
    Version,
    Word,
    pause_status,
)
from exportd.destinations import finding
from exportd.destinations.finding import CheckResult
from exportd.destinations.permission import Grant
from exportd.destinations.record import DestinationDeclaration, DestinationRecord
from exportd.model.entity import OrganizationId
from exportd.model.foreign_text import (
    MAX_PREFIX_LENGTH,
    MAX_TEXT_LENGTH,
    check_prefix,
    check_printable,
)
from exportd.model.schedule import DestinationCode, Origin, Pause
from exportd.settings.destination_schema import Scheme, check_pool_part, check_project_number, check_service_account
from exportd.stores.location import Location

_ROLE_PATTERN = r"^arn:aws:iam::[0-9]+:role/.+$"
_GCS_FIELDS = {"projectNumber", "poolId", "providerId", "serviceAccountEmail"}


def _check_role(text: str) -> str:
    account, _, role = text.removeprefix("arn:aws:iam::").partition(":role/")
    if text.startswith("arn:aws:iam::") and account.isascii() and account.isdigit() and role and text.isprintable():
        return text
    raise ValueError("should be the ARN of a role, such as arn:aws:iam::123456789012:role/exports")


PartitionOrder = Literal["TIME_FIRST", "TYPE_FIRST"]
RoleArn = Annotated[
    str,
    AfterValidator(_check_role),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_TEXT_LENGTH, "pattern": _ROLE_PATTERN}),
]
EmptyFiles = Annotated[
    bool,
    Field(
        description="Whether an entity without records has a file. If not, the manifest alone says that it has none."
    ),
]
BucketName = Annotated[str, Field(min_length=3, max_length=63), AfterValidator(check_printable)]


class _DestinationBody(RequestBody):
    name: DisplayName
    code: Code
    bucket_name: BucketName
    prefix: Annotated[
        Annotated[str, Field(max_length=MAX_PREFIX_LENGTH), AfterValidator(check_prefix)] | None,
        Field(description="A folder inside the bucket."),
    ] = None
    partition_order: PartitionOrder = "TIME_FIRST"
    empty_files: EmptyFiles = True

    def settings(self) -> dict[str, Any]:
        """The keys of the configuration that mean the same."""
        return {
            "bucket": self.bucket_name,
            "prefix": self.prefix or "",
            "partition_order": self.partition_order,
            **({} if self.empty_files else {"empty_files": False}),
        }


class _S3Body(_DestinationBody):
    destination_type: Literal["S3"] = "S3"
    iam_role_arn: RoleArn

    def settings(self) -> dict[str, Any]:
        return {"type": "S3", **super().settings(), "role_arn": self.iam_role_arn}


class _GcsBody(_DestinationBody):
    destination_type: Literal["GCS"] = "GCS"
    project_number: Annotated[Word, AfterValidator(check_project_number)]
    pool_id: Annotated[Word, AfterValidator(check_pool_part)]
    provider_id: Annotated[Word, AfterValidator(check_pool_part)]
    service_account_email: Annotated[Word, AfterValidator(check_service_account)] | None = None

    def settings(self) -> dict[str, Any]:
        given = {
            "project_number": self.project_number,
            "pool_id": self.pool_id,
            "provider_id": self.provider_id,
            "service_account": self.service_account_email,
        }
        return {
            "type": "GCS",
            **super().settings(),
            **{key: value for key, value in given.items() if value is not None},
        }


class S3Creation(_S3Body):
    """A new destination: a bucket of S3, written in a role that exportd may assume."""

    ignored: ClassVar[frozenset[str]] = READ_ONLY | {"version"}


class GcsCreation(_GcsBody):
    """A new destination: a bucket of Google Cloud Storage, written through workload identity federation."""

    ignored: ClassVar[frozenset[str]] = READ_ONLY | {"version"}


class S3Update(_S3Body):
    """What replaces a destination of S3: what is left out is not set any more."""

    version: Version


class GcsUpdate(_GcsBody):
    """What replaces a destination of Google Cloud Storage."""

    version: Version


CREATIONS: Mapping[str, type[S3Creation] | type[GcsCreation]] = {"S3": S3Creation, "GCS": GcsCreation}
"""What creates each kind of destination that the API makes, the usual one first."""


def _type_of(document: Any) -> str | None:
    """The kind of destination; without ``destinationType``, by the fields that are given."""
    if not isinstance(document, dict):
        return str(getattr(document, "destination_type", "")) or None
    kind = document.get("destinationType")
    if kind is not None:
        return kind if isinstance(kind, str) else None
    given = {key for key, value in document.items() if value is not None}
    if "iamRoleArn" in given:
        return "S3"
    return "GCS" if _GCS_FIELDS & given else None


DestinationCreation = Annotated[
    Annotated[S3Creation, Tag("S3")] | Annotated[GcsCreation, Tag("GCS")], Discriminator(_type_of)
]
DestinationUpdate = Annotated[
    Annotated[S3Update, Tag("S3")] | Annotated[GcsUpdate, Tag("GCS")], Discriminator(_type_of)
]


def declaration_of(
    body: S3Creation | GcsCreation | S3Update | GcsUpdate, organization: OrganizationId
) -> DestinationDeclaration:
    return DestinationDeclaration(organization, DestinationCode(body.code), body.name, body.settings())


class _NamedDestination(Answer):
    name: str
    code: str


class _DestinationPlace(Answer):
    bucket_name: OfOneKind = None
    prefix: str | None = None
    partition_order: PartitionOrder = "TIME_FIRST"
    empty_files: EmptyFiles = True
    iam_role_arn: OfOneKind = None
    project_number: OfOneKind = None
    pool_id: OfOneKind = None
    provider_id: OfOneKind = None
    service_account_email: OfOneKind = None


class ListedDestination(_NamedDestination):
    """A destination as the list shows it. A directory, which only the configuration can declare, has no type here."""

    id: str
    version: int
    destination_type: Literal["S3", "GCS"] | None = None
    dt_created: Moment
    dt_last_modified: Moment
    created_by: str
    last_modified_by: str


class DestinationDocument(_DestinationPlace, ListedDestination):
    """A destination as its organization sees it."""


class DestinationPage(Answer):
    """Some destinations, the newest first."""

    data: list[ListedDestination]
    next_token: str | None = None


class DestinationDetails(_DestinationPlace, _NamedDestination):
    """The same destination as operators see it. ``place`` is its address; ``destinationType`` may be ``DIRECTORY``.

    What the database knows of it (``id``, ``version``, …) is null where the database could not be asked. Programs do
    not see the ``place`` of a directory, which is on a machine that is not theirs.
    """

    organization: str
    destination_type: str
    origin: Literal["CONFIGURATION", "API"]
    place: str | None = None
    paused: PauseStatus | None = None
    id: str | None = None
    version: int | None = None
    dt_created: Moment | None = None
    dt_last_modified: Moment | None = None
    created_by: str | None = None
    last_modified_by: str | None = None


class DestinationDetailsPage(Answer):
    """Some destinations of every organization, the newest first."""

    data: list[DestinationDetails]
    next_token: str | None = None


class ShownGrant(Answer):
    """``title`` says whose it is and what for, ``text`` are policies or commands to paste."""

    title: str
    text: str


class GrantList(Answer):
    """What the owner of a destination has to set up, for exactly this destination."""

    data: list[ShownGrant]


class CheckedPermission(Answer):
    """What was tried: whether it is ``required``, what was found, what it is for and what is lost without it.

    ``sentence`` is what the store said where it refused.
    """

    permission: str
    action: str
    required: bool
    state: Literal["THERE", "MISSING", "OUT_OF_REACH", "NOT_TRIED"]
    sentence: str
    purpose: str
    lost_without: str


class DestinationCheck(Answer):
    """What a check has found. ``setting`` is the line of the configuration with which it would work; ``leftOver`` is
    what could not be removed again.
    """

    organization: str
    code: str
    destination_type: str
    place: str
    verdict: Literal["GOOD", "LACKING", "OUT_OF_REACH"]
    permissions: list[CheckedPermission]
    setting: str | None = None
    megabytes_per_second: float | None = None
    left_over: list[str]
    grants: list[ShownGrant]


def destination_check(
    declaration: DestinationDeclaration, result: CheckResult, grants: Sequence[Grant]
) -> DestinationCheck:
    kind = declaration.settings["type"]
    return DestinationCheck.model_validate(
        {
            **finding.document(result, grants, kind=kind),
            "organization": declaration.organization,
            "code": declaration.code,
            "destination_type": kind,
            "place": place_of(declaration),
        }
    )


def grant_list(grants: Sequence[Grant]) -> GrantList:
    return GrantList(data=[ShownGrant.of(grant) for grant in grants])


def listed_destination(record: DestinationRecord) -> ListedDestination:
    return ListedDestination.model_validate(_fields(record))


def destination_document(record: DestinationRecord) -> DestinationDocument:
    return DestinationDocument.model_validate({**_fields(record), **_place_fields(record.declaration)})


def destination_details(
    record: DestinationRecord, pause: Pause | None, *, shows_directories: bool = True
) -> DestinationDetails:
    """``shows_directories``: for users of the machine."""
    found = DestinationDetails.model_validate(
        {**_fields(record), **_details(record.declaration, record.origin), "paused": pause_status(pause)}
    )
    hidden = found.destination_type == "DIRECTORY" and not shows_directories
    return found.model_copy(update={"place": None}) if hidden else found


def declared_destination(declaration: DestinationDeclaration, pause: Pause | None) -> DestinationDetails:
    """A destination of the configuration of which no row was read."""
    return DestinationDetails.model_validate(
        {**_details(declaration, Origin.CONFIGURATION), "paused": pause_status(pause)}
    )


def place_of(declaration: DestinationDeclaration) -> str:
    """Its address, which holds no secret: ``s3://bucket/prefix`` or a directory, say."""
    root = root_of(declaration)
    return str(Location(root.scheme, root.root, (declaration.settings.get("prefix") or "").strip("/")))


def root_of(declaration: DestinationDeclaration) -> Location:
    """The bucket or the directory as a whole."""
    settings = declaration.settings
    return Location(Scheme[settings["type"]], settings.get("directory") or settings["bucket"])


def _details(declaration: DestinationDeclaration, origin: Origin) -> dict[str, object]:
    return {
        **_place_fields(declaration),
        "name": declaration.name,
        "code": declaration.code,
        "organization": declaration.organization,
        "destination_type": declaration.settings["type"],
        "origin": origin.value,
        "place": place_of(declaration),
    }


def _place_fields(declaration: DestinationDeclaration) -> dict[str, object]:
    settings = declaration.settings
    return {
        "bucket_name": settings.get("bucket"),
        "prefix": settings.get("prefix") or None,
        "partition_order": settings.get("partition_order", "TIME_FIRST"),
        "empty_files": settings.get("empty_files", True),
        "iam_role_arn": settings.get("role_arn"),
        "project_number": settings.get("project_number"),
        "pool_id": settings.get("pool_id"),
        "provider_id": settings.get("provider_id"),
        "service_account_email": settings.get("service_account"),
    }


def _fields(record: DestinationRecord) -> dict[str, object]:
    kind = record.declaration.settings["type"]
    return {
        "id": str(record.id),
        "version": record.version,
        "name": record.declaration.name,
        "code": record.declaration.code,
        "destination_type": kind if kind in {"S3", "GCS"} else None,
        "dt_created": record.created_at,
        "dt_last_modified": record.modified_at,
        "created_by": record.created_by,
        "last_modified_by": record.modified_by,
    }
