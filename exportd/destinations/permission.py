"""The permissions that exportd uses at a destination: what each is for, which are required, and what is lost without
the others. Pure.

Also the policies and commands that grant them, for a bucket of AWS or Google and for a directory. A policy for AWS
covers exactly the folder of a destination in its bucket.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, assert_never

from exportd.settings.destination_schema import DestinationSettings, DirectoryDestination, GcsDestination, S3Destination

Kind = Literal["DIRECTORY", "S3", "GCS"]
"""The kinds of destinations, as the configuration calls them."""

IDENTITY_PLACEHOLDER = "arn:aws:iam::EXPORTD_ACCOUNT:role/EXPORTD_ROLE"
"""Stands for exportd's own identity when it is not known."""

ACCOUNT_PLACEHOLDER = "EXPORTD_SERVICE_ACCOUNT"
"""Stands for the account in a credentials file, because that file is not read here."""

_RECOMMENDED_ROLE, _MINIMAL_ROLE = "roles/storage.objectUser", "roles/storage.objectCreator"

_REQUIRED = ("s3:PutObject",)
_RECOMMENDED = ("s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:GetObject", "s3:DeleteObject")
_ASSUMED_ROLE = re.compile(r"arn:(?P<partition>[^:]+):sts::(?P<account>\d+):assumed-role/(?P<role>[^/]+)/.*")


class Permission(StrEnum):
    """The permissions, in the order in which they are reported."""

    WRITE = "WRITE"
    UPLOAD = "UPLOAD"
    ABORT = "ABORT"
    LOOK_AT_UPLOAD = "LOOK_AT_UPLOAD"
    LIST_UPLOADS = "LIST_UPLOADS"
    LOOK = "LOOK"
    READ = "READ"
    LIST = "LIST"
    DELETE = "DELETE"

    @property
    def is_required(self) -> bool:
        """Whether nothing can be delivered without it."""
        return self in {Permission.WRITE, Permission.UPLOAD}


@dataclass(frozen=True, slots=True)
class Purpose:
    """``what`` exportd does with a permission, and what is ``lost`` without it."""

    what: str
    lost: str


PURPOSES: Mapping[Permission, Purpose] = {
    Permission.WRITE: Purpose("write an object", "Nothing can be delivered."),
    Permission.UPLOAD: Purpose("upload an object in pieces", "Nothing larger than one piece can be delivered."),
    Permission.ABORT: Purpose(
        "give an upload up",
        "The pieces of failed jobs stay, unseen, and are paid for until a lifecycle rule removes them.",
    ),
    Permission.LOOK_AT_UPLOAD: Purpose(
        "look at an upload in progress",
        "A job that a crash interrupted in the middle of an upload fails; the next run holds its changes.",
    ),
    Permission.LIST_UPLOADS: Purpose(
        "list uploads in progress",
        "Uploads that a crash has left are not found and swept, unless exportd had written them down.",
    ),
    Permission.LOOK: Purpose(
        "look at an object",
        "After a crash what was published already is sent again; and after a job that failed halfway, the schedule's "
        "next jobs fail here.",
    ),
    Permission.READ: Purpose(
        "read an object",
        "After a crash what was published already is sent again; and after a job that failed with its manifest "
        "published, the schedule's next jobs fail here.",
    ),
    Permission.LIST: Purpose(
        "list objects, and see that one is not there",
        "What a job published before it failed cannot be found and removed, and the schedule's next jobs fail here.",
    ),
    Permission.DELETE: Purpose(
        "remove an object",
        "What a job published before it failed stays, and the schedule's next jobs fail here.",
    ),
}

_ACTIONS: Mapping[Kind, Mapping[Permission, str]] = {
    "DIRECTORY": {},
    "S3": {
        Permission.WRITE: "s3:PutObject",
        Permission.UPLOAD: "s3:PutObject",
        Permission.ABORT: "s3:AbortMultipartUpload",
        Permission.LOOK_AT_UPLOAD: "s3:ListMultipartUploadParts",
        Permission.LIST_UPLOADS: "s3:ListBucketMultipartUploads",
        Permission.LOOK: "s3:GetObject",
        Permission.READ: "s3:GetObject",
        Permission.LIST: "s3:ListBucket",
        Permission.DELETE: "s3:DeleteObject",
    },
    "GCS": {
        Permission.WRITE: "storage.objects.create",
        Permission.UPLOAD: "storage.objects.create",
        Permission.ABORT: "storage.objects.create",
        Permission.LOOK_AT_UPLOAD: "storage.objects.create",
        Permission.LOOK: "storage.objects.get",
        Permission.READ: "storage.objects.get",
        Permission.LIST: "storage.objects.list",
        Permission.DELETE: "storage.objects.delete",
    },
}


_CREATES_ONLY: frozenset[Kind] = frozenset({"GCS"})
"""The kinds for which writing means creating: to replace an object there, the right to delete it is needed."""


def writing_replaces(kind: Kind) -> bool:
    """Whether the right to write includes the right to overwrite."""
    return kind not in _CREATES_ONLY


def action_of(permission: Permission, kind: Kind) -> str:
    """The cloud's name of the permission; empty when it has none."""
    return _ACTIONS[kind].get(permission, "")


@dataclass(frozen=True, slots=True)
class Grant:
    """A policy or commands to paste (``text``). ``title`` says who has to set it up and what for."""

    title: str
    text: str


