"""Where files can be delivered: the kinds of destinations, and what all buckets of a cloud share. Pure."""

import re
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from exportd.model.foreign_text import (
    MAX_NAMES,
    check_organization,
    check_prefix,
)
from exportd.settings.section import (
    Code,
    Effect,
    FilePath,
    Name,
    OptionalFilePath,
    Organization,
    Scope,
    Section,
    Setting,
)

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
_PROJECT_NUMBER = re.compile(r"[0-9]{1,20}", re.ASCII)
_POOL_PART = re.compile(r"[a-z0-9-]{4,32}")
_POOL_LINE = re.compile(r"(?P<organization>[^/\\]+) (?P<pool>[0-9]{1,20}(?:/[a-z0-9-]{4,32}){1,2})", re.ASCII)
_SERVICE_ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}@[A-Za-z0-9][A-Za-z0-9.-]{0,252}")
# Stores that only implement the API of AWS use names for accounts, or none.
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::[A-Za-z0-9_-]{0,64}:role/\S+", re.ASCII)


class Scheme(StrEnum):
    """The URL scheme of each kind of destination, by the kind's name in the configuration."""

    DIRECTORY = "file"
    S3 = "s3"
    GCS = "gs"


def check_bucket(name: str) -> str:
    """A bucket's name as both clouds allow it; ValueError otherwise."""
    if not _BUCKET.fullmatch(name) or ".." in name:
        raise ValueError(
            "should be the name of a bucket alone, without s3:// or gs://: 3 to 63 lower-case letters, digits, dots "
            "and hyphens"
        )
    return name


def check_role(arn: str) -> str:
    """The ARN of a role, or nothing; ValueError otherwise."""
    if arn and not _ROLE.fullmatch(arn):
        raise ValueError("should be the ARN of a role, such as arn:aws:iam::123456789012:role/exports")
    return arn


def check_endpoint(url: str) -> str:
    """The address of a store that is not the cloud's own, or nothing; ValueError otherwise."""
    parts = urlsplit(url)
    if url and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/") or parts.query):
        raise ValueError('should be an address without a path, such as "https://s3.example.com:9000"')
    if parts.username or parts.password:
        raise ValueError("should hold no credentials; give a profile of the AWS credentials file")
    return url.rstrip("/")


def check_project_number(number: str) -> str:
    """The number of a project of Google's, or nothing; ValueError otherwise."""
    if number and not _PROJECT_NUMBER.fullmatch(number):
        raise ValueError("should be the number of a project, such as 123456789012")
    return number


def check_pool_part(name: str) -> str:
    """The id of a workload identity pool or of a provider, or nothing; ValueError otherwise."""
    if name and not _POOL_PART.fullmatch(name):
        raise ValueError("should have 4 to 32 lower-case letters, digits and hyphens")
    return name


def check_service_account(email: str) -> str:
    """The e-mail address of a service account, or nothing; ValueError otherwise."""
    if email and not _SERVICE_ACCOUNT.fullmatch(email):
        raise ValueError("should be an e-mail address such as exports@project.iam.gserviceaccount.com")
    return email


def parse_pool(line: str) -> tuple[str, tuple[str, ...]]:
    """An organization, and the project's number, the pool and perhaps the provider that are its own.

    Raises ValueError for anything else.
    """
    match = _POOL_LINE.fullmatch(line)
    if match is None:
        raise ValueError('should be an organization and its pool, such as "acme 123456789012/pool/provider"')
    return check_organization(match["organization"]), tuple(match["pool"].split("/"))


