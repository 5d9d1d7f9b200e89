"""Creates the demo's tables and fills them with any number of believable records, the same for the same seed.

The server makes the records from their numbers (``data.sql``); only a few hundred keys are sent to it. Foreign keys
and indexes are dropped while the tables are filled and created again at the end, which checks all rows at once instead
of one by one.

How many records of each entity there are follows from the size of the demo: a business has few products and prices and
many bills; so what it configures stops growing, and what it bills takes the rest.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from typing import TypeVar
from uuid import UUID

from exportd.database import queries
from exportd.database.connector import Connection
from exportd.model.entity import EntityCode, OrganizationId

_Key = TypeVar("_Key")

_ORGANIZATIONS = ("org-acme", "org-globex", "org-initech", "org-umbrella", "org-hooli", "org-wonka")


@dataclass(frozen=True, slots=True)
class Share:
    """An entity's part of an organization's records, relative to the others'; at most ``ceiling`` records."""

    weight: int
    ceiling: int | None = None


SHARES: Mapping[EntityCode, Share] = {
    EntityCode("PRODUCTS"): Share(2, ceiling=24),
    EntityCode("TRANSACTION_TYPES"): Share(1, ceiling=12),
    EntityCode("ACCOUNTS"): Share(30),
    EntityCode("METERS"): Share(4, ceiling=60),
    EntityCode("AGGREGATIONS"): Share(6, ceiling=150),
    EntityCode("COMPOUND_AGGREGATIONS"): Share(2, ceiling=30),
    EntityCode("PLAN_TEMPLATES"): Share(3, ceiling=60),
    EntityCode("PLANS"): Share(10, ceiling=400),
    EntityCode("PLAN_GROUPS"): Share(4, ceiling=100),
    EntityCode("PLAN_GROUP_LINKS"): Share(8, ceiling=300),
    EntityCode("PRICING"): Share(25, ceiling=2_000),
    EntityCode("PRICING_BANDS"): Share(50, ceiling=6_000),
    EntityCode("CONTRACTS"): Share(15),
    EntityCode("ACCOUNT_PLANS"): Share(40),
    EntityCode("BALANCES"): Share(20),
    EntityCode("COMMITMENTS"): Share(10),
    EntityCode("BILLS"): Share(110),
    EntityCode("CHARGES"): Share(90),
    EntityCode("BILL_LINE_ITEMS"): Share(440),
    EntityCode("BALANCE_TRANSACTIONS"): Share(100),
}
"""In an order in which every record finds those that it refers to."""


Value = int | str | UUID | datetime | Sequence[UUID] | Sequence[str]
"""A value of a statement's parameter."""

_SCHEMA = (resources.files(__package__) / "schema.sql").read_text(encoding="utf-8")
_DATA = queries.parse((resources.files(__package__) / "data.sql").read_text(encoding="utf-8"), source="data.sql")
_FUNCTIONS = _DATA["functions"]
_STATEMENTS = {code: _DATA[code.lower()] for code in SHARES}

_BILLS = EntityCode("BILLS")
_NUMBERED = (
    "PRODUCTS",
    "TRANSACTION_TYPES",
    "METERS",
    "AGGREGATIONS",
    "COMPOUND_AGGREGATIONS",
    "PLAN_TEMPLATES",
    "PLANS",
    "PLAN_GROUPS",
    "PRICING",
)
"""The small entities that others refer to: their keys are passed as arrays, by number."""

_PRODUCTS = tuple(
    first + second
    for second in (" Cloud", " Engine", ' "Pro"', ", hosted", " Überall")
    for first in ("Compute", "Storage", "Streaming", "Analytics", "Messaging", "Identity", "Edge", "Search")
)
_USERS = 12

_PARAMETER = re.compile(r"(?<![:\w]):([a-z]\w*)")

# Foreign keys first: they depend on the keys that they refer to.
_CONSTRAINTS = """
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) AS drop,
       format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) AS make
FROM pg_constraint
WHERE contype IN ('f', 'p', 'u')
  AND ($1::text[]::regclass[] @> ARRAY[conrelid::regclass] OR $1::text[]::regclass[] @> ARRAY[confrelid::regclass])
ORDER BY contype, conrelid, conname
"""

_INDEXES = """
SELECT format('DROP INDEX %s', indexrelid::regclass) AS drop, pg_get_indexdef(indexrelid) AS make
FROM pg_index
WHERE indrelid = ANY ($1::text[]::regclass[])
  AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND conrelid = indrelid)
ORDER BY indexrelid
"""


def organization_ids(count: int) -> tuple[OrganizationId, ...]:
    """The ids of the demo's organizations, the largest first."""
    named = _ORGANIZATIONS[:count]
    return tuple(map(OrganizationId, [*named, *(f"org-{n}" for n in range(len(named) + 1, count + 1))]))


def counts(*, rows: int, organizations: int) -> dict[OrganizationId, dict[EntityCode, int]]:
    """How many records of each entity each organization has: ``rows`` in all, at least one of each.

    The second organization has half as many as the first, the third a third, and so on. Raises ValueError when
    there are too few rows for that.
    """
    least = len(SHARES) * organizations
    if organizations < 1 or rows < least:
        raise ValueError(f"{organizations} organizations need {max(least, len(SHARES))} rows or more, not {rows}")
    ids = organization_ids(organizations)
    weights = {id_: 1 / place for place, id_ in enumerate(ids, start=1)}
    extra = _apportion(rows - least, weights)
    return {id_: _records(extra[id_]) for id_ in ids}


