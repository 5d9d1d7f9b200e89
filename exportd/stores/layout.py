"""Builds and parses the keys of objects. Pure.

    TIME_FIRST  <prefix>/orgId=<org>/date=2026-03-09/hour=04/type=account/<job id>_account.csv.gz
    TYPE_FIRST  <prefix>/orgId=<org>/type=account/date=2026-03-09/hour=04/<job id>_account.csv.gz
    further parts                                                         <job id>_account.0002.csv.gz
    script      <prefix>/orgId=<org>/_loaders/<job id>.duckdb.sql
    manifest    <prefix>/orgId=<org>/_manifests/<job id>.json
    last one    <prefix>/orgId=<org>/_published/<schedule id>.json

``date`` and ``hour`` are those of the due time in UTC. Organization ids are percent-encoded (readers of such
partitioned paths decode them), so that no id reaches another organization's folder. A key that ``build`` made is parsed
back to the same name; any other key is parsed to None.
"""

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import lru_cache
from typing import NewType
from urllib.parse import quote, unquote
from uuid import UUID

from exportd.model.entity import OrganizationId
from exportd.model.job import JobId
from exportd.model.schedule import ExportFormat, ScheduleId

ObjectKey = NewType("ObjectKey", str)
"""The name of an object in a store: segments joined by ``/``, relative to the bucket or directory."""


class PartitionOrder(StrEnum):
    """Whether the time or the entity's type comes first in a key."""

    TIME_FIRST = "TIME_FIRST"
    TYPE_FIRST = "TYPE_FIRST"


@dataclass(frozen=True, slots=True)
class ObjectName:
    """One part of a job. ``number`` counts from 1 within its type; ``hour`` is 0 to 23, UTC."""

    organization: OrganizationId
    day: date
    hour: int
    type_token: str
    job: JobId
    number: int
    file_format: ExportFormat


@dataclass(frozen=True, slots=True)
class ManifestName:
    """The manifest of a job."""

    organization: OrganizationId
    job: JobId


@dataclass(frozen=True, slots=True)
class ScriptName:
    """The statements that load a job into a database of some ``dialect``."""

    organization: OrganizationId
    job: JobId
    dialect: str


@dataclass(frozen=True, slots=True)
class PublicationName:
    """The last publication of a schedule: exportd's own note, which consumers do not need."""

    organization: OrganizationId
    schedule: ScheduleId


@dataclass(frozen=True, slots=True)
class Layout:
    """The shape of a destination's keys. ``prefix`` is normalised: no slash at either end, empty for the root.

    Raises ValueError, with a sentence, for a prefix that is not a plain relative path.
    """

    prefix: str = ""
    order: PartitionOrder = PartitionOrder.TIME_FIRST

    def __post_init__(self) -> None:
        prefix = self.prefix.strip("/")
        if prefix:
            check_key(prefix)
        object.__setattr__(self, "prefix", prefix)

    @property
    def folder(self) -> str:
        """The beginning of every key: the prefix and a slash, or nothing."""
        return f"{self.prefix}/" if self.prefix else ""


_FILE_NAME = re.compile(r"[0-9a-f-]{36}_(?P<token>[a-z0-9]{1,200})(?:\.[0-9]{4,9})?\.[a-z]+\.gz")

AnyName = ObjectName | ManifestName | ScriptName | PublicationName


def file_name(job: JobId, type_token: str, number: int, file_format: ExportFormat) -> str:
    """A part's file name, in the spool as in a store."""
    further = f".{number:04d}" if number > 1 else ""
    return f"{job}_{type_token}{further}.{file_format.extension}"


def is_file_name(name: str, *, job: JobId, number: int) -> bool:
    """Whether ``file_name`` could have made this name: one file in the job's own folder."""
    match = _FILE_NAME.fullmatch(name)
    return match is not None and any(
        name == file_name(job, match["token"], number, file_format) for file_format in ExportFormat
    )


@lru_cache(maxsize=1024)
def organization_folder(organization: OrganizationId, layout: Layout) -> str:
    """The beginning of an organization's keys, slash included. Raises ValueError for an empty id."""
    if not organization:
        raise ValueError("an organization's id must not be empty")
    return f"{layout.folder}orgId={quote(organization, safe='')}/"


def build(name: AnyName, layout: Layout) -> ObjectKey:
    """The key of an object."""
    folder = organization_folder(name.organization, layout)
    if isinstance(name, ManifestName):
        return ObjectKey(f"{folder}_manifests/{name.job}.json")
    if isinstance(name, ScriptName):
        return ObjectKey(f"{folder}_loaders/{name.job}.{name.dialect}.sql")
    if isinstance(name, PublicationName):
        return ObjectKey(f"{folder}_published/{name.schedule}.json")
    partitions = _partitions(name.day, name.hour, name.type_token, layout)
    return ObjectKey(f"{folder}{partitions}{file_name(name.job, name.type_token, name.number, name.file_format)}")


def _partitions(day: date, hour: int, type_token: str, layout: Layout) -> str:
    time, kind = f"date={day.isoformat()}/hour={hour:02d}/", f"type={type_token}/"
    return time + kind if layout.order is PartitionOrder.TIME_FIRST else kind + time


