"""Reads a job's rows into parts in the spool: repairs capture, opens one snapshot, runs COPY, writes the files.

No other module of the pipeline reads the source database.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import anyio

from exportd.capture.installer import CaptureInstaller
from exportd.catalog.document import Catalog
from exportd.extraction.copier import Copier, CopyTask, ImagesUnreadableError
from exportd.extraction.projection import csv_header
from exportd.extraction.shared_reader import SharedReader
from exportd.extraction.silence_watcher import STALLED_AFTER_S, SilenceWatcher
from exportd.extraction.snapshot_opener import SnapshotOpener
from exportd.extraction.snapshot_reader import OpenSnapshot, Reader
from exportd.extraction.snapshot_sharer import SnapshotSharer
from exportd.jobs.states import leaves
from exportd.model.entity import DELETED_FIELD, Entity, EntityCode
from exportd.model.errors import FullReason, PermanentError, Reason, TransientError
from exportd.model.extraction import EntityExtraction, ExtractedField, Extraction
from exportd.model.job import Job, JobProgress, Part
from exportd.model.schedule import ExportFormat
from exportd.model.start import Position
from exportd.settings.schema import LimitSettings
from exportd.spool.entity_writer import EntityWriter, finish_together
from exportd.spool.part_files import PartFile
from exportd.spool.spool import Spool


@dataclass(frozen=True, slots=True)
class _Record:
    """An entity's fields, key and special columns, by the names that consumers see."""

    fields: tuple[ExtractedField, ...]
    key: tuple[str, ...]
    tenant: str | None
    modified: str | None


