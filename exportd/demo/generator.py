"""Creates the demo's tables and fills them with any number of believable records, the same for the same seed.

The server makes the records from their numbers (``data.sql``); only a few hundred keys are sent to it. Foreign keys
and indexes are dropped while the tables are filled and created again at the end, which checks all rows at once instead
of one by one.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from importlib import resources
from uuid import UUID

from exportd.database import queries
from exportd.database.connector import Connection
from exportd.demo.proportions import SHARES, counts
from exportd.model.entity import EntityCode, OrganizationId

FillProgress = Callable[[str, int], None]
"""Called with the table that is filled next and the number of rows in all tables so far."""

Value = int | str | UUID | datetime | Sequence[UUID] | Sequence[str]
"""A value of a statement's parameter."""

_SCHEMA = (resources.files(__package__) / "schema.sql").read_text(encoding="utf-8")
_DATA = queries.parse((resources.files(__package__) / "data.sql").read_text(encoding="utf-8"), source="data.sql")
_FUNCTIONS = _DATA["functions"]
_STATEMENTS = {code: _DATA[code.lower()] for code in SHARES}

_ACCOUNTS, _BILLS = EntityCode("ACCOUNTS"), EntityCode("BILLS")
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
_BILLS_PER_ACCOUNT = 24

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


async def create_tables(connection: Connection) -> None:
    """Creates the 20 tables of ``schema.sql``, all or none; fails when one of them exists."""
    async with connection.transaction():
        path = await connection.fetchval("SELECT current_setting('search_path')")
        await connection.execute("SET LOCAL search_path = public")
        await connection.execute(_SCHEMA)
        # The caller may be inside a transaction of its own.
        await connection.execute("SELECT set_config('search_path', $1, true)", path)


async def fill(
    connection: Connection,
    *,
    rows: int,
    organizations: int = 3,
    seed: int = 1,
    progress: FillProgress | None = None,
) -> dict[EntityCode, int]:
    """Adds ``rows`` records to the tables, in one transaction, and returns how many of each entity.

    The same rows, organizations and seed make the same bytes. A second call on the same tables needs another seed.
    Raises ValueError when there are too few rows for one of each entity in each organization.
    """
    plan = counts(rows=rows, organizations=organizations)
    return await _insert(connection, plan, seed=str(seed), progress=progress)


async def fill_bills(
    connection: Connection,
    *,
    rows: int,
    organizations: int = 1,
    seed: int = 1,
    progress: FillProgress | None = None,
) -> dict[EntityCode, int]:
    """Adds ``rows`` bills and the accounts that they need (one for every 24), for benchmarks.

    The tables may hold what ``fill`` made, also with the same seed.
    """
    ids = list(counts(rows=len(SHARES) * organizations, organizations=organizations))
    plan = {}
    for place, organization in enumerate(ids):
        bills = rows // organizations + (place < rows % organizations)
        plan[organization] = {_ACCOUNTS: bills // _BILLS_PER_ACCOUNT + 1, _BILLS: bills}
    return await _insert(connection, plan, seed=f"bills-{seed}", progress=progress)


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


async def _insert(
    connection: Connection,
    plan: Mapping[OrganizationId, Mapping[EntityCode, int]],
    *,
    seed: str,
    progress: FillProgress | None,
) -> dict[EntityCode, int]:
    done: dict[EntityCode, int] = {}
    parameters = {organization: _parameters(organization, sizes, seed=seed) for organization, sizes in plan.items()}
    codes = [code for code in SHARES if any(code in sizes for sizes in plan.values())]
    async with connection.transaction():
        await connection.execute("SELECT set_config('TimeZone', 'UTC', true)")
        await connection.execute(_FUNCTIONS)
        async with _without_keys(connection, [f"public.{code.lower()}" for code in codes]):
            for code in codes:
                if progress is not None:
                    progress(code.lower(), sum(done.values()))
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
