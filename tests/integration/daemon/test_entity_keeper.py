"""What the daemon knows of the entities' tables between two looks."""

import anyio
import pytest

from exportd.capture.installer import CaptureInstaller
from exportd.catalog.document import Catalog
from exportd.daemon.current import Configuration, Current
from exportd.daemon.entity_keeper import EntityKeeper
from exportd.database.connector import Connector
from exportd.model.entity import Entity
from tests.fixtures.fake_clock import START, FakeClock
from tests.fixtures.postgres import Database
from tests.fixtures.settings import settings_with
from tests.fixtures.snapshot_exports import entity

TABLES = """
    CREATE TABLE public.things (id bigint PRIMARY KEY);
    CREATE TABLE public.fresh (id bigint PRIMARY KEY);
    CREATE TABLE public.parts (id bigint PRIMARY KEY) PARTITION BY RANGE (id);
    CREATE TABLE public.parts_1 PARTITION OF public.parts FOR VALUES FROM (1) TO (1000);
    CREATE TABLE public.parts_2 PARTITION OF public.parts FOR VALUES FROM (1000) TO (2000);
    CREATE TABLE public.parts_3 PARTITION OF public.parts FOR VALUES FROM (2000) TO (3000);
    INSERT INTO public.things SELECT generate_series(1, 700);
    INSERT INTO public.fresh SELECT generate_series(1, 700);
    INSERT INTO public.parts SELECT generate_series(1, 1500);
    ANALYZE public.things, public.parts_1, public.parts_2;
"""


pytestmark = pytest.mark.every_postgres


def _keeper(connector: Connector, *entities: Entity) -> EntityKeeper:
    catalog = Catalog({entity.code: entity for entity in entities})
    keeper = EntityKeeper(connector, Current(Configuration(settings_with(), catalog, catalog)), FakeClock())

    async def adopt(_before: Configuration, _catalog: Catalog) -> bool:
        return True

    keeper.adopt = adopt
    return keeper


async def test_the_rows_and_the_capture_of_each_table_are_known_after_a_look(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await database.connect()
    await connection.execute(TABLES)
    looker = f"looker_{database.name}"
    await connection.execute(f"CREATE ROLE {looker} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {looker}")
    connector = Connector(database.dsn, reader_dsn=database.server.dsn(database.name, user=looker))
    things, fresh, parts = [
        entity(name.upper(), name, key=["id"], tenant=None, fields=["id"]) for name in ("things", "fresh", "parts")
    ]
    keeper = _keeper(connector, things, fresh, parts)
    assert keeper.standings == {}, "before the first look"

    async def seen() -> dict[str, tuple[int | None, str | None]]:
        await keeper.look()
        assert {standing.looked_at for standing in keeper.standings.values()} == {START}
        return {code: (standing.rows, standing.capture) for code, standing in keeper.standings.items()}

    assert await seen() == {"THINGS": (700, "NONE"), "FRESH": (None, "NONE"), "PARTS": (1500, "NONE")}
    await CaptureInstaller(connector, pause=anyio.sleep).install([things, parts])
    assert await seen() == {"THINGS": (700, "WHOLE"), "FRESH": (None, "NONE"), "PARTS": (1500, "WHOLE")}
    await connection.execute("ALTER TABLE public.things DISABLE TRIGGER USER")
    await connection.execute("INSERT INTO public.things SELECT generate_series(701, 800)")
    await connection.execute("ANALYZE public.things")
    assert (await seen())["THINGS"] == (800, "DAMAGED")

    def unread(*_: object) -> None:
        raise AssertionError("nothing has changed in the catalog: the tables are not looked at one by one")

    monkeypatch.setattr("exportd.daemon.entity_keeper.read_shapes", unread)
    assert (await seen())["THINGS"] == (800, "DAMAGED")