def is_part_name(name: str) -> bool:
    """Whether a part's file may have this name."""
    return _FILE_NAME.fullmatch(name) is not None


def key_of_file(name: str, organization: OrganizationId, due_at: datetime, layout: Layout) -> ObjectKey:
    """The key of a part by its ``file_name``. ``due_at`` is aware. Raises ValueError for any other name."""
    match = _FILE_NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not the name of a part")
    due = due_at.astimezone(UTC)
    partitions = _partitions(due.date(), due.hour, match["token"], layout)
    return ObjectKey(f"{organization_folder(organization, layout)}{partitions}{name}")


def job_prefixes(
    organization: OrganizationId, due_at: datetime, type_tokens: Collection[str], layout: Layout
) -> tuple[str, ...]:
    """The prefixes of the keys of a job's parts, as narrow as possible. To find all parts, list these and parse the
    keys.

    ``due_at`` is aware.
    """
    due = due_at.astimezone(UTC)
    folder = organization_folder(organization, layout)
    if layout.order is PartitionOrder.TIME_FIRST:
        return (f"{folder}date={due.date().isoformat()}/hour={due.hour:02d}/",)
    return tuple(f"{folder}{_partitions(due.date(), due.hour, token, layout)}" for token in sorted(set(type_tokens)))


def parse(key: str, layout: Layout) -> AnyName | None:
    """The name that ``build`` made this key from, or None when it made no such key."""
    match = _KEY.fullmatch(key.removeprefix(layout.folder)) if key.startswith(layout.folder) else None
    if match is None:
        return None
    name = _name(match)
    # One comparison replaces many rules: exportd never writes other spellings of the same name.
    return name if name is not None and build(name, layout) == key else None


_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def check_key(key: str) -> None:
    """Raise ValueError unless ``key`` is a plain relative path that cannot leave its folder."""
    segments = key.split("/")
    if not key or any(segment in {"", ".", ".."} for segment in segments):
        raise ValueError(f"{key!r} is not a key: segments must not be empty, '.' or '..'")
    if _CONTROL_CHARACTER.search(key):
        raise ValueError(f"{key!r} is not a key: it holds a control character")
    if _SURROGATE.search(key):
        raise ValueError(f"{key!r} is not a key: it is not valid Unicode")


def content_type(key: ObjectKey) -> str:
    """The media type of an object, by the end of its name."""
    return _CONTENT_TYPES.get(key.rpartition(".")[2], "application/octet-stream")


def metadata_of(key: ObjectKey, content: bytes | None = None) -> dict[str, str]:
    """The metadata of an object: the job in its name, and the SHA-256 of the content if it is known."""
    job = _JOB_IN_NAME.match(key.rpartition("/")[2])
    known = {"exportd-job": job[0]} if job is not None else {}
    return known if content is None else {**known, "exportd-sha256": hashlib.sha256(content).hexdigest()}


_CONTENT_TYPES = {"gz": "application/gzip", "json": "application/json", "sql": "application/sql"}
_ORGANIZATION = r"orgId=(?P<organization>[^/]+)"
_JOB = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_TIME = r"date=(?P<day{0}>\d{{4}}-\d\d-\d\d)/hour=(?P<hour{0}>\d\d)"
_TYPE = r"type=(?P<type{0}>[^/]+)"
_FILE = rf"(?P<job>{_JOB})_(?P<token>[^/.]+)(?:\.(?P<number>\d{{4,}}))?\.(?P<format>csv|jsonl)\.gz"
_PARTITIONS = f"(?:{_TIME.format(1)}/{_TYPE.format(1)}|{_TYPE.format(2)}/{_TIME.format(2)})"
_MANIFEST = rf"_manifests/(?P<manifest>{_JOB})\.json"
_SCRIPT = rf"_loaders/(?P<script>{_JOB})\.(?P<dialect>[a-z]+)\.sql"
_JOB_IN_NAME = re.compile(_JOB)
_PUBLICATION = rf"_published/(?P<publication>{_JOB})\.json"
_KEY = re.compile(rf"{_ORGANIZATION}/(?:{_MANIFEST}|{_SCRIPT}|{_PUBLICATION}|{_PARTITIONS}/{_FILE})", re.ASCII)


def _name(match: re.Match[str]) -> AnyName | None:
    organization = OrganizationId(unquote(match["organization"]))
    if match["manifest"]:
        return ManifestName(organization, JobId(UUID(match["manifest"])))
    if match["script"]:
        return ScriptName(organization, JobId(UUID(match["script"])), match["dialect"])
    if match["publication"]:
        return PublicationName(organization, ScheduleId(UUID(match["publication"])))
    hour = int(match["hour1"] or match["hour2"])
    try:
        day = date.fromisoformat(match["day1"] or match["day2"])
    except ValueError:
        return None
    if hour > 23:
        return None
    return ObjectName(
        organization=organization,
        day=day,
        hour=hour,
        type_token=match["token"],
        job=JobId(UUID(match["job"])),
        number=int(match["number"] or 1),
        file_format=ExportFormat(match["format"].upper()),
    )
