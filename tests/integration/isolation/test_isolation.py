"""No organization ever gets a byte of another's records, however records change hands."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from exportd.database.connector import Connection
from exportd.model.entity import OrganizationId
from exportd.model.errors import AloneError, PermanentError
from exportd.model.schedule import ExportFormat
from tests.fixtures.postgres import Database
from tests.fixtures.snapshot_exports import Export, Exporter, Schedule, entity

pytestmark = pytest.mark.every_postgres

_NAMES: dict[str, Sequence[str]] = {
    "text": [
        "o'brien",
        "o''brien",
        "back\\slash",
        "back\\\\slash",
        "\\' OR true --",
        "' OR true --",
        "%",
        "100%",
        "1__",
        'quo"te',
        "$1",
        "{}",
        " a",
        "a",
        "A",
        "ünï 😀",
    ],
    "varchar(40)": ["%", "o'brien", "a\tb\nc"],
    "integer": ["1", "11", "-1", "0"],
    "bigint": ["1", "9223372036854775807"],
    "uuid": [f"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a{ending}" for ending in ("11", "12", "13")],
    "public.flavour": ["sweet", "so'ur", "%"],
    "public.code": ["x'", "x%", "x\\"],
}
_TYPES = """
CREATE TYPE public.flavour AS ENUM ('sweet', 'so''ur', '%');
CREATE DOMAIN public.code AS text CHECK (VALUE LIKE 'x%');
"""

_PLAIN = """
CREATE TABLE public.record (id int PRIMARY KEY DEFERRABLE, org {type}, secret text);
"""
_PARTITIONED = """
CREATE TABLE public.record (id int, org {type}, secret text, PRIMARY KEY (org, id)) PARTITION BY LIST (org);
CREATE TABLE public.record_first PARTITION OF public.record FOR VALUES IN ({first});
CREATE TABLE public.record_rest (secret text, org {type} NOT NULL, junk int, id int NOT NULL);
ALTER TABLE public.record_rest DROP junk;
ALTER TABLE public.record ATTACH PARTITION public.record_rest DEFAULT;
"""

_SECRET = "(SELECT 'secret-' || t.number || '-' FROM public.tenant AS t WHERE t.org IS NOT DISTINCT FROM {org})"
_WINDOWS = 6
_KEYS = 24


@dataclass
class Held:
    """An organization's schedule, and what it has made of its files."""

    schedule: Schedule
    records: dict[str, Any]


@pytest.mark.parametrize("layout", [_PLAIN, _PARTITIONED], ids=["plain", "partitioned"])
@pytest.mark.parametrize("tenant_type", list(_NAMES))
async def test_no_byte_of_another_organization(database: Database, layout: str, tenant_type: str) -> None:
    names = _NAMES[tenant_type]
    connection = await database.connect()
    await _create_tables(connection, layout, tenant_type, names)
    partitioned = layout is _PARTITIONED
    key = ["org", "id"] if partitioned else ["id"]
    exporter = Exporter(
        database.dsn, [entity("RECORD", "record", key=key, tenant="org", fields=["id", "org", "secret"])]
    )
    await exporter.install()
    chance = random.Random(f"{tenant_type} {partitioned}")
    held = {name: Held(Schedule(OrganizationId(name)), {}) for name in names}
    deletions = 0
    for window in range(_WINDOWS):
        await _change_hands(connection, chance, names, nullable=not partitioned)
        exports = await _exported(exporter, held, window)
        for number, (name, its) in enumerate(held.items(), start=1):
            exported = exports[name]["RECORD"]
            seen = set(re.findall(rb"secret-\d+-", exported.content))
            assert seen <= {f"secret-{number}-".encode()}, f"{name} got {seen} in window {window}"
            deletions += exported.deletions
            if exported.window.full_reason:
                its.records.clear()
            for record in exported.records(exporter.entities[0]):
                assert record["org"] == name
                its.records[record["id"]] = record
                if str(record["deleted"]).lower() == "true":
                    del its.records[record["id"]]
            there = await connection.fetch("SELECT id::text FROM public.record WHERE org::text = $1", name)
            assert its.records.keys() == {row["id"] for row in there}, f"{name} in window {window}"
    assert deletions > 0
    assert any(its.records for its in held.values())


async def _exported(exporter: Exporter, held: Mapping[str, Held], window: int) -> dict[str, Export]:
    """What each organization gets: in one snapshot for all of them, or, every other time, each by itself."""
    formats = [list(ExportFormat)[(window + number) % 2] for number in range(len(held))]
    schedules = [its.schedule for its in held.values()]
    if window % 2:
        return dict(zip(held, [await exporter.run(*one) for one in zip(schedules, formats, strict=True)], strict=True))
    exports: dict[str, Export] = {}
    together = await exporter.run_together(schedules, formats, [None] * len(held))
    for name, schedule, chosen, found in zip(held, schedules, formats, together, strict=True):
        if isinstance(found, Export):
            exports[name] = found
        else:
            assert isinstance(found, AloneError), found
            exports[name] = await exporter.run(schedule, chosen)
            assert exports[name]["RECORD"].window.full_reason, "only a complete run has to be read by itself"
    return exports


