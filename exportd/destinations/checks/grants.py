"""What to paste where rights are granted, so that exportd can deliver: to a bucket of AWS or Google, to a directory.

A policy of AWS is for exactly the folder of a destination in its bucket. Pure.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

IDENTITY_PLACEHOLDER = "arn:aws:iam::EXPORTD_ACCOUNT:role/EXPORTD_ROLE"
"""Stands for exportd's own identity where that is not known."""

ACCOUNT_PLACEHOLDER = "EXPORTD_SERVICE_ACCOUNT"
"""Stands for the account of a credentials file, which is not read here."""

_RECOMMENDED_ROLE, _MINIMAL_ROLE = "roles/storage.objectUser", "roles/storage.objectCreator"

_REQUIRED = ("s3:PutObject",)
_RECOMMENDED = ("s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:GetObject", "s3:DeleteObject")
_ASSUMED_ROLE = re.compile(r"arn:(?P<partition>[^:]+):sts::(?P<account>\d+):assumed-role/(?P<role>[^/]+)/.*")


@dataclass(frozen=True, slots=True)
class Grant:
    """``title`` says whose it is and what for; ``text`` is a policy or commands, ready to paste."""

    title: str
    text: str


def s3_grants(
    *, bucket: str, folder: str, role_arn: str = "", external_id: str = "", kms_key: str = "", identity: str = ""
) -> tuple[Grant, ...]:
    """What the owner of the bucket, and that of the role, have to set up.

    ``folder`` is what keys begin with; ``identity`` the ARN of exportd's own identity, empty when it is unknown.
    """
    partition = role_arn.split(":")[1] if role_arn else "aws"
    holder = role_arn or identity or "exportd's own identity"
    policy = Grant(
        f"Policy for {holder} (the first statement is required, the others recommended)",
        _document(_statements(f"arn:{partition}:s3:::{bucket}", folder, kms_key)),
    )
    if not role_arn:
        return (policy,)
    principal = principal_of(identity) if identity else IDENTITY_PLACEHOLDER
    unknown = "" if identity else f"; {IDENTITY_PLACEHOLDER} is a placeholder: put exportd's own identity there"
    trust: dict[str, Any] = {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "sts:AssumeRole"}
    if external_id:
        trust["Condition"] = {"StringEquals": {"sts:ExternalId": external_id}}
    may_assume = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role_arn}
    return (
        policy,
        Grant(f"Trust policy of {role_arn}{unknown}", _document([trust])),
        Grant(f"Policy for exportd's own identity, {principal}", _document([may_assume])),
    )


def gcs_grants(
    *, bucket: str, project_number: str = "", pool_id: str = "", service_account: str = ""
) -> tuple[Grant, ...]:
    """What the owner of the bucket, and that of the service account, have to set up."""
    pool = f"principalSet://iam.googleapis.com/projects/{project_number}/locations/global/workloadIdentityPools/{pool_id}/*"
    if service_account:
        member = f"serviceAccount:{service_account}"
    elif pool_id:
        member = pool
    else:
        member = f"serviceAccount:{ACCOUNT_PLACEHOLDER}"
    unknown = "" if service_account or pool_id else f"; {ACCOUNT_PLACEHOLDER} is a placeholder: see credentials_file"
    binding = ("gcloud", "storage", "buckets", "add-iam-policy-binding", f"gs://{bucket}", f"--member={member}")
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


def directory_grants(*, directory: str, user: str) -> tuple[Grant, ...]:
    """``user`` is the one exportd runs as. The directory's group, which new folders inherit, may read the files."""
    path = shlex.quote(directory)
    return (
        Grant(
            f"Owner and mode, with the group of those who read in place of READERS ({user} is the user of this check: "
            "take the daemon's)",
            f"mkdir -p {path}\nchown {shlex.quote(user)}:READERS {path}\nchmod 2750 {path}",
        ),
    )


def principal_of(identity: str) -> str:
    """What a trust policy names: the role of a session, for the session itself is temporary.

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
            # If it exists: a look at an object that is not there names no prefix, and without this right the answer
            # would be that it is forbidden.
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
    """With the characters escaped that are wildcards or variables in a policy."""
    return re.sub(r"[*?$]", lambda match: "${" + match[0] + "}", folder)


def _document(statements: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2, ensure_ascii=False)
