"""What is wrong with what lies at a place, and what to do about it. Pure."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from exportd.consumer.contents import Contents
from exportd.consumer.place import FoundManifest, object_key
from exportd.manifest import chain
from exportd.manifest.chain import Chain, ChainReport
from exportd.manifest.document import Manifest, ManifestEntity, ManifestPart, parse, render
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import PermanentError
from exportd.model.job import JobId
from exportd.model.schedule import ExportFormat
from exportd.stores.layout import ObjectKey


class FindingKind(StrEnum):
    """What is wrong, of a manifest (see also ``manifests.chain``) or of an object. Stable: programs match on them."""

    MANIFEST_ALTERED = "MANIFEST_ALTERED"
    MANIFEST_MISPLACED = "MANIFEST_MISPLACED"
    OBJECT_MISSING = "OBJECT_MISSING"
    OBJECT_ALTERED = "OBJECT_ALTERED"
    OBJECT_MISCOUNTED = "OBJECT_MISCOUNTED"
    OBJECT_SHARED = "OBJECT_SHARED"


_RESTORE_MANIFEST = (
    "Put the original back, from a copy. Without it load nothing of this schedule after that job, until the next run "
    "in which each entity is full."
)
_RESTORE_OBJECT = (
    "Put the original back, from a copy or with `exportd download` (24 hours long). Without it load nothing of this "
    "entity from that job on, until its next full run."
)
_RELOAD = "Load nothing of this schedule after that job, until the next run in which each entity is full; report it."

_REMEDIES: Mapping[str, str] = {
    chain.FindingKind.UNREADABLE: _RESTORE_MANIFEST,
    chain.FindingKind.CONTRADICTORY: _RESTORE_MANIFEST,
    chain.FindingKind.PREDECESSOR_MISSING: _RESTORE_MANIFEST,
    chain.FindingKind.PREDECESSOR_CHANGED: _RESTORE_MANIFEST,
    chain.FindingKind.FORK: "Two daemons with different databases deliver here: give each a prefix of its own.",
    chain.FindingKind.GAP: _RELOAD,
    chain.FindingKind.OVERLAP_UNMARKED: _RELOAD,
    FindingKind.MANIFEST_ALTERED: _RESTORE_MANIFEST,
    FindingKind.MANIFEST_MISPLACED: "Somebody moved or renamed manifests: put each back under its own name.",
    FindingKind.OBJECT_MISSING: _RESTORE_OBJECT,
    FindingKind.OBJECT_ALTERED: _RESTORE_OBJECT,
    FindingKind.OBJECT_MISCOUNTED: "The manifest was edited, or exportd is wrong: "
    + _RESTORE_MANIFEST[0].lower()
    + _RESTORE_MANIFEST[1:],
    FindingKind.OBJECT_SHARED: _RESTORE_MANIFEST,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. ``key`` is that of the manifest or object; ``job`` None where that cannot be told."""

    kind: chain.FindingKind | FindingKind
    sentence: str
    job: JobId | None = None
    entity: EntityCode | None = None
    key: ObjectKey | None = None

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return _REMEDIES[self.kind]


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as a manifest lists it, and the key under which it has to be here."""

    key: ObjectKey
    part: ManifestPart
    entity: ManifestEntity
    manifest: Manifest

    @property
    def format(self) -> ExportFormat:
        return self.manifest.format


@dataclass(frozen=True, slots=True)
class ManifestsReport:
    """What the manifests of one destination say, and what is wrong with them."""

    folder: str
    organization: OrganizationId
    chains: tuple[Chain, ...]
    objects: tuple[ListedObject, ...]
    findings: tuple[Finding, ...]


def examine_manifests(folder: str, organization: OrganizationId, found: Sequence[FoundManifest]) -> ManifestsReport:
    """Check the manifests of one destination, and tell which objects they list."""
    report = chain.check([each.document for each in found])
    findings = [*_broken_documents(found), *_broken_chains(report)]
    manifests = {manifest.job_id: manifest for line in report.chains for manifest in line.manifests}
    objects = tuple(
        ListedObject(object_key(part.key, organization, folder), part, entity, manifest)
        for manifest in manifests.values()
        for entity in manifest.entities
        for part in entity.parts
    )
    findings += _shared(objects)
    return ManifestsReport(folder, organization, report.chains, objects, tuple(findings))


def examine_object(listed: ListedObject, contents: Contents | None) -> Finding | None:
    """What is wrong with an object; ``contents`` is None when there is none. The first cause only: others follow."""
    altered = _alteration(listed.part, contents)
    if altered is not None:
        return _of_object(FindingKind.OBJECT_ALTERED, listed, altered)
    if contents is None:
        return _of_object(FindingKind.OBJECT_MISSING, listed, "is not here")
    miscounted = _miscount(listed, contents)
    return None if miscounted is None else _of_object(FindingKind.OBJECT_MISCOUNTED, listed, miscounted)


def examine_deletions(whole: Sequence[tuple[ListedObject, Contents]]) -> Iterator[Finding]:
    """Whether each entity, whose files are all ``whole``, holds as many deletions as its manifest says."""
    deleted_rows: dict[tuple[JobId, EntityCode], list[int]] = defaultdict(list)
    entities: dict[tuple[JobId, EntityCode], ManifestEntity] = {}
    for listed, contents in whole:
        name = listed.manifest.job_id, listed.entity.code
        entities[name] = listed.entity
        deleted_rows[name].append(contents.deleted_rows)
    for (job, code), entity in entities.items():
        counts = deleted_rows[job, code]
        if len(counts) == len(entity.parts) and sum(counts) != entity.deleted_rows:
            yield Finding(
                FindingKind.OBJECT_MISCOUNTED,
                f"The files of {code} in job {job} hold {sum(counts)} deletions; the manifest says "
                f"{entity.deleted_rows}.",
                job,
                code,
            )


def _of_object(kind: FindingKind, listed: ListedObject, what: str) -> Finding:
    job = listed.manifest.job_id
    return Finding(kind, f"{listed.key}, a file of job {job}, {what}.", job, listed.entity.code, listed.key)


def _alteration(part: ManifestPart, contents: Contents | None) -> str | None:
    if contents is None:
        return None
    if contents.size_bytes != part.size_bytes:
        return f"has {contents.size_bytes} bytes; the manifest says {part.size_bytes}"
    if contents.sha256 != part.sha256:
        return "has the right size but other bytes: its SHA-256 differs"
    return None


def _miscount(listed: ListedObject, contents: Contents) -> str | None:
    """What the manifest says wrongly of an object that is as it was delivered."""
    if contents.problem is not None:
        return contents.problem
    if contents.header is not None and contents.header != tuple(field.name for field in listed.entity.fields):
        return "has another header line than the fields of its manifest"
    for what, holds, told in (
        ("bytes when decompressed", contents.content_bytes, listed.part.content_bytes),
        ("records", contents.rows, listed.part.rows),
    ):
        if holds != told:
            return f"holds {holds} {what}; the manifest says {told}"
    return None


def _broken_documents(found: Sequence[FoundManifest]) -> Iterator[Finding]:
    for each in found:
        try:
            manifest = parse(each.document)
        except PermanentError as error:
            yield Finding(chain.FindingKind.UNREADABLE, f"{each.key}: {error.sentence}", each.name.job, key=each.key)
            continue
        if (manifest.job_id, manifest.organization) != (each.name.job, each.name.organization):
            yield Finding(
                FindingKind.MANIFEST_MISPLACED,
                f"{each.key} is the manifest of job {manifest.job_id} of {manifest.organization}, under a wrong name.",
                each.name.job,
                key=each.key,
            )
        if render(manifest) != each.document:
            yield Finding(
                FindingKind.MANIFEST_ALTERED,
                f"{each.key} is not written as exportd writes manifests: somebody has edited it.",
                each.name.job,
                key=each.key,
            )


def _broken_chains(report: ChainReport) -> Iterator[Finding]:
    for finding in report.findings:
        # Unreadable documents have been named already, by their keys.
        if finding.kind is not chain.FindingKind.UNREADABLE:
            yield Finding(finding.kind, finding.sentence, finding.job, finding.entity)


def _shared(objects: Sequence[ListedObject]) -> Iterator[Finding]:
    owners: dict[ObjectKey, JobId] = {}
    for object_ in objects:
        job = object_.manifest.job_id
        if owners.setdefault(object_.key, job) != job:
            yield Finding(
                FindingKind.OBJECT_SHARED,
                f"{object_.key} is listed by the manifests of two jobs, {owners[object_.key]} and {job}.",
                job,
                object_.entity.code,
                object_.key,
            )
