"""The commands that read delivered files: ``exportd verify``, ``replay`` and ``loader``.

Verifying checks that the files in a bucket or directory are complete and unaltered. Replaying rebuilds the exported
tables in a DuckDB file. The loader prints a run's statements for a database.
"""

from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anyio.to_thread

from exportd.cli.job import parse_job_id
from exportd.cli.output import Exit, moment, print_json, print_line, print_script, print_table, size
from exportd.cli.progress import progress_bar
from exportd.consumer.findings import examine_manifests, restart_sentence
from exportd.consumer.inventory import manifest_name
from exportd.consumer.inventory_reader import find_manifest, read_inventory
from exportd.consumer.loaders.kit import statements
from exportd.consumer.replay_plan import plan
from exportd.consumer.verifier import Verification, verify
from exportd.manifest.chain import Chain
from exportd.manifest.document import MAX_MANIFEST_BYTES, parse
from exportd.model.entity import OrganizationId
from exportd.model.errors import SettingsError
from exportd.model.schedule import DialectName
from exportd.settings.destination_schema import Scheme
from exportd.stores.location import Location, parse_location
from exportd.stores.opener import open_location

_MAX_PRINTED = 10
"""How many objects without a manifest are printed; ``--json`` has all."""


async def verify_place(place: str, organization: str | None, as_json: bool) -> Exit:
    """Verify, print the findings, and return the exit code."""
    location = parse_location(place)
    owner = OrganizationId(organization) if organization else None
    async with aclosing(open_location(location)) as store:
        with progress_bar("verifying") as progress:
            found = await verify(store, location, organization=owner, progress=progress)
    if as_json:
        print_json(verification_document(place, found))
    else:
        _print_verification(found)
    return Exit.FAILED if found.findings else Exit.DONE


def verification_document(place: str, found: Verification) -> dict[str, Any]:
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
        "restarts": [asdict(restart) for report in found.destinations for restart in report.restarts],
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


def _print_verification(found: Verification) -> None:
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


async def replay_place(
    place: str, into: Path, *, as_of: str | None, organization: str | None, schedule: str | None, as_json: bool
) -> None:
    """Rebuild, and print what the tables hold."""
    try:
        from exportd.consumer.rebuilder import rebuild
    except ModuleNotFoundError as error:
        if error.name != "duckdb":
            raise
        raise SettingsError.of("Replaying needs DuckDB. Install it: pip install 'exportd[replay]'") from error
    location = parse_location(place)
    job = parse_job_id(as_of) if as_of else None
    async with aclosing(open_location(location)) as store:
        listing = await read_inventory(store, location, OrganizationId(organization) if organization else None)
        chosen = plan(examine_manifests(listing.manifests), schedule=schedule, as_of=job)
        with progress_bar("replaying") as progress:
            counts = await rebuild(store, chosen, into, progress)
    if as_json:
        print_json(
            {
                "file": into,
                "organization": chosen.organization,
                "schedule": chosen.schedule,
                "asOf": chosen.as_of,
                "tables": counts,
                "restarts": [asdict(restart) for restart in chosen.restarts],
            }
        )
        return
    print_table(["TABLE", "RECORDS"], [(table, f"{rows:,}") for table, rows in counts.items()], numbers=["RECORDS"])
    print_line()
    print_line(f"{into}: {chosen.organization} as of job {chosen.as_of}")
    for restart in chosen.restarts:
        print_line(restart_sentence(restart))


async def print_statements(place: str, job: str | None, dialect: DialectName) -> None:
    """Print the script of the run of a manifest, or of ``job`` at a place."""
    location = parse_location(place)
    if location.scheme is Scheme.DIRECTORY:
        path = await anyio.to_thread.run_sync(location.path.resolve)
        # A script is run anywhere.
        location = Location(Scheme.DIRECTORY, str(path))
        if await anyio.to_thread.run_sync(path.is_file):
            print_script(_of_file(path, await anyio.to_thread.run_sync(_beginning, path), dialect))
            return
    if job is None:
        raise SettingsError.of(f"{place} is no manifest: say with --job which run of that place is to be loaded.")
    async with aclosing(open_location(location)) as store:
        found = await find_manifest(store, location, parse_job_id(job))
    root = Location(location.scheme, location.root)
    print_script(statements(parse(found.document), dialect, root, folder=found.folder))


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_MANIFEST_BYTES + 1)


def _of_file(path: Path, document: bytes, dialect: DialectName) -> str:
    manifest = parse(document)
    if manifest_name(path.as_posix()) is None:
        # As `exportd download` leaves it: the files are beside it.
        return statements(manifest, dialect, Location(Scheme.DIRECTORY, str(path.parent)))
    # <root>/orgId=…/_manifests/<job>.json
    return statements(manifest, dialect, Location(Scheme.DIRECTORY, str(path.parents[2])), folder="")