async def test_an_organization_that_cannot_be_a_tenant_gets_an_error_and_nothing_else(
    database: Database,
) -> None:
    connection = await database.connect()
    await _create_tables(connection, _PLAIN, "integer", ["1"])
    exporter = Exporter(
        database.dsn, [entity("RECORD", "record", key=["id"], tenant="org", fields=["id", "org", "secret"])]
    )
    await exporter.install()
    for name in ("one", "1 OR true", "1e0", ""):
        with pytest.RaisesGroup(PermanentError, flatten_subgroups=True, allow_unwrapped=True):
            await exporter.run(Schedule(OrganizationId(name)))


async def _create_tables(connection: Connection, layout: str, tenant_type: str, names: Sequence[str]) -> None:
    first = "'" + names[0].replace("'", "''") + "'"
    await connection.execute(_TYPES + layout.format(type=tenant_type, first=first))
    await connection.execute(f"CREATE TABLE public.tenant (number int, org {tenant_type})")
    for number, name in enumerate([None, *names]):
        await connection.execute(f"INSERT INTO public.tenant VALUES ($1, $2::text::{tenant_type})", number, name)


async def _change_hands(connection: Connection, chance: random.Random, names: Sequence[str], *, nullable: bool) -> None:
    """A few transactions in which records come, go, and pass from one organization to another, and back."""
    last = len(names)
    for _ in range(12):
        async with connection.transaction(isolation=chance.choice(("read_committed", "repeatable_read"))):
            for _ in range(chance.randint(1, 4)):
                one, other = (chance.randint(0 if nullable else 1, last) for _ in range(2))
                await chance.choice(_CHANGES)(connection, chance, one, other)
        if chance.random() < 0.05:
            async with connection.transaction(isolation=chance.choice(("read_committed", "serializable"))):
                await connection.execute("TRUNCATE public.record")


def _org(parameter: str) -> str:
    return f"(SELECT t.org FROM public.tenant AS t WHERE t.number = {parameter})"


def _keys(chance: random.Random) -> list[int]:
    return chance.sample(range(_KEYS), chance.choice((1, 1, 3, 8)))


async def _insert(connection: Connection, chance: random.Random, one: int, _: int) -> None:
    await connection.execute(
        f"""INSERT INTO public.record (id, org, secret)
        SELECT i, {_org("$2")}, {_SECRET.format(org=_org("$2"))} FROM unnest($1::int[]) AS i
        WHERE NOT EXISTS (SELECT FROM public.record AS r WHERE r.id = i)""",
        _keys(chance),
        one,
    )


async def _move(connection: Connection, chance: random.Random, one: int, _: int) -> None:
    await connection.execute(
        f"""UPDATE public.record SET org = {_org("$2")}, secret = {_SECRET.format(org=_org("$2"))}
        WHERE id = ANY ($1::int[])""",
        _keys(chance),
        one,
    )


async def _there_and_back(connection: Connection, chance: random.Random, one: int, other: int) -> None:
    state = chance.getstate()
    for organization in (one, other, one):
        chance.setstate(state)
        await _move(connection, chance, organization, organization)


async def _swap(connection: Connection, _chance: random.Random, one: int, other: int) -> None:
    """Two organizations exchange all that they have, in one statement."""
    new = f"CASE WHEN r.org IS NOT DISTINCT FROM {_org('$1')} THEN {_org('$2')} ELSE {_org('$1')} END"
    await connection.execute(
        f"""UPDATE public.record AS r SET org = {new}, secret = {_SECRET.format(org=new)}
        WHERE r.org IS NOT DISTINCT FROM {_org("$1")} OR r.org IS NOT DISTINCT FROM {_org("$2")}""",
        one,
        other,
    )


async def _replace(connection: Connection, chance: random.Random, one: int, _: int) -> None:
    """A key that one organization gave up is taken by another."""
    state = chance.getstate()
    await connection.execute("DELETE FROM public.record WHERE id = ANY ($1::int[])", _keys(chance))
    chance.setstate(state)
    await _insert(connection, chance, one, one)


async def _merge(connection: Connection, chance: random.Random, one: int, _: int) -> None:
    await connection.execute(
        f"""MERGE INTO public.record AS r
        USING (
            SELECT i, {_org("$2")} AS org, {_SECRET.format(org=_org("$2"))} AS secret FROM unnest($1::int[]) AS i
        ) AS s ON r.id = s.i
        WHEN MATCHED AND r.id % 4 = 0 THEN DELETE
        WHEN MATCHED THEN UPDATE SET org = s.org, secret = s.secret
        WHEN NOT MATCHED THEN INSERT (id, org, secret) VALUES (s.i, s.org, s.secret)""",
        _keys(chance),
        one,
    )


_CHANGES = (_insert, _insert, _insert, _move, _move, _there_and_back, _swap, _replace, _merge)
