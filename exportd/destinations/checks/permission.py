"""What exportd does at a destination, what of it a destination has to allow, and what is lost without. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Kind = Literal["DIRECTORY", "S3", "GCS"]
"""The kinds of destinations, as the configuration calls them."""


class Permission(StrEnum):
    """In the order in which they are reported."""

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
        """Without it nothing is delivered; the others make things better."""
        return self in {Permission.WRITE, Permission.UPLOAD}


@dataclass(frozen=True, slots=True)
class Purpose:
    """``what`` exportd does with a permission, and what is ``lost`` without."""

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


def action_of(permission: Permission, kind: Kind) -> str:
    """What the cloud calls it; empty where it has no name."""
    return _ACTIONS[kind].get(permission, "")
