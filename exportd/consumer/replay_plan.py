"""Decides what is loaded in which order, so that the tables are as of a job. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from exportd.consumer.findings import ManifestsReport
from exportd.consumer.inventory import object_key
from exportd.manifest.chain import Chain, ChainFindingKind, Restart
from exportd.manifest.document import Manifest, ManifestEntity, ManifestPart
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import PermanentError, Reason, SettingsError
from exportd.model.extraction import Mode
from exportd.model.job import JobId
from exportd.stores.layout import ObjectKey


@dataclass(frozen=True, slots=True)
class Step:
    """One run's content of an entity, and the objects that hold it."""

    manifest: Manifest
    entity: ManifestEntity
    objects: tuple[tuple[ObjectKey, ManifestPart], ...]

    @property
    def begins_table(self) -> bool:
        """Whether nothing before it counts, because it is full or the only run of an export with a start date."""
        return self.entity.mode is Mode.FULL or self.manifest.start_date is not None


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps in their order: of each entity its last full run, and the increments since."""

    organization: OrganizationId
    schedule: str | None
    as_of: JobId
    steps: tuple[Step, ...]
    restarts: tuple[Restart, ...] = ()

    @property
    def size_bytes(self) -> int:
        return sum(part.size_bytes for step in self.steps for _, part in step.objects)


def plan(reports: Sequence[ManifestsReport], *, schedule: str | None = None, as_of: JobId | None = None) -> Plan:
    """How to rebuild the tables of one schedule as of a job (its last one, when none is named).

    Raises SettingsError when the schedule or job is not unique or not here, PermanentError MANIFEST_DAMAGED when
    something before it is missing or damaged.
    """
    report, chain = _choose(reports, schedule, as_of)
    manifests = chain.manifests
    if as_of is not None:
        end = next(number for number, manifest in enumerate(manifests, start=1) if manifest.job_id == as_of)
        manifests = manifests[:end]
    steps: dict[EntityCode, list[Step]] = {}
    for manifest in manifests:
        for entity in manifest.entities:
            objects = ((object_key(part.key, manifest.organization, report.folder), part) for part in entity.parts)
            step = Step(manifest, entity, tuple(objects))
            if step.begins_table:
                steps[entity.code] = []
            elif entity.code not in steps:
                raise _damaged(f"the last complete run of {entity.code} before job {manifest.job_id} is not here")
            steps[entity.code].append(step)
    used = {step.manifest.job_id for entity_steps in steps.values() for step in entity_steps}
    _refuse_broken(report, chain, used)
    return Plan(
        organization=report.organization,
        schedule=_code(chain),
        as_of=manifests[-1].job_id,
        steps=tuple(step for entity_steps in steps.values() for step in entity_steps),
        restarts=tuple(restart for restart in report.restarts if restart.job in used),
    )


def _choose(
    reports: Sequence[ManifestsReport], schedule: str | None, as_of: JobId | None
) -> tuple[ManifestsReport, Chain]:
    found = [
        (report, chain)
        for report in reports
        for chain in report.chains
        if (schedule is None or _code(chain) == schedule)
        and (as_of is None or any(manifest.job_id == as_of for manifest in chain.manifests))
        # An ad hoc export is no schedule's history: it is replayed only when its job is named.
        and (as_of is not None or chain.schedule is not None)
    ]
    lines = {(report.folder, report.organization, chain.schedule) for report, chain in found}
    if len(lines) == 1:
        return max(found, key=lambda line: line[1].manifests[-1].created_at)
    wanted = f"the job {as_of}" if as_of else f"the schedule {schedule}" if schedule else "one schedule"
    there = sorted({_described(report, chain) for report in reports for chain in report.chains})
    if not lines:
        raise SettingsError.of(f"This location does not hold {wanted}. It holds: {'; '.join(there)}.")
    raise SettingsError.of(
        f"This location holds more than {wanted}: say which with --organization and --schedule, or name a folder below "
        f"it. It holds: {'; '.join(there)}."
    )


def _refuse_broken(report: ManifestsReport, chain: Chain, used: set[JobId]) -> None:
    for finding in report.findings:
        # What precedes the full runs that the plan begins with does not matter.
        is_beginning = finding.kind is ChainFindingKind.PREDECESSOR_MISSING and finding.job == chain.manifests[0].job_id
        if finding.job in used and not is_beginning:
            raise _damaged(finding.sentence.rstrip("."))


def _code(chain: Chain) -> str | None:
    schedule = chain.manifests[-1].schedule
    return schedule.code if schedule is not None else None


def _described(report: ManifestsReport, chain: Chain) -> str:
    what = _code(chain) or f"an ad hoc export ({chain.manifests[0].job_id})"
    return f"{what} of {report.organization}" + (f" in {report.folder.rstrip('/')}" if report.folder else "")


def _damaged(what: str) -> PermanentError:
    return PermanentError(
        f"The tables cannot be rebuilt: {what}. `exportd verify` shows everything that is wrong there.",
        reason=Reason.MANIFEST_DAMAGED,
    )
