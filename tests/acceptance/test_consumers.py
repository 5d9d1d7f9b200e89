"""What the real daemon delivers is verified, and rebuilt as of each of its jobs, by the real command line."""

import json
from pathlib import Path

import duckdb
import pytest

from tests.acceptance.declarations import destination, schedule
from tests.acceptance.shop import CATALOG, Contents, Shop
from tests.fixtures.daemon import Site


@pytest.mark.slow
@pytest.mark.parametrize("file_format", ["CSV", "JSONL"])
async def test_deliveries_are_verified_and_rebuilt_as_of_each_job(site: Site, shop: Shop, file_format: str) -> None:
    lake = site.destination("lake")
    site.configure(
        CATALOG,
        {
            "destination": [destination("lake", lake, prefix="product")],
            "schedule": [schedule("often", format=file_format)],
        },
    )
    daemon = await site.restart()
    job = await site.first_job(shop.connection)
    contents: dict[str, Contents] = {}
    for _ in range(3):
        await site.succeeded(shop.connection, job)
        contents[str(job)] = await shop.contents()
        await shop.change()
        job = await site.fire()
    await site.succeeded(shop.connection, job)
    contents[str(job)] = await shop.contents()

    verified = await site.without_configuration("verify", str(lake), "--json")
    assert verified.returncode == 0, verified.stderr
    (chain,) = json.loads(verified.stdout)["chains"]
    assert chain["jobs"] == list(contents)
    for each, expected in contents.items():
        into = site.folder / f"{each}.duckdb"
        replayed = await site.without_configuration("replay", str(lake), "--into", str(into), "--as-of", each)
        assert replayed.returncode == 0, replayed.stderr
        assert _contents(into) == expected

    (file, *_) = sorted(lake.rglob("*_order.*"))
    file.unlink()
    assert (await site.without_configuration("verify", str(lake))).returncode == 1
    assert await daemon.stop() == 0


def _contents(path: Path) -> Contents:
    found: Contents = {}
    with duckdb.connect(str(path), read_only=True) as connection:
        for (entity,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
            rows = connection.execute(f'SELECT COLUMNS(*)::VARCHAR FROM "{entity}"')
            names = [each[0] for each in rows.description or ()]
            found[entity] = {(row[0],): dict(zip(names, row, strict=True)) for row in rows.fetchall()}
    return found
