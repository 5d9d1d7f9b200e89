"""``exportd verify``: whether what lies in a bucket or directory is whole and unaltered."""

from typing import Any

from exportd.cli.failures import Exit
from exportd.cli.output import moment, print_json, print_line, print_table, size
from exportd.cli.progress_bar import progress_bar
from exportd.consumer.findings import restart_sentence
from exportd.consumer.verifier import Verification, verify
from exportd.manifest.chain import Chain
from exportd.model.entity import OrganizationId
from exportd.stores.location import parse_location
from exportd.stores.opener import open_location

_MAX_PRINTED = 10
"""How many objects without a manifest are printed; ``--json`` has all."""


async def verify_place(place: str, organization: str | None, as_json: bool) -> Exit:
    """Verify, print what was found, and say how the command ends."""
    location = parse_location(place)
    store = open_location(location)
    try:
        with progress_bar("verifying") as progress:
            found = await verify(
                store,
                location,
                organization=OrganizationId(organization) if organization else None,
                progress=progress,
            )
    finally:
        await store.aclose()
    if as_json:
        print_json(document(place, found))
    else:
        _print(found)
    return Exit.FAILED if found.findings else Exit.DONE


def document(place: str, found: Verification) -> dict[str, Any]:
    """The outcome for programs; stable."""
    return {
        "place": place,
        "ok": not found.findings,
        "objects": found.objects,
        "sizeBytes": found.size_bytes,
        "chains": [
            {
                "prefix": report.folder.rstrip("/"),
                "organization": report.organization,
                "schedule": _schedule(chain),
                "complete": chain.complete,
                "jobs": [manifest.job_id for manifest in chain.manifests],
                "redelivered": [job for manifest in chain.manifests for job in manifest.redelivers],
            }
            for report in found.destinations
            for chain in report.chains
        ],
        "restarts": [
            {"job": restart.job, "reason": restart.reason, "undone": list(restart.undone)}
            for report in found.destinations
            for restart in report.restarts
        ],
        "findings": [
            {
                "kind": finding.kind,
                "job": finding.job,
                "entity": finding.entity,
                "key": finding.key,
                "sentence": finding.sentence,
                "remedy": finding.remedy,
            }
            for finding in found.findings
        ],
        "unlisted": list(found.unlisted),
    }


def _print(found: Verification) -> None:
    print_table(
        ["ORGANIZATION", "SCHEDULE", "RUNS", "FROM", "TO", "AGAIN"],
        [
            (
                report.organization,
                _schedule(chain) or "(ad hoc)",
                len(chain.manifests),
                moment(chain.manifests[0].created_at),
                moment(chain.manifests[-1].created_at),
                sum(len(manifest.redelivers) for manifest in chain.manifests) or None,
            )
            for report in found.destinations
            for chain in report.chains
        ],
        numbers=["RUNS", "AGAIN"],
    )
    for report in found.destinations:
        for restart in report.restarts:
            print_line(f"\n{restart_sentence(restart)}")
    for finding in found.findings:
        print_line()
        print_line(f"{finding.kind}: {finding.sentence}")
        print_line(f"  {finding.remedy}")
    if found.unlisted:
        print_line()
        print_line(
            f"{len(found.unlisted)} objects stand in no manifest: they belong to no export, to one that is being "
            "published now, or to one whose manifest was removed."
        )
        for key in found.unlisted[:_MAX_PRINTED]:
            print_line(f"  {key}")
    total = f"{found.objects} files, {size(found.size_bytes)}"
    print_line()
    if found.findings:
        print_line(f"{total}: {len(found.findings)} things are wrong.")
    else:
        print_line(f"{total}: nothing is missing, nothing was altered.")


def _schedule(chain: Chain) -> str | None:
    schedule = chain.manifests[-1].schedule
    return schedule.code if schedule is not None else None