class Extractor:
    """Reads the entities of jobs into the spool. One instance serves all jobs.

    A job that has waited for the database for ``stalled_after_s`` seconds is reported as stalled in its progress.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        installer: CaptureInstaller,
        opener: SnapshotOpener,
        copier: Copier,
        spool: Spool,
        limits: LimitSettings,
        stalled_after_s: float = STALLED_AFTER_S,
    ) -> None:
        self._catalog = catalog
        self._installer = installer
        self._opener = opener
        self._sharer = SnapshotSharer(opener, installer.complete, SharedReader(copier))
        self._copier = copier
        self._spool = spool
        self._limits = limits
        self._stalled_after_s = stalled_after_s
        self._headers = {code: csv_header(entity) for code, entity in catalog.entities.items()}
        self._records = {code: _record_of(entity) for code, entity in catalog.entities.items()}

    async def extract(
        self,
        job: Job,
        positions: Mapping[EntityCode, Position],
        *,
        forced: Mapping[EntityCode, FullReason],
        progress: JobProgress,
        on_part_started: Callable[[PartFile], None],
        shares_snapshot: bool = False,
    ) -> tuple[Extraction, tuple[Part, ...]]:
        """Read the changes of ``job`` since ``positions``. Every part is durable when this returns.

        ``forced`` names entities that must be full. A job with ``shares_snapshot`` is read together with the jobs that
        call this at the same time. Raises TransientError (AloneError when the job cannot be read together with others),
        PermanentError or ImagesUnreadableError, none of them in an exception group. After an error no file is left.
        """
        entities = [self._entity(code) for code in job.entities]
        if job.schedule_id is None:
            forced = dict.fromkeys(job.entities, FullReason.AD_HOC)
        progress.entities.clear()
        watcher = SilenceWatcher(
            timeout_s=self._limits.silence_timeout_s, progress=progress, stalled_after_s=self._stalled_after_s
        )
        reader = Reader(job, entities, positions, forced, watcher)
        try:
            return await self._attempt(reader, on_part_started, shares_snapshot=shares_snapshot)
        except BaseExceptionGroup as group:
            unreadable = group.subgroup(ImagesUnreadableError)
            if unreadable is not None:
                raise next(leaves(unreadable)) from group
            raise

    def _entity(self, code: EntityCode) -> Entity:
        entity = self._catalog.entities.get(code)
        if entity is None:
            raise PermanentError(
                f"The catalog has no entity {code} any more. Put it back, or take it out of the schedule.",
                reason=Reason.CATALOG_MISMATCH,
            )
        if (trouble := self._catalog.trouble(code)) is not None:
            raise PermanentError(
                f"Entity {code} is out of order: {trouble}. Other schedules go on; put the table or the catalog right.",
                reason=Reason.ENTITY_OUT_OF_ORDER,
            )
        return entity

    async def _attempt(
        self, reader: Reader, on_part_started: Callable[[PartFile], None], *, shares_snapshot: bool
    ) -> tuple[Extraction, tuple[Part, ...]]:
        job, entities, progress = reader.job, reader.entities, reader.watcher.progress
        folder = await self._spool.begin_job(job.id, job.organization)
        writers = {
            entity.code: EntityWriter(
                spool=self._spool,
                folder=folder,
                job=job.id,
                entity=entity.code,
                type_token=entity.type_token,
                file_format=job.file_format,
                header=self._headers[entity.code] if job.file_format is ExportFormat.CSV else b"",
                cap_bytes=self._limits.part_size,
                progress=progress.of(entity.code),
                on_part_started=on_part_started,
            )
            for entity in entities
        }
        sent: Counter[EntityCode] = Counter()

        async def done(task: CopyTask, rows: int) -> None:
            sent[task.entity] += rows
            if task.deletions:
                progress.of(task.entity).deleted_rows += rows

        try:
            # Capture is repaired before the snapshot is taken, so that the repaired triggers have recorded everything
            # since then.
            opened = (
                self._sharer.open(reader)
                if shares_snapshot
                else self._opener.open_captured(self._installer.complete, reader)
            )
            async with opened as snapshot:
                await self._copier.copy(
                    snapshot, job.file_format, lambda code: writers[code].write, done, watcher=reader.watcher
                )
            # The snapshot and its locks are released by now. Only the files are still to be closed.
            parts = await finish_together(list(writers.values()))
            _require_all_rows(sent, parts)
        except BaseException:
            with anyio.CancelScope(shield=True):
                for writer in writers.values():
                    await writer.abort()
            raise
        return self._extraction(reader, snapshot), parts

    def _extraction(self, reader: Reader, snapshot: OpenSnapshot) -> Extraction:
        entities = []
        for entity in reader.entities:
            window, record = snapshot.windows[entity.code], self._records[entity.code]
            figures = reader.watcher.progress.of(entity.code)
            entities.append(
                EntityExtraction(
                    entity=entity.code,
                    type_token=entity.type_token,
                    mode=window.mode,
                    full_reason=window.full_reason,
                    previous=window.previous,
                    rows=figures.rows,
                    deleted_rows=figures.deleted_rows,
                    key=record.key,
                    tenant=record.tenant,
                    fields=record.fields,
                    guards=snapshot.guards[entity.code].to_json(),
                    oversized_parts=figures.oversized_parts,
                    modified=record.modified if reader.job.start_date else None,
                )
            )
        return Extraction(snapshot.snapshot, snapshot.wal_position, snapshot.taken_at, tuple(entities))


def _require_all_rows(sent: Mapping[EntityCode, int], parts: Sequence[Part]) -> None:
    """Compare the rows that COPY says it sent with the rows that were counted on the way into the files."""
    counted: Counter[EntityCode] = Counter()
    for part in parts:
        counted[part.entity] += part.rows
    for entity in counted:
        if sent.get(entity, 0) != counted[entity]:
            raise TransientError(
                f"Entity {entity}: the server sent {sent.get(entity, 0)} rows, {counted[entity]} arrived in the files.",
                reason=Reason.ROWS_MISCOUNTED,
            )


def _record_of(entity: Entity) -> _Record:
    return _Record(
        fields=(
            *(ExtractedField(field.name, field.type, field.format, field.reference) for field in entity.fields),
            ExtractedField(DELETED_FIELD, "boolean", None, None),
        ),
        key=_field_names(entity, entity.key),
        tenant=_field_names(entity, (entity.tenant,))[0] if entity.tenant else None,
        modified=_field_names(entity, (entity.modified,))[0] if entity.modified else None,
    )


def _field_names(entity: Entity, columns: tuple[str, ...]) -> tuple[str, ...]:
    """The columns by the names that consumers see. A column that is not exported keeps its own name."""
    names = {field.column: field.name for field in entity.fields if field.column}
    return tuple(names.get(column, column) for column in columns)
