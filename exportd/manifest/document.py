"""The manifest: what one job delivered to one destination. Pure.

A manifest says, per entity, which window it covers, what a record looks like and which files hold it; and which
manifest came before, by its hash. So a consumer (and ``exportd verify``) can tell from the documents alone that nothing
is missing: an incremental entity begins at the snapshot where the manifest before it ended.

How a consumer applies it, entity by entity: ``full`` replaces everything it holds of the entity (of this organization),
``incremental`` upserts by ``key``; in both, a record with ``deleted`` = true is removed. An export with a
``start_date`` is incremental without a manifest before it: it is upserted into what the consumer holds. An entity
without records may have no files: a ``full`` one is then empty, an ``incremental`` one unchanged. ``redelivers``
names earlier manifests of the same destination whose changes this one holds again, because that run had not reached
every destination, or because a back-fill was asked for; upserting makes them harmless.

A consumer reads whatever lies at a destination under a manifest's name, and others may write there. So a document has a
size, a list a length, a number the range of Postgres's own, a time a year that every calendar has, and a name no
control characters: it is printed, and it becomes an identifier of other databases.

The bytes are canonical (sorted names, no white space, UTF-8, one newline at the end), so that equal manifests have
equal hashes and publishing again changes nothing.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import FullReason, PermanentError, Reason
from exportd.model.extraction import Mode
from exportd.model.identity_cache import IdentityCache
from exportd.model.job import JobId
from exportd.model.schedule import ExportFormat, ScheduleId

SCHEMA_VERSION: Final = 1
START_DATE_SCHEMA_VERSION: Final = 2
"""Of manifests with a ``start_date``. Readers of version 1 refuse them by it, instead of as damaged ones."""
NO_FILES_SCHEMA_VERSION: Final = 3
"""Of manifests with an entity that has no files, because it has no records; with a ``start_date`` or without."""

MAX_MANIFEST_BYTES: Final = 16 << 20
"""Enough for some 50,000 files. A longer document is neither read nor written."""

MAX_MANIFESTS_BYTES: Final = 256 << 20
"""The limit of all manifests that are read together from one place: enough for years of an hourly schedule."""

MAX_MANIFEST_VALUES: Final = 500_000
"""The limit of JSON values in a document. A JSON reader needs a hundred bytes for an empty list, which is two bytes
long.
"""

MAX_ENTITIES: Final = 10_000
MAX_FIELDS: Final = 2_000
"""More than the columns that a table of Postgres can have."""

MAX_KEY_FIELDS: Final = 64
MAX_PARTS: Final = 100_000
MAX_REDELIVERED_JOBS: Final = 100_000

_MAX_TEXT_LENGTH = 1_000
_MAX_KEY_LENGTH = 4_096
_MAX_SNAPSHOT_LENGTH = 1 << 20
_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"

Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Snapshot = Annotated[
    str, StringConstraints(pattern=r"^[0-9]+:[0-9]+:([0-9]+(,[0-9]+)*)?$", max_length=_MAX_SNAPSHOT_LENGTH)
]
Text = Annotated[str, StringConstraints(max_length=_MAX_TEXT_LENGTH, pattern=_PRINTABLE)]

NAME: Final = StringConstraints(min_length=1, max_length=_MAX_TEXT_LENGTH, pattern=_PRINTABLE)
"""The rule of names, which cannot be empty."""

Named = Annotated[str, NAME]

Key = Annotated[str, StringConstraints(min_length=1, max_length=_MAX_KEY_LENGTH, pattern=_PRINTABLE)]

Moment = Annotated[AwareDatetime, Field(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(9999, 1, 1, tzinfo=UTC))]
"""A time that can be written in every time zone."""

_MAX_PROBLEMS = 10
"""How many problems of a document are named."""

_MAX_PROBLEM_LENGTH = 300

_MAX_LISTED_PROBLEMS = 1_000
"""The problems of a document with more values are not listed, because the list would take ten times its memory."""


class _Strict:
    """Refuses unknown fields and other types."""

    __slots__ = ()
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestSchedule(_Strict):
    """The schedule that fired."""

    id: ScheduleId
    code: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Predecessor(_Strict):
    """The manifest this destination received before, and the SHA-256 of its bytes."""

    job_id: JobId
    sha256: Sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestWindow(_Strict):
    """From one snapshot (``pg_snapshot`` text; None: the beginning) to another, taken at ``taken_at`` and ``lsn``."""

    previous: Snapshot | None
    snapshot: Snapshot
    lsn: Text
    taken_at: Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestField(_Strict):
    """A field of a record, in the order of the file."""

    name: Named
    type: Text
    format: Text | None = None
    reference: Annotated[EntityCode, NAME] | None = None


Fields = Annotated[tuple[ManifestField, ...], Field(max_length=MAX_FIELDS, fail_fast=True)]
"""What a record looks like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestPart(_Strict):
    """A file. ``size_bytes`` and ``sha256`` are those of the object, ``content_bytes`` of what is inside."""

    key: Key
    rows: Count
    content_bytes: Count
    size_bytes: Count
    sha256: Sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestEntity(_Strict):
    """What the run holds of an entity.

    ``key`` names the fields that identify a record, ``tenant`` the field that holds the organization, if there is one.
    ``rows`` counts all records, ``deleted_rows`` those of them with ``deleted`` = true. ``full_reason`` says why an
    entity is full, and is set for those only. ``oversized_parts`` of the parts hold a single row that is larger than
    the size cap of files; a manifest without such parts leaves the field out. ``modified`` names the field, or the
    column if it is not exported, that ``start_date`` was compared with; it is left out without one.
    """

    code: Annotated[EntityCode, NAME]
    type: Text
    mode: Mode
    full_reason: FullReason | None
    window: ManifestWindow
    key: Annotated[tuple[Named, ...], Field(max_length=MAX_KEY_FIELDS, fail_fast=True)]
    tenant: Text | None
    fields: Fields
    rows: Count
    deleted_rows: Count
    parts: Annotated[tuple[ManifestPart, ...], Field(max_length=MAX_PARTS, fail_fast=True)]
    oversized_parts: Count = 0
    modified: Named | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(_Strict):
    """See the module's text. ``created_at`` is when the job was read, so that publishing again does not change it.

    ``schedule`` is None for an ad hoc export, ``predecessor`` for the first manifest of a schedule at a destination.
    With a ``start_date``, which only an ad hoc export has, its records are those that were modified at or after it, or
    at an unknown time, and none that was deleted.
    """

    schema_version: Literal[1, 2, 3] = SCHEMA_VERSION
    job_id: JobId
    organization: Annotated[OrganizationId, NAME]
    schedule: ManifestSchedule | None
    due_at: Moment
    created_at: Moment
    format: ExportFormat
    entities: Annotated[tuple[ManifestEntity, ...], Field(max_length=MAX_ENTITIES, fail_fast=True)]
    predecessor: Predecessor | None
    redelivers: Annotated[tuple[JobId, ...], Field(max_length=MAX_REDELIVERED_JOBS, fail_fast=True)] = ()
    start_date: Moment | None = None


