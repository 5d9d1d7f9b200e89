"""Checks that a destination's manifests follow each other without a gap. Pure.

Each schedule of an organization has its own chain: a manifest names the one before it by job and hash. Along the chain,
an entity is continued from where the last manifest that held it ended, or it is full. There are two exceptions, which
have to be marked. After a run that did not reach every destination, the next one starts from where the run before that
one ended, and so delivers some changes to the others again. A back-fill starts from where a run further back did. Both
say in ``redelivers`` whose changes come again.

A run in which all entities are full begins anew if the database was put back, restored or failed over, or if the
destination is at another place. It may follow a manifest that is not here, or one that another run follows too.

Ad hoc exports belong to no chain. They are full, or hold the records that were modified since a start date.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum

from exportd.manifest.document import Manifest, ManifestEntity, parse, sha256_of
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import FullReason, PermanentError
from exportd.model.extraction import Mode
from exportd.model.job import JobId
from exportd.model.schedule import ScheduleId

_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")

_OTHER_DATABASE = {
    FullReason.DATABASE_PUT_BACK,
    FullReason.CLUSTER_CHANGED,
    FullReason.TIMELINE_CHANGED,
    FullReason.SNAPSHOT_WENT_BACK,
}
_OTHER_PLACE = {FullReason.DESTINATION_ADDED}


class ChainFindingKind(StrEnum):
    """The kinds of problems in a set of manifests."""

    UNREADABLE = "UNREADABLE"
    CONTRADICTORY = "CONTRADICTORY"
    PREDECESSOR_MISSING = "PREDECESSOR_MISSING"
    PREDECESSOR_CHANGED = "PREDECESSOR_CHANGED"
    FORK = "FORK"
    GAP = "GAP"
    OVERLAP_UNMARKED = "OVERLAP_UNMARKED"


@dataclass(frozen=True, slots=True)
class ChainFinding:
    """One problem. ``job`` is that of the manifest, None when it cannot be read."""

    kind: ChainFindingKind
    sentence: str
    job: JobId | None = None
    entity: EntityCode | None = None


@dataclass(frozen=True, slots=True)
class Chain:
    """Manifests of one schedule, the oldest first; an ad hoc export's only one has no ``schedule``.

    ``complete`` says that it begins with the schedule's first manifest at this destination.
    """

    organization: OrganizationId
    schedule: ScheduleId | None
    manifests: tuple[Manifest, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class Restart:
    """A complete run with which another history of the database begins. Nothing before it counts any more.

    ``undone`` are the earlier jobs that contain changes which the database had lost by then, as far as can be seen.
    """

    job: JobId
    reason: FullReason
    undone: tuple[JobId, ...]


@dataclass(frozen=True, slots=True)
class ChainReport:
    """The chains that were found, their problems, and the runs with which another history begins."""

    chains: tuple[Chain, ...]
    findings: tuple[ChainFinding, ...]
    restarts: tuple[Restart, ...] = ()


@dataclass(frozen=True, slots=True)
class _Link:
    manifest: Manifest
    sha256: str


def check(documents: Sequence[bytes]) -> ChainReport:
    """Check the manifests of one destination, in any order."""
    findings: list[ChainFinding] = []
    links: dict[JobId, _Link] = {}
    for number, document in enumerate(documents, start=1):
        try:
            link = _Link(parse(document), sha256_of(document))
        except PermanentError as error:
            findings.append(ChainFinding(ChainFindingKind.UNREADABLE, f"Document {number}: {error.sentence}"))
            continue
        job = link.manifest.job_id
        if links.setdefault(job, link).sha256 != link.sha256:
            findings.append(ChainFinding(ChainFindingKind.CONTRADICTORY, f"There are two manifests of job {job}.", job))
    links = dict(sorted(links.items(), key=lambda item: (item[1].manifest.created_at, item[0])))  # the oldest first
    restarts = tuple(_restarts(links))
    findings += _broken_links(links, {job for restart in restarts for job in restart.undone})
    chains = tuple(_chains(links))
    for chain in chains:
        findings += _broken_windows(chain)
    # The common beginning of a fork is checked twice.
    return ChainReport(chains, tuple(dict.fromkeys(findings)), restarts)


def _broken_links(links: dict[JobId, _Link], undone: Set[JobId]) -> Iterator[ChainFinding]:
    followers: dict[JobId, JobId] = {}
    for job, link in links.items():
        predecessor = link.manifest.predecessor
        if predecessor is None:
            continue
        found = links.get(predecessor.job_id)
        if found is None and begins_another_history(link.manifest):
            continue  # what it says it follows was undone, or is at another place; it replaces that
        if found is None:
            yield ChainFinding(
                ChainFindingKind.PREDECESSOR_MISSING,
                f"The manifest of job {job} follows that of job {predecessor.job_id}, which is not here.",
                job,
            )
        elif found.sha256 != predecessor.sha256 or _line(found.manifest) != _line(link.manifest):
            yield ChainFinding(
                ChainFindingKind.PREDECESSOR_CHANGED,
                f"The manifest of job {job} follows another one of job {predecessor.job_id} than the one that is here.",
                job,
            )
        if job in undone:
            continue  # a complete run came later and replaces it: what else follows the same manifest is no fork
        first = followers.setdefault(predecessor.job_id, job)
        if first != job and not begins_another_history(link.manifest):
            yield ChainFinding(
                ChainFindingKind.FORK,
                f"The manifests of jobs {first} and {job} both follow that of job {predecessor.job_id}.",
                job,
            )


def begins_another_history(manifest: Manifest) -> bool:
    """Whether a run is complete because the database, or the place, is not the one of the run before."""
    return _restart_reason(manifest) is not None


def _restart_reason(manifest: Manifest) -> FullReason | None:
    reasons = [entity.full_reason for entity in manifest.entities]
    if not all(reasons):
        return None
    return next((reason for reason in reasons if reason in _OTHER_DATABASE or reason in _OTHER_PLACE), None)


def _restarts(links: dict[JobId, _Link]) -> Iterator[Restart]:
    for job, link in links.items():
        reason = _restart_reason(link.manifest)
        if reason in _OTHER_DATABASE:
            yield Restart(job, reason, tuple(_undone(link.manifest, links)))


def _undone(restart: Manifest, links: dict[JobId, _Link]) -> Iterator[JobId]:
    """Earlier jobs of the line that the restart does not follow, or that were read further on in the same log."""
    followed: set[JobId] = set()
    predecessor = restart.predecessor
    while predecessor is not None and predecessor.job_id not in followed:
        followed.add(predecessor.job_id)
        found = links.get(predecessor.job_id)
        predecessor = found.manifest.predecessor if found is not None else None
    same_log = _restart_reason(restart) is not FullReason.CLUSTER_CHANGED
    for manifest in (link.manifest for link in links.values()):
        if _line(manifest) != _line(restart) or manifest.created_at >= restart.created_at:
            continue
        if manifest.job_id not in followed or (same_log and _log_position(manifest) > _log_position(restart)):
            yield manifest.job_id


def _log_position(manifest: Manifest) -> int:
    """The server's LSN as a number; 0 where the manifest names none."""
    match = _LSN.fullmatch(manifest.entities[0].window.lsn) if manifest.entities else None
    return (int(match[1], 16) << 32) + int(match[2], 16) if match else 0