def _records(extra: int) -> dict[EntityCode, int]:
    """One record of each entity, and ``extra`` more by their shares; what is above a ceiling goes to the others."""
    result = dict.fromkeys(SHARES, 1)
    growing = dict(SHARES)
    while True:
        added = _apportion(extra, {code: share.weight for code, share in growing.items()})
        full = {code for code, share in growing.items() if share.ceiling and 1 + added[code] > share.ceiling}
        if not full:
            return {code: result[code] + added.get(code, 0) for code in SHARES}
        for code in full:
            result[code] = growing.pop(code).ceiling or 1
            extra -= result[code] - 1


def _apportion(total: int, weights: Mapping[_Key, float]) -> dict[_Key, int]:
    """Divide a total by weights; what rounding leaves over goes to the largest remainders."""
    whole = sum(weights.values())
    exact = {key: total * weight / whole for key, weight in weights.items()}
    result = {key: int(value) for key, value in exact.items()}
    left = total - sum(result.values())
    for key in sorted(exact, key=lambda key: result[key] - exact[key])[:left]:
        result[key] += 1
    return result


async def create_tables(connection: Connection) -> None:
    """Creates the 20 tables of ``schema.sql``, all or none; fails when one of them exists."""
    async with connection.transaction():
        path = await connection.fetchval("SELECT current_setting('search_path')")
        await connection.execute("SET LOCAL search_path = public")
        await connection.execute(_SCHEMA)
        # The caller may be inside a transaction of its own.
        await connection.execute("SELECT set_config('search_path', $1, true)", path)


async def fill(connection: Connection, *, rows: int, organizations: int = 3, seed: int = 1) -> dict[EntityCode, int]:
    """Adds ``rows`` records to the tables, in one transaction, and returns how many of each entity.

    The same rows, organizations and seed make the same bytes. A second call on the same tables needs another seed.
    Raises ValueError when there are too few rows for one of each entity in each organization.
    """
    return await insert(connection, counts(rows=rows, organizations=organizations), seed=str(seed))


def bind(statement: str, values: Mapping[str, Value]) -> tuple[str, list[Value]]:
    """The statement with ``$1::bigint`` instead of ``:bills``, and the values in their order; unused ones are left out.

    Raises KeyError for a parameter without a value. A colon inside a literal must not precede a lower-case letter.
    """
    order: dict[str, int] = {}

    def numbered(match: re.Match[str]) -> str:
        name = match[1]
        number = order.setdefault(name, len(order) + 1)
        return f"${number}::{_type(values[name])}"

    text = _PARAMETER.sub(numbered, statement)
    return text, [values[name] for name in order]


async def insert(
    connection: Connection, plan: Mapping[OrganizationId, Mapping[EntityCode, int]], *, seed: str
) -> dict[EntityCode, int]:
    """Adds what ``plan`` says of each organization, as ``fill`` does; returns how many records of each entity."""
    done: dict[EntityCode, int] = {}
    parameters = {organization: _parameters(organization, sizes, seed=seed) for organization, sizes in plan.items()}
    codes = [code for code in SHARES if any(code in sizes for sizes in plan.values())]
    async with connection.transaction():
        await connection.execute("SELECT set_config('TimeZone', 'UTC', true)")
        await connection.execute(_FUNCTIONS)
        async with _without_keys(connection, [f"public.{code.lower()}" for code in codes]):
            for code in codes:
                for organization, values in parameters.items():
                    salt = _number(seed, organization, code)
                    statement, arguments = bind(_STATEMENTS[code], {**values, "salt": salt})
                    await connection.execute(statement, *arguments)
                    done[code] = done.get(code, 0) + plan[organization][code]
    return done


@asynccontextmanager
async def _without_keys(connection: Connection, tables: Sequence[str]) -> AsyncIterator[None]:
    """Drops the tables' keys, the foreign keys to and from them, and their indexes, and creates them again at the end.

    That checks all rows. To be used inside a transaction: if something fails, its rollback restores them.
    """
    await connection.execute("SELECT set_config('search_path', 'pg_catalog', true)")
    dropped = [*await connection.fetch(_CONSTRAINTS, tables), *await connection.fetch(_INDEXES, tables)]
    for definition in dropped:
        await connection.execute(definition["drop"])
    yield
    await connection.execute("SELECT set_config('maintenance_work_mem', '256MB', true)")
    for definition in reversed(dropped):
        await connection.execute(definition["make"])


def _parameters(organization: OrganizationId, sizes: Mapping[EntityCode, int], *, seed: str) -> dict[str, Value]:
    prefix = f"{seed}/{organization}/"
    values: dict[str, Value] = {code.lower(): size for code, size in sizes.items()}
    for code in _NUMBERED:
        singular = code.lower().removesuffix("s")
        size = sizes.get(EntityCode(code), 0)
        values[f"{singular}_keys"] = [_key(f"{prefix}{singular}/{n}") for n in range(1, size + 1)]
    values["user_keys"] = [_key(f"{prefix}user/{n}") for n in range(1, _USERS + 1)]
    values["product_names"] = _PRODUCTS
    values["organization"] = organization
    values["prefix"] = prefix
    values["account_code"] = "AC-" if seed.isdecimal() else "BULK-"
    values["bill_salt"] = _number(seed, organization, _BILLS)
    return values


def _key(text: str) -> UUID:
    """The same as ``pg_temp.key``."""
    return UUID(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest())


def _number(*parts: str) -> int:
    """A number of 48 bits that depends on all parts."""
    return int.from_bytes(hashlib.blake2b("/".join(parts).encode(), digest_size=6).digest())


def _type(value: Value) -> str:
    match value:
        case int():
            return "bigint"
        case str():
            return "text"
        case UUID():
            return "uuid"
        case datetime():
            return "timestamptz"
        case [UUID(), *_]:
            return "uuid[]"
        case _:
            return "text[]"
