"""``exportd loader``: a run's statements for a database."""

from pathlib import Path

import anyio.to_thread

from exportd.cli.job import parse_job_id
from exportd.cli.output import print_script
from exportd.consumer.inventory import manifest_name
from exportd.consumer.inventory_reader import find_manifest
from exportd.consumer.loaders.kit import statements
from exportd.manifest.document import MAX_MANIFEST_BYTES, parse
from exportd.model.errors import SettingsError
from exportd.model.schedule import DialectName
from exportd.settings.destination_schema import Scheme
from exportd.stores.location import Location, parse_location
from exportd.stores.opener import open_location


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
    store = open_location(location)
    try:
        found = await find_manifest(store, location, parse_job_id(job))
    finally:
        await store.aclose()
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
