"""Finds problems at a location with delivered objects, and says what to do about them. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from exportd.consumer.contents import Contents
from exportd.consumer.inventory import FoundManifest, object_key
from exportd.manifest import chain
from exportd.manifest.chain import Chain, ChainFindingKind, ChainReport, Restart
from exportd.manifest.document import Manifest, ManifestEntity, ManifestPart, parse, render
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import PermanentError
from exportd.model.job import JobId
from exportd.stores.layout import ObjectKey


class FindingKind(StrEnum):
    """The kinds of problems of a manifest (see also ``manifest.chain``) or an object. They are stable, because programs
    match on them.
    """

    MANIFEST_ALTERED = "MANIFEST_ALTERED"
    MANIFEST_MISPLACED = "MANIFEST_MISPLACED"
    MANIFESTS_TOO_LARGE = "MANIFESTS_TOO_LARGE"
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
    ChainFindingKind.UNREADABLE: _RESTORE_MANIFEST,
    ChainFindingKind.CONTRADICTORY: _RESTORE_MANIFEST,
    ChainFindingKind.PREDECESSOR_MISSING: _RESTORE_MANIFEST,
    ChainFindingKind.PREDECESSOR_CHANGED: _RESTORE_MANIFEST,
    ChainFindingKind.FORK: "Two daemons with different databases deliver here: give each a prefix of its own.",
    ChainFindingKind.GAP: _RELOAD,
    ChainFindingKind.OVERLAP_UNMARKED: _RELOAD,
    FindingKind.MANIFEST_ALTERED: _RESTORE_MANIFEST,
    FindingKind.MANIFEST_MISPLACED: "Manifests were moved or renamed: put each back under its own name.",
    FindingKind.MANIFESTS_TOO_LARGE: "Verify a part of them: name one organization, or a folder that holds fewer.",
    FindingKind.OBJECT_MISSING: _RESTORE_OBJECT,
    FindingKind.OBJECT_ALTERED: _RESTORE_OBJECT,
    FindingKind.OBJECT_MISCOUNTED: "The manifest was edited, or exportd is wrong: "
    + _RESTORE_MANIFEST[0].lower()
    + _RESTORE_MANIFEST[1:],
    FindingKind.OBJECT_SHARED: _RESTORE_MANIFEST,
}


@dataclass(frozen=True, slots=True)
class VerificationFinding:
    """One problem. ``key`` is that of the manifest or object. ``job`` is None when it is unknown."""

    kind: ChainFindingKind | FindingKind
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
    """An object as a manifest lists it, and its key at the location."""

    key: ObjectKey
    part: ManifestPart
    entity: ManifestEntity
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class ManifestsReport:
    """The content of one destination's manifests, and their problems."""

    folder: str
    organization: OrganizationId
    chains: tuple[Chain, ...]
    objects: tuple[ListedObject, ...]
    findings: tuple[VerificationFinding, ...]
    restarts: tuple[Restart, ...] = ()


def restart_sentence(restart: Restart) -> str:
    """The sentence about a run with which another history of the database begins."""
    sentence = f"With job {restart.job} another history of the database begins ({restart.reason}); it is complete."
    if not restart.undone:
        return sentence
    jobs = ("job " if len(restart.undone) == 1 else "jobs ") + ", ".join(map(str, restart.undone))
    return f"{sentence} The database no longer had all that {jobs} told of: look again at what was done because of it."


def examine_manifests(found: Iterable[FoundManifest]) -> tuple[ManifestsReport, ...]:
    """Check the manifests of each destination (those of one folder and organization), and list their objects."""
    destinations: dict[tuple[str, OrganizationId], list[FoundManifest]] = defaultdict(list)
    for manifest in found:
        destinations[manifest.folder, manifest.name.organization].append(manifest)
    return tuple(_examine_destination(*owner, manifests) for owner, manifests in destinations.items())


def _examine_destination(folder: str, organization: OrganizationId, found: Sequence[FoundManifest]) -> ManifestsReport:
    report = chain.check([manifest.document for manifest in found])
    findings = [*_broken_documents(found), *_broken_chains(report)]
    manifests = {manifest.job_id: manifest for line in report.chains for manifest in line.manifests}
    objects = tuple(
        ListedObject(object_key(part.key, organization, folder), part, entity, manifest)
        for manifest in manifests.values()
        for entity in manifest.entities
        for part in entity.parts
    )
    findings += _shared(objects)
    return ManifestsReport(folder, organization, report.chains, objects, tuple(findings), report.restarts)