def grants_of(declared: DestinationSettings, *, folder: str, identity: str, user: str) -> tuple[Grant, ...]:
    """The policies and commands that have to be set up for a destination.

    ``folder`` is the beginning of all keys, ``identity`` the ARN of exportd's own identity (empty when it is unknown or
    belongs to another cloud), ``user`` the user as which exportd runs.
    """
    match declared:
        case DirectoryDestination():
            return _directory_grants(declared, user)
        case S3Destination():
            return _s3_grants(declared, folder, identity)
        case GcsDestination():
            return _gcs_grants(declared)
        case _:
            assert_never(declared)


def _s3_grants(declared: S3Destination, folder: str, identity: str) -> tuple[Grant, ...]:
    """What the owners of the bucket and of the role have to set up."""
    role_arn = declared.role_arn
    partition = role_arn.split(":")[1] if role_arn else "aws"
    holder = role_arn or identity or "exportd's own identity"
    policy = Grant(
        f"Policy for {holder} (the first statement is required, the others recommended)",
        _document(_statements(f"arn:{partition}:s3:::{declared.bucket}", folder, declared.kms_key)),
    )
    if not role_arn:
        return (policy,)
    principal = principal_of(identity) if identity else IDENTITY_PLACEHOLDER
    unknown = "" if identity else f"; {IDENTITY_PLACEHOLDER} is a placeholder: put exportd's own identity there"
    trust = {
        "Effect": "Allow",
        "Principal": {"AWS": principal},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": declared.external_id or declared.organization}},
    }
    may_assume = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role_arn}
    return (
        policy,
        Grant(f"Trust policy of {role_arn}{unknown}", _document([trust])),
        Grant(f"Policy for exportd's own identity, {principal}", _document([may_assume])),
    )


def _gcs_grants(declared: GcsDestination) -> tuple[Grant, ...]:
    """What the owners of the bucket and of the service account have to set up."""
    pool_id, service_account = declared.pool_id, declared.service_account
    project = f"principalSet://iam.googleapis.com/projects/{declared.project_number}"
    pool = f"{project}/locations/global/workloadIdentityPools/{pool_id}/*"
    account = f"serviceAccount:{service_account or ACCOUNT_PLACEHOLDER}"
    member = pool if pool_id and not service_account else account
    unknown = "" if service_account or pool_id else f"; {ACCOUNT_PLACEHOLDER} is a placeholder: see credentials_file"
    bucket = f"gs://{declared.bucket}"
    binding = ("gcloud", "storage", "buckets", "add-iam-policy-binding", bucket, f"--member={member}")
    grants = [
        Grant(f"Role on the bucket, recommended{unknown}", shlex.join([*binding, f"--role={_RECOMMENDED_ROLE}"])),
        Grant(
            "Or the least that works: nothing can be looked at, replaced or removed",
            shlex.join([*binding, f"--role={_MINIMAL_ROLE}"]),
        ),
    ]
    if service_account and pool_id:
        words = ("gcloud", "iam", "service-accounts", "add-iam-policy-binding", service_account, f"--member={pool}")
        grants.append(
            Grant(
                "So that the pool's principal may act as the service account",
                shlex.join([*words, "--role=roles/iam.workloadIdentityUser"]),
            )
        )
    return tuple(grants)


def _directory_grants(declared: DirectoryDestination, user: str) -> tuple[Grant, ...]:
    """The directory's group, which new folders inherit, may read the files."""
    path = shlex.quote(str(declared.directory))
    return (
        Grant(
            f"Owner and mode, with the group of those who read in place of READERS ({user} is the user of this check: "
            "take the daemon's)",
            f"mkdir -p {path}\nchown {shlex.quote(user)}:READERS {path}\nchmod 2750 {path}",
        ),
    )


def principal_of(identity: str) -> str:
    """The principal that a trust policy names: for a session it is the role, because the session is temporary.

    The ARN of a session does not hold the path of its role, if that has one.
    """
    session = _ASSUMED_ROLE.fullmatch(identity)
    return (
        identity if session is None else f"arn:{session['partition']}:iam::{session['account']}:role/{session['role']}"
    )


def _statements(bucket_arn: str, folder: str, kms_key: str) -> list[Mapping[str, Any]]:
    objects = f"{bucket_arn}/{_literally(folder)}*"
    statements: list[Mapping[str, Any]] = [
        {"Sid": "ExportdWrites", "Effect": "Allow", "Action": list(_REQUIRED), "Resource": objects}
    ]
    if kms_key:
        actions = ["kms:GenerateDataKey", "kms:Decrypt"]
        statements.append({"Sid": "ExportdEncrypts", "Effect": "Allow", "Action": actions, "Resource": kms_key})
    return [
        *statements,
        {"Sid": "ExportdTidiesUp", "Effect": "Allow", "Action": list(_RECOMMENDED), "Resource": objects},
        {
            "Sid": "ExportdLists",
            "Effect": "Allow",
            "Action": ["s3:ListBucket"],
            "Resource": bucket_arn,
            # IfExists, because a request for an object that does not exist names no prefix. Without the right to list,
            # the answer to it would be that it is forbidden.
            "Condition": {"StringLikeIfExists": {"s3:prefix": f"{_literally(folder)}*"}},
        },
        {
            # AWS knows no condition on the prefix here.
            "Sid": "ExportdListsUploads",
            "Effect": "Allow",
            "Action": ["s3:ListBucketMultipartUploads"],
            "Resource": bucket_arn,
        },
    ]


def _literally(folder: str) -> str:
    """Escape the characters that are wildcards or variables in a policy."""
    return re.sub(r"[*?$]", lambda match: "${" + match[0] + "}", folder)


def _document(statements: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2, ensure_ascii=False)
