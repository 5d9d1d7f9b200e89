"""Fills the demo's tables with believable records of any number, the same for the same seed.

The records are made by the server, from their numbers (``data.sql``); nothing travels but a few hundred keys. Foreign
keys and indexes are put aside meanwhile and made again at the end, which checks them at once instead of row by row.
"""

import hashlib
from collections.abc import Callable, Mapping
from importlib import resources
from uuid import UUID

from exportd.database import queries
from exportd.database.connector import Connection
from exportd.demo.key_keeper import unguarded
from exportd.demo.named_parameters import Value, bind
from exportd.demo.proportions import SHARES, counts
from exportd.model.entity import EntityCode, OrganizationId

Progress = Callable[[str, int], None]
"""Told which table is being filled and how many rows all tables have so far."""

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
"""The small entities that others refer to: their keys are handed over as arrays, by number."""

_PRODUCTS = tuple(
    first + second
    for second in (" Cloud", " Engine", ' "Pro"', ", hosted", " Überall")
    for first in ("Compute", "Storage", "Streaming", "Analytics", "Messaging", "Identity", "Edge", "Search")
)
_USERS = 12
_BILLS_PER_ACCOUNT = 24


async def fill(
    connection: Connection,
    *,
    rows: int,
    organizations: int = 3,
    seed: int = 1,
    progress: Progress | None = None,
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
    progress: Progress | None = None,
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


async def _insert(
    connection: Connection,
    plan: Mapping[OrganizationId, Mapping[EntityCode, int]],
    *,
    seed: str,
    progress: Progress | None,
) -> dict[EntityCode, int]:
    done: dict[EntityCode, int] = {}
    parameters = {each: _parameters(each, plan[each], seed=seed) for each in plan}
    codes = [code for code in SHARES if any(code in each for each in plan.values())]
    async with connection.transaction():
        await connection.execute("SELECT set_config('TimeZone', 'UTC', true)")
        await connection.execute(_FUNCTIONS)
        async with unguarded(connection, [f"public.{code.lower()}" for code in codes]):
            for code in codes:
                if progress is not None:
                    progress(code.lower(), sum(done.values()))
                for organization, values in parameters.items():
                    salt = _number(seed, organization, code)
                    statement, arguments = bind(_STATEMENTS[code], {**values, "salt": salt})
                    await connection.execute(statement, *arguments)
                    done[code] = done.get(code, 0) + plan[organization][code]
    return done


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
