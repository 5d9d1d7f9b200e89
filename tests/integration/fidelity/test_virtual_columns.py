"""Virtual generated columns (Postgres 18) are not there when a trigger looks at a row."""

import pytest

from exportd.model.entity import Field, OrganizationId
from tests.fixtures.postgres import Database
from tests.fixtures.snapshot_exports import Exporter, Schedule, entity

_PLAIN = """
CREATE TABLE public.sale (
    id int PRIMARY KEY, net int, gross int GENERATED ALWAYS AS (net * 2) VIRTUAL, note text DEFAULT 'x'
)
"""
_PARTITIONED = """
CREATE TABLE public.sale (
    id int PRIMARY KEY, net int, gross int GENERATED ALWAYS AS (net * 2) VIRTUAL, note text DEFAULT 'x'
) PARTITION BY RANGE (id);
CREATE TABLE public.sale_all (
    note text DEFAULT 'x', gross int GENERATED ALWAYS AS (net * 2) VIRTUAL, net int, id int NOT NULL
);
ALTER TABLE public.sale ATTACH PARTITION public.sale_all FOR VALUES FROM (0) TO (100);
"""


@pytest.mark.parametrize("layout", [_PLAIN, _PARTITIONED], ids=["plain", "partitioned"])
async def test_a_table_with_a_virtual_column_can_be_written_and_exported(database: Database, layout: str) -> None:
    if database.server.version < 18:
        pytest.skip("Postgres 18 brought them")
    connection = await database.connect()
    await connection.execute(layout)
    fields: list[str | Field] = ["id", "net", "note", Field("gross", expression="net * 2")]
    exporter = Exporter(database.dsn, [entity("SALE", "sale", key=["id"], tenant=None, fields=fields)])
    await exporter.install()
    schedule = Schedule(OrganizationId("o"))
    target = "sale_all" if layout is _PARTITIONED else "sale"

    async def export() -> list[str]:
        return sorted((await exporter.run(schedule))["SALE"].content.decode().split())

    await connection.execute("INSERT INTO public.sale (id, net) VALUES (1, 5), (2, 7), (3, 9), (4, 11)")
    assert await export() == ["1,5,x,10,false", "2,7,x,14,false", "3,9,x,18,false", "4,11,x,22,false"]
    await connection.execute(f"DELETE FROM public.{target} WHERE id = 1")
    await connection.execute(f"UPDATE public.{target} SET net = 8 WHERE id = 2")
    await connection.execute("UPDATE public.sale SET id = id + 10 WHERE id >= 3")
    assert await export() == [
        "1,5,x,10,true",
        "13,9,x,18,false",
        "14,11,x,22,false",
        "2,8,x,16,false",
        "3,9,x,18,true",
        "4,11,x,22,true",
    ]
    await connection.execute(f"TRUNCATE public.{target}")
    assert await export() == ["13,9,x,18,true", "14,11,x,22,true", "2,8,x,16,true"]
    await connection.execute("DROP TABLE public.sale")
