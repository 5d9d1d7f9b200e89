"""The policies of AWS with which exportd can deliver to a bucket, for exactly its folder there. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from exportd.destinations.checks.report import Grant

IDENTITY_PLACEHOLDER = "arn:aws:iam::EXPORTD_ACCOUNT:role/EXPORTD_ROLE"
"""Where exportd's own identity is not known."""

_REQUIRED = ("s3:PutObject",)
_RECOMMENDED = ("s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:GetObject", "s3:DeleteObject")
_ASSUMED_ROLE = re.compile(r"arn:(?P<partition>[^:]+):sts::(?P<account>\d+):assumed-role/(?P<role>[^/]+)/.*")


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


def principal_of(identity: str) -> str:
    """Whom a trust policy names: the role of a session, which itself is gone tomorrow.

    A session does not tell the path of its role, if that has one.
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
    """As policies write characters that would be wildcards or variables there."""
    return re.sub(r"[*?$]", lambda match: "${" + match[0] + "}", folder)


def _document(statements: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2, ensure_ascii=False)
