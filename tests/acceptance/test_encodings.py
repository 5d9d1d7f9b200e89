"""Databases of other encodings than UTF-8 are captured and exported, and what they cannot hold is told anyway."""

from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest

from tests.acceptance.declarations import destination, schedule
from tests.acceptance.delivered_files import DeliveredFiles
from tests.fixtures.daemon import Site
from tests.fixtures.postgres import Database

TABLE = "CREATE TABLE public.words (word text PRIMARY KEY, {column} text, owner text NOT NULL)"
CATALOG = """
[[entity]]
code = "WORDS"
label = "Words"
type_token = "word"
table = "public.words"
key = ["word"]
tenant = "owner"
fields = ["word", {{ name = "text", column = "{column}" }}]
"""

ENCODINGS = {
    "LATIN1": ("größe", "Äpfel", "déjà vu", "¿Qué?"),
    "LATIN2": ("słowo", "żółw", "čeština", "őrült"),
    "KOI8R": ("слово", "Привет", "мир", "ёлка"),
    "EUC_JP": ("言葉", "日本橋", "東京", "こんにちは"),
}


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_database_of_another_encoding_is_exported(site: Site, encoding: str) -> None:
    column, first, second, third = ENCODINGS[encoding]
    name = f"in_{encoding.lower()}"
    administrator = await site.database.connect()
    await administrator.execute(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    server = site.database.server
    site.database = Database(server, name, AsyncExitStack())
    site.dsn = site.database.dsn
    # What the database cannot hold occurs in paths, which its tables name.
    lake = site.destination()
    site.folder = site.folder / "ordner-☃"
    site.folder.mkdir()
    connection = await asyncpg.connect(site.dsn)
    try:
        await connection.execute(TABLE.format(column=f'"{column}"'))
        await connection.execute("INSERT INTO public.words VALUES ($1, $2, $1)", first, f"{first} {second}")
        await connection.execute("INSERT INTO public.words VALUES ($1, $2, $3)", second, second, first)
        site.configure(
            CATALOG.format(column=column),
            {
                "destination": [{**destination("lake", lake), "organization": first}],
                "schedule": [{**schedule(), "organization": first}],
            },
        )
        daemon = await site.start()
        await site.succeeded(connection, await site.first_job(connection))
        assert _held(lake) == {first: f"{first} {second}", second: second}
        await connection.execute("INSERT INTO public.words VALUES ($1, $1, $2)", third, first)
        await connection.execute("DELETE FROM public.words WHERE word = $1", second)
        await connection.execute(f'UPDATE public.words SET "{column}" = $1 WHERE word = $2', third, first)
        await site.succeeded(connection, await site.fire())
        assert _held(lake) == {first: third, third: third}

        await connection.execute("ALTER TABLE public.words RENAME TO gone")
        row = await site.finished(connection, await site.fire())
        assert row["state"] == "FAILED"
        await daemon.wait_for_event("entity out of order")
        row = await site.finished(connection, await site.fire())
        assert row["reason"] == "ENTITY_OUT_OF_ORDER"
        assert "\\u2603" in row["message"]
        assert "Traceback" not in daemon.text
        assert await daemon.stop() == 0
    finally:
        site.close()
        await connection.close()
        await server.drop_database(name)


def _held(lake: Path) -> dict[str, str | None]:
    bucket = DeliveredFiles.of(lake)
    bucket.assert_whole()
    return {key[0]: row["text"] for key, row in bucket.replayed()["WORDS"].items()}


async def test_a_file_that_names_what_the_database_cannot_hold_is_told_so(site: Site) -> None:
    """That is for the file: no waiting helps."""
    server = site.database.server
    administrator = await site.database.connect()
    await administrator.execute(
        "CREATE DATABASE in_koi TEMPLATE template0 ENCODING 'KOI8R' LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    site.dsn = server.dsn("in_koi")
    site.configure(CATALOG.format(column="x"), {"destination": [destination("☃", site.destination())]})
    try:
        outcome = await site.quickly("run")
        assert outcome.returncode == 2, outcome.stderr
        assert "KOI8R" in outcome.stderr
        assert "Traceback" not in outcome.stderr
    finally:
        await server.drop_database("in_koi")
