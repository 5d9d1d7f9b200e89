"""Keys that their type calls equal, but that are spelled differently, are two keys to readers of the files."""

from exportd.model.entity import OrganizationId
from tests.fixtures.postgres import Database
from tests.fixtures.snapshot_exports import Exporter, Schedule, entity


async def test_a_number_may_be_spelled_anew(database: Database) -> None:
    connection = await database.connect()
    await connection.execute(
        "CREATE TABLE public.thing (id numeric PRIMARY KEY); INSERT INTO public.thing VALUES (1), (2), (3)"
    )
    exporter = Exporter(database.dsn, [entity("THING", "thing", key=["id"], tenant=None, fields=["id"])])
    await exporter.install()
    schedule = Schedule(OrganizationId("o"))
    await exporter.run(schedule)
    await connection.execute("UPDATE public.thing SET id = 1.0 WHERE id = 1; UPDATE public.thing SET id = id * 1.0")
    content = (await exporter.run(schedule))["THING"].content
    assert sorted(content.split()) == [
        b"1,true",
        b"1.0,true",
        b"1.00,false",
        b"2,true",
        b"2.0,false",
        b"3,true",
        b"3.0,false",
    ]
