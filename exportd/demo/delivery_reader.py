"""Finds what a directory holds of an organization's schedule: its manifests in their order, and each entity's files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from exportd.manifest.chain import Chain, check
from exportd.manifest.document import Manifest, ManifestEntity
from exportd.model.entity import DELETED_FIELD, EntityCode, OrganizationId
from exportd.model.errors import PermanentError
from exportd.model.extraction import Mode
from exportd.model.reason import Reason
from exportd.model.schedule import ExportFormat
from exportd.stores.layout import Layout, organization_folder


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one run delivered of an entity. ``full`` replaces what was there before. ``names`` excludes ``deleted``."""

    full: bool
    file_format: ExportFormat
    names: tuple[str, ...]
    files: tuple[Path, ...]
    rows: int
    deleted_rows: int


def read_deliveries(
    directory: Path, organization: OrganizationId, *, prefix: str = "", schedule: str | None = None
) -> dict[EntityCode, list[Delivery]]:
    """Each entity's deliveries from its last full one on. ``schedule`` is a code, needed when there are several.

    Raises PermanentError when manifests are missing, damaged or do not follow each other.
    """
    folder = directory / organization_folder(organization, Layout(prefix)) / "_manifests"
    report = check([path.read_bytes() for path in sorted(folder.glob("*.json"))])
    if report.findings:
        raise PermanentError(f"{folder}: {report.findings[0].sentence}", reason=Reason.MANIFEST_DAMAGED)
    chain = _choose(report.chains, schedule, folder)
    deliveries: dict[EntityCode, list[Delivery]] = {}
    for manifest in chain.manifests:
        for entity, delivery in _deliveries(manifest, directory):
            if delivery.full:
                deliveries[entity.code] = []
            deliveries[entity.code].append(delivery)
    return deliveries


def _choose(chains: tuple[Chain, ...], schedule: str | None, folder: Path) -> Chain:
    scheduled = {
        chain.manifests[-1].schedule.code: chain for chain in chains if chain.manifests[-1].schedule is not None
    }
    if schedule is None and len(scheduled) == 1:
        return next(iter(scheduled.values()))
    if schedule is not None and schedule in scheduled:
        return scheduled[schedule]
    there = ", ".join(sorted(scheduled)) or "none"
    wanted = f"the schedule {schedule}" if schedule else "a single schedule"
    raise PermanentError(f"{folder} does not hold {wanted}; there are: {there}", reason=Reason.NOT_FOUND)


def _deliveries(manifest: Manifest, directory: Path) -> Iterator[tuple[ManifestEntity, Delivery]]:
    for entity in manifest.entities:
        yield (
            entity,
            Delivery(
                full=entity.mode is Mode.FULL,
                file_format=manifest.format,
                names=tuple(field.name for field in entity.fields if field.name != DELETED_FIELD),
                files=tuple(directory / part.key for part in entity.parts),
                rows=entity.rows,
                deleted_rows=entity.deleted_rows,
            ),
        )