@dataclass(frozen=True, slots=True)
class _Version:
    """Reads only the schema version, to tell a newer document from a damaged one."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True)

    schema_version: Count


_ADAPTER = TypeAdapter(Manifest)
_FIELDS_ADAPTER: TypeAdapter[tuple[ManifestField, ...]] = TypeAdapter(Fields)
_NO_FIELDS = '"fields":[]'
_VERSION_ADAPTER = TypeAdapter(_Version)


def render(manifest: Manifest) -> bytes:
    """The manifest's canonical bytes. Raises ValueError for one that ``parse`` would refuse.

    The descriptions of fields are most of a document and the same in every run, so they are rendered and checked once.
    """
    document = _ADAPTER.dump_python(manifest, mode="json", exclude={"entities": {"__all__": {"fields"}}})
    # Left out when they say nothing: the manifest then has the bytes, and so the hash, that it had before the fields
    # existed, and earlier versions, which refuse unknown fields, can read it.
    if document["start_date"] is None:
        del document["start_date"]
    for entity in document["entities"]:
        entity["fields"] = []
        for name in ("oversized_parts", "modified"):
            if not entity[name]:
                del entity[name]
    text = _canonical(document)
    # Types do not promise everything that is checked on the way in (aware times, hashes, counts that add up).
    contradictions = _contradictions(_ADAPTER.validate_json(text))
    if contradictions:
        raise ValueError("; ".join(contradictions))
    # Inside a string the quotes would be escaped, so these are the entities' own keys.
    first, *others = text.split(_NO_FIELDS)
    pieces = [first]
    for entity, following in zip(manifest.entities, others, strict=True):
        pieces += ['"fields":', _rendered_fields(entity.fields), following]
    data = "".join(pieces).encode() + b"\n"
    oversize = _oversize_of(data)
    if oversize is not None:
        raise ValueError(oversize)
    return data


@IdentityCache
def _rendered_fields(fields: tuple[ManifestField, ...]) -> str:
    text = _canonical(_FIELDS_ADAPTER.dump_python(fields, mode="json"))
    _FIELDS_ADAPTER.validate_json(text)
    return text


def _canonical(document: object) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def schema_version_of(entities: Sequence[ManifestEntity], start_date: datetime | None) -> Literal[1, 2, 3]:
    """The lowest version whose readers understand such a manifest."""
    if not all(entity.parts for entity in entities):
        return NO_FILES_SCHEMA_VERSION
    return SCHEMA_VERSION if start_date is None else START_DATE_SCHEMA_VERSION


def parse(document: bytes) -> Manifest:
    """The manifest in ``document``, whatever bytes these are.

    Raises PermanentError MANIFEST_DAMAGED, with what is wrong: the first problems, where there are many.
    """
    oversize = _oversize_of(document)
    if oversize is not None:
        raise _damaged([oversize])
    try:
        manifest = _ADAPTER.validate_json(document)
    except ValidationError as error:
        version = _newer_version(document)
        if version is not None:
            raise _damaged(
                [
                    f"it was written by a newer exportd (schema version {version}, this one reads up to "
                    f"{NO_FILES_SCHEMA_VERSION}); upgrade exportd"
                ]
            ) from error
        if error.error_count() > _MAX_LISTED_PROBLEMS:
            raise _damaged([f"it has {error.error_count()} problems, and is no manifest of exportd"]) from error
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        raise _damaged(
            [f"{'.'.join(map(str, problem['loc'])) or 'document'}: {problem['msg']}" for problem in problems]
        ) from error
    contradictions = _contradictions(manifest)
    if contradictions:
        raise _damaged(contradictions)
    return manifest


def json_schema() -> str:
    """The JSON Schema of the document, for consumers: ``docs/manifest.schema.json`` is made of it."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **_ADAPTER.json_schema()}
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def sha256_of(document: bytes) -> str:
    """The hash by which the next manifest refers to this one (hex)."""
    return hashlib.sha256(document).hexdigest()


