"""What a job read, decided at its snapshot and kept with its seal: the manifest and the positions are made from it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from exportd.model.entity import EntityCode
from exportd.model.identity_cache import IdentityCache
from exportd.model.job import Job
from exportd.model.reason import FullReason
from exportd.model.start import Position, guards_text


class Mode(StrEnum):
    """How much of an entity a run holds."""

    FULL = "full"
    INCREMENTAL = "incremental"


@dataclass(frozen=True, slots=True)
class ExtractedField:
    """A field as consumers get it: name, type, the type's refinement (``uuid``, ``date``, …), what it refers to."""

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
        """Where the job's schedule stands once it has succeeded."""
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

    def to_text(self) -> str:
        """JSON, of which ``from_json`` makes the same extraction."""
        facts = {
            "snapshot": self.snapshot,
            "wal_position": self.wal_position,
            "taken_at": self.taken_at.isoformat(),
        }
        entities = ",".join(map(_entity_text, self.entities))
        return f'{json.dumps(facts)[:-1]},"entities":[{entities}]}}'

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


def _entity_text(entity: EntityExtraction) -> str:
    facts = {
        "entity": entity.entity,
        "type_token": entity.type_token,
        "mode": entity.mode,
        "full_reason": entity.full_reason,
        "previous": entity.previous,
        "rows": entity.rows,
        "deleted_rows": entity.deleted_rows,
        "key": list(entity.key),
        "tenant": entity.tenant,
        "oversized_parts": entity.oversized_parts,
        "modified": entity.modified,
    }
    # Most of the document, and the same for thousands of jobs.
    return f'{json.dumps(facts)[:-1]},"fields":{_fields_text(entity.fields)},"guards":{guards_text(entity.guards)}}}'


@IdentityCache
def _fields_text(fields: tuple[ExtractedField, ...]) -> str:
    return json.dumps([[field.name, field.type, field.format, field.reference] for field in fields])
