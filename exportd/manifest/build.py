"""Builds the manifest of a job from its extraction and its parts. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from exportd.manifest.document import (
    Manifest,
    ManifestEntity,
    ManifestField,
    ManifestPart,
    ManifestSchedule,
    ManifestWindow,
    Predecessor,
    render,
    schema_version_of,
)
from exportd.model.extraction import EntityExtraction, ExtractedField, Extraction
from exportd.model.identity_cache import IdentityCache
from exportd.model.job import Job, JobId, Part


@dataclass(frozen=True, slots=True)
class History:
    """What a destination has received of a schedule so far: its newest manifest, and the jobs whose changes come again,
    because they had not reached every destination or a back-fill was asked for.
    """

    predecessor: Predecessor | None = None
    redelivers: tuple[JobId, ...] = ()


def build_manifest(
    job: Job,
    extraction: Extraction,
    parts: Sequence[Part],
    key_of: Callable[[Part], str],
    history: History,
) -> Manifest:
    """The manifest of a job at one destination, where ``key_of`` names the object of a part.

    ``parts`` are those that the destination gets. An entity without records may have none.
    """
    parts_of: dict[str, list[Part]] = {}
    for part in parts:
        parts_of.setdefault(part.entity, []).append(part)
    entities = tuple(
        _entity(extraction, entity, parts_of.get(entity.entity, ()), key_of) for entity in extraction.entities
    )
    return Manifest(
        schema_version=schema_version_of(entities, job.start_date),
        job_id=job.id,
        organization=job.organization,
        schedule=ManifestSchedule(id=job.schedule_id, code=job.schedule_code or "") if job.schedule_id else None,
        due_at=job.due_at,
        created_at=extraction.taken_at,
        format=job.file_format,
        entities=entities,
        predecessor=history.predecessor,
        redelivers=history.redelivers,
        start_date=job.start_date,
    )


class ManifestRenderer:
    """Renders the manifests of one job for its destinations and the spool. Their common parts are rendered once."""

    def __init__(self) -> None:
        self._rendered: list[tuple[Manifest, bytes]] = []

    def render(self, manifest: Manifest) -> bytes:
        """As ``document.render``."""
        for known, document in self._rendered:
            if known == manifest:
                return document
        document = render(manifest)
        self._rendered.append((manifest, document))
        return document


def _entity(
    extraction: Extraction,
    entity: EntityExtraction,
    parts: Sequence[Part],
    key_of: Callable[[Part], str],
) -> ManifestEntity:
    return ManifestEntity(
        code=entity.entity,
        type=entity.type_token,
        mode=entity.mode,
        full_reason=entity.full_reason,
        window=ManifestWindow(
            previous=entity.previous,
            snapshot=extraction.snapshot,
            lsn=extraction.wal_position,
            taken_at=extraction.taken_at,
        ),
        key=entity.key,
        tenant=entity.tenant,
        fields=_fields(entity.fields),
        rows=entity.rows,
        deleted_rows=entity.deleted_rows,
        parts=tuple(
            ManifestPart(
                key=key_of(part),
                rows=part.rows,
                content_bytes=part.content_bytes,
                size_bytes=part.size_bytes,
                sha256=part.sha256,
            )
            for part in parts
        ),
        oversized_parts=entity.oversized_parts,
        modified=entity.modified,
    )


@IdentityCache
def _fields(fields: tuple[ExtractedField, ...]) -> tuple[ManifestField, ...]:
    return tuple(
        ManifestField(name=field.name, type=field.type, format=field.format, reference=field.reference)
        for field in fields
    )