def _oversize_of(document: bytes) -> str | None:
    """Why a document is too large to be read; None when it is not. Checked before it is parsed as JSON."""
    if len(document) > MAX_MANIFEST_BYTES:
        return f"it has more than {MAX_MANIFEST_BYTES} bytes"
    # Each value but the first follows one of these characters. Those in texts count too: there are few.
    if sum(document.count(character) for character in (b",", b"[", b"{")) > MAX_MANIFEST_VALUES:
        return f"it has more than {MAX_MANIFEST_VALUES} values"
    return None


def _damaged(problems: Sequence[str]) -> PermanentError:
    told = [problem[:_MAX_PROBLEM_LENGTH] for problem in problems[:_MAX_PROBLEMS]]
    if len(problems) > _MAX_PROBLEMS:
        told.append(f"and {len(problems) - _MAX_PROBLEMS} more problems")
    return PermanentError(f"The manifest cannot be read: {'; '.join(told)}.", reason=Reason.MANIFEST_DAMAGED)


def _newer_version(document: bytes) -> int | None:
    try:
        version = _VERSION_ADAPTER.validate_json(document).schema_version
    except ValidationError:
        return None
    return version if version > NO_FILES_SCHEMA_VERSION else None


def _contradictions(manifest: Manifest) -> list[str]:
    """The contradictions between values that are valid one by one."""
    dated = manifest.start_date is not None
    found = [problem for entity in manifest.entities for problem in _entity_contradictions(entity, dated=dated)]
    codes = [entity.code for entity in manifest.entities]
    if len(set(codes)) != len(codes):
        found.append("an entity is listed twice")
    keys = [part.key for entity in manifest.entities for part in entity.parts]
    if len(set(keys)) != len(keys):
        found.append("an object is listed twice")
    wanted = schema_version_of(manifest.entities, manifest.start_date)
    if manifest.schema_version != wanted:
        found.append(f"its schema version is {manifest.schema_version}, but what it holds belongs to version {wanted}")
    if dated and manifest.schedule is not None:
        found.append("a run of a schedule has no start date")
    if manifest.schedule is None and manifest.predecessor is not None:
        found.append("an ad hoc export has no predecessor")
    if manifest.predecessor is None and manifest.redelivers:
        found.append("there is nothing to deliver again without a predecessor")
    return found


def _entity_contradictions(entity: ManifestEntity, *, dated: bool) -> list[str]:
    found = []
    if entity.mode is Mode.INCREMENTAL and entity.window.previous is None and not dated:
        found.append(f"{entity.code} is incremental but has no previous snapshot")
    if dated and (entity.mode, entity.window.previous, entity.deleted_rows) != (Mode.INCREMENTAL, None, 0):
        found.append(f"{entity.code} is more than what was modified since the start date")
    if dated != (entity.modified is not None):
        found.append(f"{entity.code} must name what the start date was compared with if and only if there is one")
    if (entity.mode is Mode.FULL) != (entity.full_reason is not None):
        found.append(f"{entity.code} must have a reason if and only if it is full")
    if sum(part.rows for part in entity.parts) != entity.rows:
        found.append(f"{entity.code} counts {entity.rows} rows, but its parts hold others")
    if entity.oversized_parts > len(entity.parts):
        found.append(f"{entity.code} has more oversized parts than parts")
    if entity.deleted_rows > entity.rows:
        found.append(f"{entity.code} has more deleted rows than rows")
    return found