def examine_object(listed: ListedObject, contents: Contents | None) -> VerificationFinding | None:
    """The problem of an object, if it has one. ``contents`` is None when the object is missing. Only the first cause is
    reported.
    """
    if contents is None:
        return _of_object(FindingKind.OBJECT_MISSING, listed, "is not here")
    altered = _alteration(listed.part, contents)
    if altered is not None:
        return _of_object(FindingKind.OBJECT_ALTERED, listed, altered)
    miscounted = _miscount(listed, contents)
    return None if miscounted is None else _of_object(FindingKind.OBJECT_MISCOUNTED, listed, miscounted)


def examine_deletions(whole: Sequence[tuple[ListedObject, Contents]]) -> Iterator[VerificationFinding]:
    """Compare the deletions of each entity with its manifest, if all its files are ``whole``."""
    deleted_rows: dict[tuple[JobId, EntityCode], list[int]] = defaultdict(list)
    entities: dict[tuple[JobId, EntityCode], ManifestEntity] = {}
    for listed, contents in whole:
        name = listed.manifest.job_id, listed.entity.code
        entities[name] = listed.entity
        deleted_rows[name].append(contents.deleted_rows)
    for (job, code), entity in entities.items():
        counts = deleted_rows[job, code]
        if len(counts) == len(entity.parts) and sum(counts) != entity.deleted_rows:
            yield VerificationFinding(
                FindingKind.OBJECT_MISCOUNTED,
                f"The files of {code} in job {job} hold {sum(counts)} deletions; the manifest says "
                f"{entity.deleted_rows}.",
                job,
                code,
            )


def _of_object(kind: FindingKind, listed: ListedObject, what: str) -> VerificationFinding:
    job = listed.manifest.job_id
    return VerificationFinding(kind, f"{listed.key}, a file of job {job}, {what}.", job, listed.entity.code, listed.key)


def _alteration(part: ManifestPart, contents: Contents) -> str | None:
    if contents.size_bytes > part.size_bytes:
        # The object was not read to its end.
        return f"has more than the {part.size_bytes} bytes that the manifest says"
    if contents.size_bytes != part.size_bytes:
        return f"has {contents.size_bytes} bytes; the manifest says {part.size_bytes}"
    if contents.sha256 != part.sha256:
        return "has the right size but other bytes: its SHA-256 differs"
    return None


def _miscount(listed: ListedObject, contents: Contents) -> str | None:
    """Compare the counts of an undamaged object with its manifest."""
    if contents.problem is not None:
        return contents.problem
    if contents.header is not None and contents.header != tuple(field.name for field in listed.entity.fields):
        return "has another header line than the fields of its manifest"
    for what, holds, listed_count in (
        ("bytes when decompressed", contents.content_bytes, listed.part.content_bytes),
        ("records", contents.rows, listed.part.rows),
    ):
        if holds != listed_count:
            return f"holds {holds} {what}; the manifest says {listed_count}"
    return None


def _broken_documents(found: Sequence[FoundManifest]) -> Iterator[VerificationFinding]:
    for document in found:
        key, name = document.key, document.name
        try:
            manifest = parse(document.document)
        except PermanentError as error:
            yield VerificationFinding(ChainFindingKind.UNREADABLE, f"{key}: {error.sentence}", name.job, key=key)
            continue
        if (manifest.job_id, manifest.organization) != (name.job, name.organization):
            yield VerificationFinding(
                FindingKind.MANIFEST_MISPLACED,
                f"{key} is the manifest of job {manifest.job_id} of {manifest.organization}, under a wrong name.",
                name.job,
                key=key,
            )
        if render(manifest) != document.document:
            yield VerificationFinding(
                FindingKind.MANIFEST_ALTERED,
                f"{key} is not written as exportd writes manifests: it was edited.",
                name.job,
                key=key,
            )


def _broken_chains(report: ChainReport) -> Iterator[VerificationFinding]:
    for finding in report.findings:
        # Unreadable documents have been named already, by their keys.
        if finding.kind is not ChainFindingKind.UNREADABLE:
            yield VerificationFinding(finding.kind, finding.sentence, finding.job, finding.entity)


def _shared(objects: Sequence[ListedObject]) -> Iterator[VerificationFinding]:
    owners: dict[ObjectKey, JobId] = {}
    for listed in objects:
        job = listed.manifest.job_id
        if owners.setdefault(listed.key, job) != job:
            yield VerificationFinding(
                FindingKind.OBJECT_SHARED,
                f"{listed.key} is listed by the manifests of two jobs, {owners[listed.key]} and {job}.",
                job,
                listed.entity.code,
                listed.key,
            )