def _chains(links: dict[JobId, _Link]) -> Iterator[Chain]:
    """Every path from a first manifest to a last one. A fork makes two chains with the same beginning."""
    followers: dict[JobId | None, list[Manifest]] = defaultdict(list)
    for link in links.values():
        predecessor = link.manifest.predecessor
        followers[predecessor.job_id if predecessor and predecessor.job_id in links else None].append(link.manifest)
    beginnings = [[first] for first in followers[None]]
    while beginnings:
        chain = beginnings.pop(0)
        while later := followers[chain[-1].job_id]:
            first, *others = later
            beginnings += [[*chain, other] for other in others]
            chain.append(first)
        yield Chain(*_line(chain[0]), tuple(chain), complete=chain[0].predecessor is None)


def _broken_windows(chain: Chain) -> Iterator[ChainFinding]:
    history: dict[EntityCode, list[tuple[JobId, str]]] = defaultdict(list)
    for manifest in chain.manifests:
        for entity in manifest.entities:
            earlier = history[entity.code]
            if entity.mode is Mode.INCREMENTAL and manifest.start_date is None:
                yield from _broken_window(manifest, entity, earlier, chain)
            earlier.append((manifest.job_id, entity.window.snapshot))


def _broken_window(
    manifest: Manifest, entity: ManifestEntity, earlier: Sequence[tuple[JobId, str]], chain: Chain
) -> Iterator[ChainFinding]:
    snapshots = [snapshot for _, snapshot in earlier]
    if entity.window.previous not in snapshots:
        # The beginning of a chain whose older manifests were removed cannot be judged.
        if earlier or chain.complete:
            yield ChainFinding(
                ChainFindingKind.GAP,
                f"In the manifest of job {manifest.job_id}, {entity.code} begins at a snapshot at which no earlier "
                "manifest ends: changes in between may be missing.",
                manifest.job_id,
                entity.code,
            )
        return
    last = len(snapshots) - 1 - snapshots[::-1].index(entity.window.previous or "")
    unmarked = [job for job, _ in earlier[last + 1 :] if job not in manifest.redelivers]
    if unmarked:
        yield ChainFinding(
            ChainFindingKind.OVERLAP_UNMARKED,
            f"In the manifest of job {manifest.job_id}, {entity.code} repeats changes of {_names(unmarked)} without "
            "saying so.",
            manifest.job_id,
            entity.code,
        )


def _line(manifest: Manifest) -> tuple[OrganizationId, ScheduleId | None]:
    return manifest.organization, manifest.schedule.id if manifest.schedule is not None else None


def _names(jobs: Sequence[JobId]) -> str:
    return ("job " if len(jobs) == 1 else "jobs ") + ", ".join(map(str, jobs))