def check_pools(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Lines that ``parse_pool`` reads; ValueError otherwise."""
    for line in lines:
        parse_pool(line)
    return lines


Bucket = Annotated[str, AfterValidator(check_bucket)]
Dialect = Literal["duckdb", "postgresql", "snowflake", "bigquery", "redshift", "clickhouse"]
RoleArn = Annotated[str, AfterValidator(check_role)]
Endpoint = Annotated[str, AfterValidator(check_endpoint)]


class S3Settings(Section):
    """What all S3 destinations share, also those that are made through the API, which cannot choose it."""

    region: Annotated[str, Setting(Effect.NEXT_JOB, Scope.DATABASE)] = ""
    """The region of buckets that name none; that of the environment or of the profile when left out."""

    endpoint: Annotated[Endpoint, Setting(Effect.NEXT_JOB, Scope.DATABASE)] = ""
    """The address of a store that speaks S3, such as `"https://s3.example.com:9000"`; AWS when left out. Buckets are
    then named in the path."""

    sts_endpoint: Annotated[Endpoint, Setting(Effect.NEXT_JOB, Scope.HOST)] = ""
    """The address at which roles are assumed; the region's own of AWS when left out."""

    profile: Annotated[str, Setting(Effect.NEXT_JOB, Scope.HOST)] = ""
    """The profile of the AWS configuration whose credentials are used, directly or to assume the destinations' roles;
    the standard chain (environment, web identity, container, instance) when left out."""

    ca_file: Annotated[OptionalFilePath, Setting(Effect.NEXT_JOB, Scope.HOST)] = None
    """The certificate authority of `endpoint`, in PEM; the machine's own when left out."""


class GcsSettings(Section):
    """What all destinations in Google Cloud Storage share: above all, how this daemon proves who it is.

    Destinations with a workload identity pool exchange a token of the daemon's own identity provider for one of
    Google's. Where that token comes from is said here, once: give one of the four sources.
    """

    endpoint: Annotated[Endpoint, Setting(Effect.NEXT_JOB, Scope.DATABASE)] = ""
    """The address of an emulator, for tests; requests to it carry no credentials."""

    token_file: Annotated[OptionalFilePath, Setting(Effect.NEXT_JOB, Scope.HOST)] = None
    """A file with the token that another program renews, such as a projected Kubernetes service account token."""

    token_url: Annotated[str, Setting(Effect.NEXT_JOB, Scope.HOST)] = ""
    """An address that answers with the token, such as that of a metadata server."""

    token_command: Annotated[str, Setting(Effect.NEXT_JOB, Scope.HOST)] = ""
    """A program that prints the token as Google's executable credential source demands."""

    aws: Annotated[bool, Setting(Effect.NEXT_JOB, Scope.HOST)] = False
    """The daemon runs on AWS, and its role there is its identity."""

    pools: Annotated[
        tuple[str, ...],
        Setting(Effect.NEXT_JOB, Scope.DATABASE),
        AfterValidator(check_pools),
        Field(strict=False, max_length=10_000),
    ] = ()
    """Which workload identity pool is whose, such as `"acme 123456789012/pool/provider"`, or without the provider. A
    destination that an organization makes through the API may name its own only, or a provider of the id that
    exportd makes from the organization; the refusal of another one says which. Declared destinations name any."""

    @model_validator(mode="after")
    def _check_sources(self) -> "GcsSettings":
        sources = (self.token_file, self.token_url, self.token_command, self.aws)
        if sum(bool(source) for source in sources) > 1:
            raise ValueError("give only one of token_file, token_url, token_command and aws")
        return self


_SETTABLE_OF_BUCKETS = frozenset({"type", "bucket", "prefix", "partition_order", "empty_files"})


class _Destination(Section):
    settable: ClassVar[frozenset[str]] = frozenset()
    """What the API can set: no folder of a host, no credentials and profiles of the daemon. Nothing: the kind stands in
    the configuration only."""

    code: Code
    """The name that schedules use; unique within the organization."""

    organization: Organization
    """Whose files may go there: the `orgId` of paths and the value of the tenant columns."""

    name: Name | None = None
    """A name for people to read; the code when left out."""

    prefix: Annotated[str, AfterValidator(check_prefix)] = ""
    """A folder inside it, for all files of this destination."""

    partition_order: Literal["TIME_FIRST", "TYPE_FIRST"] = "TIME_FIRST"
    """Whether paths read `…/date=…/hour=…/type=…/` or `…/type=…/date=…/hour=…/`."""

    empty_files: bool = True
    """Whether an entity without records has a file all the same, with a header line at most. If not, the manifest alone
    says that it has none: in a bucket a request is paid for each file."""

    loader_kit: Annotated[tuple[Dialect, ...], Field(strict=False, max_length=MAX_NAMES)] = ()
    """The databases for which each run comes with statements that load it, beside its manifest: `duckdb`, `postgresql`,
    `snowflake`, `bigquery`, `redshift`, `clickhouse`."""


class DirectoryDestination(_Destination):
    """A directory, such as a mounted share."""

    type: Literal["DIRECTORY"] = "DIRECTORY"
    """The kind of destination."""

    directory: FilePath
    """The directory that receives the files. It has to exist: nothing is written beside a share that is not mounted."""

    scheme: ClassVar[Scheme] = Scheme.DIRECTORY

    @property
    def root(self) -> str:
        """The directory's path."""
        return str(self.directory)


class S3Destination(_Destination):
    """A bucket of S3, or of a store that speaks S3."""

    type: Literal["S3"]
    """The kind of destination."""

    bucket: Bucket
    """The bucket."""

    role_arn: RoleArn = ""
    """The role to assume, in the bucket owner's account; the daemon's own credentials write when left out."""

    external_id: str = ""
    """The external id that the role's trust policy asks for (`sts:ExternalId`); the organization when left out."""

    region: str = ""
    """The bucket's region; that of `[s3]` when left out."""

    endpoint: Endpoint = ""
    """The address of a store that speaks S3; that of `[s3]` when left out."""

    profile: str = ""
    """The profile of the AWS configuration whose credentials are used; that of `[s3]` when left out."""

    checksum: Literal["FULL_OBJECT", "PIECES", "NONE"] = "FULL_OBJECT"
    """Which CRC-32 the store compares: that of each piece and of the whole object (AWS and most others), of each piece
    (stores that do not know the other), or none."""

    encryption: Literal["BUCKET", "AES256", "KMS"] = "BUCKET"
    """Who encrypts at rest: as the bucket has it, with keys of S3, or with a key of KMS."""

    kms_key: str = ""
    """The key of KMS, by its ARN; the account's own for S3 when left out."""

    scheme: ClassVar[Scheme] = Scheme.S3
    settable: ClassVar[frozenset[str]] = _SETTABLE_OF_BUCKETS | {"role_arn"}

    @property
    def root(self) -> str:
        """The bucket's name."""
        return self.bucket

    @model_validator(mode="after")
    def _check_key(self) -> "S3Destination":
        if self.kms_key and self.encryption != "KMS":
            raise ValueError('kms_key is given, but encryption is not "KMS"')
        return self


class GcsDestination(_Destination):
    """A bucket of Google Cloud Storage. Give a pool and its provider, or a credentials file."""

    type: Literal["GCS"]
    """The kind of destination."""

    bucket: Bucket
    """The bucket."""

    project_number: Annotated[str, AfterValidator(check_project_number)] = ""
    """The number of the project that the workload identity pool belongs to."""

    pool_id: Annotated[str, AfterValidator(check_pool_part)] = ""
    """The workload identity pool in which the daemon has an identity."""

    provider_id: Annotated[str, AfterValidator(check_pool_part)] = ""
    """The pool's provider that vouches for it; the token comes from the source that `[gcs]` names."""

    service_account: Annotated[str, AfterValidator(check_service_account)] = ""
    """The e-mail address of a service account to act as; the pool's principal itself when left out."""

    credentials_file: OptionalFilePath = None
    """A key of a service account, or a credential configuration of workload identity federation, as Google's tools
    write it. In the configuration only: it names files and addresses that are read."""

    scheme: ClassVar[Scheme] = Scheme.GCS
    settable: ClassVar[frozenset[str]] = _SETTABLE_OF_BUCKETS | {
        *("project_number", "pool_id", "provider_id", "service_account"),
    }

    @property
    def root(self) -> str:
        """The bucket's name."""
        return self.bucket

    @model_validator(mode="after")
    def _check_identity(self) -> "GcsDestination":
        pool = [self.project_number, self.pool_id, self.provider_id]
        if self.credentials_file is not None and any(pool):
            raise ValueError("give either credentials_file or project_number, pool_id and provider_id")
        if any(pool) and not all(pool):
            raise ValueError("give project_number, pool_id and provider_id together")
        return self


def _kind_of(document: Any) -> str:
    """The kind of a destination: a directory if none is given."""
    kind = document.get("type") if isinstance(document, dict) else getattr(document, "type", None)
    return "DIRECTORY" if kind is None else str(kind)


DestinationSettings = Annotated[
    Annotated[DirectoryDestination, Tag("DIRECTORY")]
    | Annotated[S3Destination, Tag("S3")]
    | Annotated[GcsDestination, Tag("GCS")],
    Discriminator(_kind_of),
]
"""A destination of any kind."""

SETTABLE = {kind.scheme.name: kind.settable for kind in (DirectoryDestination, S3Destination, GcsDestination)}
"""What the API can set, by the kind of destination."""
