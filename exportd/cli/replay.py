"""``exportd replay``: the exported tables, rebuilt in a DuckDB file."""

from pathlib import Path

from exportd.cli.job import parse_job_id
from exportd.cli.output import print_json, print_line, print_table
from exportd.cli.progress_bar import progress_bar
from exportd.consumer.findings import examine_manifests, restart_sentence
from exportd.consumer.inventory import by_destination
from exportd.consumer.inventory_reader import read_inventory
from exportd.consumer.replay.plan import plan
from exportd.model.entity import OrganizationId
from exportd.model.errors import SettingsError
from exportd.stores.location import parse_location
from exportd.stores.opener import open_location


async def replay_place(
    place: str, into: Path, *, as_of: str | None, organization: str | None, schedule: str | None, as_json: bool
) -> None:
    """Rebuild, and print what the tables hold."""
    try:
        from exportd.consumer.replay.rebuilder import rebuild
    except ModuleNotFoundError as error:
        if error.name != "duckdb":
            raise
        raise SettingsError.of("Replaying needs DuckDB. Install it: pip install 'exportd[replay]'") from error
    location = parse_location(place)
    job = parse_job_id(as_of) if as_of else None
    store = open_location(location)
    try:
        listing = await read_inventory(store, location, OrganizationId(organization) if organization else None)
        reports = [examine_manifests(*owner, found) for owner, found in by_destination(listing.manifests).items()]
        chosen = plan(reports, schedule=schedule, as_of=job)
        with progress_bar("replaying") as progress:
            counts = await rebuild(store, chosen, into, progress)
    finally:
        await store.aclose()
    if as_json:
        print_json(
            {
                "file": into,
                "organization": chosen.organization,
                "schedule": chosen.schedule,
                "asOf": chosen.as_of,
                "tables": counts,
                "restarts": [
                    {"job": restart.job, "reason": restart.reason, "undone": list(restart.undone)}
                    for restart in chosen.restarts
                ],
            }
        )
        return
    print_table(["TABLE", "RECORDS"], [(table, f"{rows:,}") for table, rows in counts.items()], numbers=["RECORDS"])
    print_line()
    print_line(f"{into}: {chosen.organization} as of job {chosen.as_of}")
    for restart in chosen.restarts:
        print_line(restart_sentence(restart))
