"""What a job has read, as decided at its snapshot and stored with its seal. The manifest and the positions are made
from it.
"""

import json
from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from exportd.model.entity import EntityCode
from exportd.model.errors import FullReason
from exportd.model.identity_cache import IdentityCache
from exportd.model.job import Job
from exportd.model.start import Position, SharedDocument, shared_guards


class Mode(StrEnum):
    """How much of an entity a run holds."""

    FULL = "full"
    INCREMENTAL = "incremental"


@dataclass(frozen=True, slots=True)
class ExtractedField:
    """A field as consumers see it: name, type, format (``uuid``, ``date``, …), and the entity that it refers to."""

    name: str
    type: str
    format: str | None
    reference: EntityCode | None


@dataclass(frozen=True, slots=True)
class EntityExtraction:
    """What was read of one entity.

    ``previous`` is the snapshot at which the window begins (None: the entity's first content). ``rows`` counts all
    records, ``deleted_rows`` those that are deletions. ``key`` and ``tenant`` are names of fields, or of columns that
    are not exported. ``guards`` go into the position as they are. ``oversized_parts`` of the parts hold a single row
    that is larger than the size cap. ``modified`` is named like ``key`` when the job's start date was compared with it.
    """

    entity: EntityCode
    type_token: str
    mode: Mode
    full_reason: FullReason | None
    previous: str | None
    rows: int
    deleted_rows: int
    key: tuple[str, ...]
    tenant: str | None
    fields: tuple[ExtractedField, ...]
    guards: Mapping[str, Any]
    oversized_parts: int = 0
    modified: str | None = None


@dataclass(frozen=True, slots=True)
class Extraction:
    """What was read in one snapshot. ``taken_at`` is aware UTC, ``wal_position`` the server's LSN then."""

    snapshot: str
    wal_position: str
    taken_at: datetime
    entities: tuple[EntityExtraction, ...]

    def positions(self, job: Job) -> tuple[Position, ...]:
        """The positions of the job's schedule after the job has succeeded."""
        return tuple(
            Position(
                entity=entity.entity,
                job_id=job.id,
                snapshot=self.snapshot,
                taken_at=self.taken_at,
                guards=entity.guards,
                destinations=job.destinations,
            )
            for entity in self.entities
        )

    def windows(self) -> dict[EntityCode, str]:
        """The snapshots at which the windows of the incremental entities begin."""
        return {
            entity.entity: entity.previous
            for entity in self.entities
            if entity.mode is Mode.INCREMENTAL and entity.previous is not None
        }

    def documents(self) -> tuple[SharedDocument, ...]:
        """The documents that ``to_text`` names by digest."""
        return tuple(
            document
            for entity in self.entities
            for document in (_shared_fields(entity.fields), shared_guards(entity.guards))
        )

    def to_text(self) -> str:
        """The extraction in JSON, with digests in place of the documents. ``from_json`` reads it after the documents
        are put in.
        """
        return json.dumps(
            {
                "snapshot": self.snapshot,
                "wal_position": self.wal_position,
                "taken_at": self.taken_at.isoformat(),
                "entities": [_entity_document(entity) for entity in self.entities],
            }
        )

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Extraction":
        return cls(
            snapshot=document["snapshot"],
            wal_position=document["wal_position"],
            taken_at=datetime.fromisoformat(document["taken_at"]),
            entities=tuple(
                EntityExtraction(
                    entity=EntityCode(entity["entity"]),
                    type_token=entity["type_token"],
                    mode=Mode(entity["mode"]),
                    full_reason=FullReason(entity["full_reason"]) if entity["full_reason"] else None,
                    previous=entity["previous"],
                    rows=entity["rows"],
                    deleted_rows=entity["deleted_rows"],
                    key=tuple(entity["key"]),
                    tenant=entity["tenant"],
                    fields=tuple(ExtractedField(*field) for field in entity["fields"]),
                    guards=entity["guards"],
                    # A job that an earlier version sealed does not have these.
                    oversized_parts=entity.get("oversized_parts", 0),
                    modified=entity.get("modified"),
                )
                for entity in document["entities"]
            ),
        )


_SHARED = ("fields", "guards")
"""The parts of an entity's document that are the same for thousands of jobs. Earlier versions stored them with each
job.
"""


def digests_in(document: Mapping[str, Any]) -> Set[str]:
    """The digests of the shared documents that an extraction names."""
    return {
        entity[part] for entity in document.get("entities", ()) for part in _SHARED if isinstance(entity.get(part), str)
    }


def with_documents(document: Mapping[str, Any], documents: Mapping[str, Any]) -> dict[str, Any]:
    """The extraction with the documents instead of their digests; ``documents`` has each of them."""
    entities = [
        {
            name: documents[value] if name in _SHARED and isinstance(value, str) else value
            for name, value in entity.items()
        }
        for entity in document.get("entities", ())
    ]
    return {**document, "entities": entities} if entities else dict(document)


def _entity_document(entity: EntityExtraction) -> dict[str, Any]:
    return {
        "entity": entity.entity,
        "type_token": entity.type_token,
        "mode": entity.mode,
        "full_reason": entity.full_reason,
        "previous": entity.previous,
        "rows": entity.rows,
        "deleted_rows": entity.deleted_rows,
        "key": entity.key,
        "tenant": entity.tenant,
        "oversized_parts": entity.oversized_parts,
        "modified": entity.modified,
        "fields": _shared_fields(entity.fields).digest,
        "guards": shared_guards(entity.guards).digest,
    }


@IdentityCache
def _shared_fields(fields: tuple[ExtractedField, ...]) -> SharedDocument:
    return SharedDocument.of([[field.name, field.type, field.format, field.reference] for field in fields])
