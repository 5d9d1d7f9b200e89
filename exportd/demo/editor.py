"""Makes one change of a given kind on the demo's tables, inside the caller's transaction.

Everything that varies (the record, its new key and text, the time) comes from the caller's ``Random``, so that the same
seed makes the same changes to the same tables. Records are picked from a random position in the order of their keys;
those that another transaction has locked are skipped.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from importlib import resources
from random import Random
from uuid import UUID

from exportd.database import queries
from exportd.database.connector import Connection
from exportd.demo.generator import Value, bind

_CHANGES = queries.parse(
    (resources.files(__package__) / "changes.sql").read_text(encoding="utf-8"), source="changes.sql"
)
_INSERTS = (_CHANGES["write_bill"], _CHANGES["write_bill"], _CHANGES["open_account"], _CHANGES["launch_product"])
_UPSERTS = (_CHANGES["import_accounts"], _CHANGES["import_transaction_types"], _CHANGES["reprice"])

# What is edited in each table, beside its version and time.
_EDITED: Mapping[str, str] = {
    "account_plans": "code = $2",
    "accounts": "name = $2",
    "aggregations": "name = $2",
    "balance_transactions": "description = $2",
    "balances": "description = $2",
    "bill_line_items": "description = $2",
    "bills": "purchase_order_number = $2",
    "charges": "notes = $2",
    "commitments": "overage_description = $2",
    "compound_aggregations": "name = $2",
    "contracts": "description = $2",
    "meters": "custom_fields = jsonb_build_object('remark', $2::text)",
    "plan_group_links": "last_modified_by = md5($2)::uuid",
    "plan_groups": "name = $2",
    "plan_templates": "standing_charge_description = $2",
    "plans": "standing_charge_description = nullif($2, '')",
    "pricing": "segment_string = $2",
    "pricing_bands": "unit_price = unit_price + length($2) * 0.000001",
    "products": "custom_fields = jsonb_build_object('remark', $2::text)",
    "transaction_types": "archived = (length($2) % 2 = 0)",
}
_LEAVES = ("account_plans", "balance_transactions", "bill_line_items", "charges", "commitments", "plan_group_links",
           "pricing_bands")  # fmt: skip
_BRANCHES = ("bills", "bills", "balances", "contracts", "plan_groups", "pricing", "accounts", "products")
_MOVABLE = ("account_plans", "balance_transactions", "bills", "charges", "commitments", "contracts", "plan_group_links")
_REKEYABLE = ("bills", "plan_groups", "bill_line_items", "account_plans", "balance_transactions", "plan_group_links",
              "pricing_bands")  # fmt: skip
_UNREFERENCED = ("account_plans", "balance_transactions", "plan_group_links", "pricing_bands")

_TEXTS = ("plain", "one, two", 'the "best"', "line\nbreak", "carriage\r\nreturn", "tab\there", "l'été", "", " padded ",
          "日本語", "🙂", "\\N", "NULL", "back\\slash", "\x01\x02\x1f", "=1+1", "{}", "x" * 300)  # fmt: skip

_TRIES = 6
_START = datetime(2026, 1, 1, tzinfo=UTC)


class Action(StrEnum):
    """The kinds of changes."""

    INSERT = "INSERT"
    UPDATE = "UPDATE"
    UPDATE_MANY = "UPDATE_MANY"
    UPDATE_NOTHING = "UPDATE_NOTHING"
    """An update that sets what is already there."""
    UPSERT = "UPSERT"
    DELETE = "DELETE"
    CASCADE = "CASCADE"
    """A delete that takes other records along, or is forgotten by them."""
    MOVE = "MOVE"
    """A record goes to another organization."""
    REKEY = "REKEY"
    """A record gets another key; or the key of one just deleted."""
    REPLACE = "REPLACE"
    """A record is deleted and inserted again under its key, in one transaction."""
    PASSING = "PASSING"
    """A record is inserted and deleted in one transaction."""
    SAVEPOINT = "SAVEPOINT"
    """One of the other changes below a savepoint, which is rolled back or released."""
    ROLLBACK = "ROLLBACK"
    """Some of the other changes in a transaction that is rolled back."""


class Editor:
    """Changes the demo's records of ``organizations`` through a connection."""

    def __init__(self, connection: Connection, random: Random, organizations: Sequence[str]) -> None:
        self._connection = connection
        self._random = random
        self._organizations = organizations
        self._time = _START
        self._changes: Mapping[Action, Callable[[], Awaitable[bool]]] = {
            Action.INSERT: partial(self._run_one_of, _INSERTS),
            Action.UPDATE: partial(self._update, 1),
            Action.UPDATE_MANY: self._update_many,
            Action.UPDATE_NOTHING: self._update_nothing,
            Action.UPSERT: partial(self._run_one_of, _UPSERTS),
            Action.DELETE: self._delete_leaves,
            Action.CASCADE: self._delete_branch,
            Action.MOVE: self._move,
            Action.REKEY: self._rekey,
            Action.REPLACE: self._replace,
            Action.PASSING: self._pass,
        }

    async def perform(self, action: Action) -> bool:
        """Makes a change of this kind; False when no record was found for it in a few tables."""
        make = self._changes.get(action)
        if make is None:
            raise ValueError(f"{action} controls transactions, which only the changer does")
        for _ in range(_TRIES):
            if await make():
                return True
        return False

    async def _run_one_of(self, statements: Sequence[str]) -> bool:
        return await self._run(self._random.choice(statements)) > 0

    async def _update_many(self) -> bool:
        return await self._update(self._random.randint(2, 60))

    async def _delete_leaves(self) -> bool:
        return await self._delete(self._random.choice(_LEAVES), self._random.choice((1, 1, 2, 5)))

    async def _delete_branch(self) -> bool:
        table = self._random.choice(_BRANCHES)
        if table == "products":
            return await self._run(_CHANGES["withdraw_product"]) > 0
        return await self._delete(table, 1)

    async def _update(self, limit: int) -> bool:
        table = self._random.choice(tuple(_EDITED))
        keys = await self._pick(table, limit)
        time = "" if table == "pricing_bands" else ", dt_last_modified = $3"
        arguments = (keys, self._text(), self._now())[: 2 if table == "pricing_bands" else 3]
        statement = f"UPDATE public.{table} SET version = version + 1, {_EDITED[table]}{time} WHERE id = ANY ($1)"
        return await self._execute(statement, *arguments) > 0

    async def _update_nothing(self) -> bool:
        table = self._random.choice(tuple(_EDITED))
        keys = await self._pick(table, 3)
        return await self._execute(f"UPDATE public.{table} SET version = version WHERE id = ANY ($1)", keys) > 0

    async def _delete(self, table: str, limit: int) -> bool:
        keys = await self._pick(table, limit)
        return await self._execute(f"DELETE FROM public.{table} WHERE id = ANY ($1)", keys) > 0

    async def _move(self) -> bool:
        table = self._random.choice(_MOVABLE)
        keys = await self._pick(table, self._random.choice((1, 1, 3)))
        organization = self._random.choice(self._organizations)
        moved = await self._execute(
            f"UPDATE public.{table} SET organization_id = $2, version = version + 1"
            " WHERE id = ANY ($1) AND organization_id <> $2",
            keys,
            organization,
        )
        if table == "bills":
            await self._execute(
                "UPDATE public.bill_line_items SET organization_id = $2 WHERE bill_id = ANY ($1)", keys, organization
            )
        return moved > 0

    async def _rekey(self) -> bool:
        if self._random.random() < 0.5:
            table = self._random.choice(_REKEYABLE)
            keys, new_key = await self._pick(table, 1), self._key()
        else:
            table = self._random.choice(_UNREFERENCED)
            keys = await self._pick(table, 2)
            if len(keys) < 2:
                return False
            new_key = keys.pop()
            await self._execute(f"DELETE FROM public.{table} WHERE id = $1", new_key)
        statement = f"UPDATE public.{table} SET id = $2, version = version + 1 WHERE id = ANY ($1)"
        return await self._execute(statement, keys, new_key) > 0

    async def _replace(self) -> bool:
        table = self._random.choice(_UNREFERENCED)
        keys = await self._pick(table, 2)
        statement = (
            f"WITH gone AS (DELETE FROM public.{table} WHERE id = ANY ($1) RETURNING *)"
            f" INSERT INTO public.{table} SELECT * FROM gone"
        )
        return await self._execute(statement, keys) > 0

    async def _pass(self) -> bool:
        key = self._key()
        await self._run(_CHANGES["write_bill"], key=key)
        return await self._execute("DELETE FROM public.bills WHERE id = $1", key) > 0

    async def _run(self, statement: str, *, key: UUID | None = None) -> int:
        values: dict[str, Value] = {
            "id": key or self._key(),
            "organization": self._random.choice(self._organizations),
            "near": self._key(),
            "at": self._now(),
            "text": self._text(),
            "number": self._random.randint(1, 8),
        }
        text, arguments = bind(statement, values)
        done = await self._execute(text, *arguments)
        if not done and ":near" in statement:
            # No record from there to the end of the keys, so begin with the first.
            text, arguments = bind(statement, {**values, "near": UUID(int=0)})
            done = await self._execute(text, *arguments)
        return done

    async def _pick(self, table: str, limit: int) -> list[UUID]:
        """The keys of at most ``limit`` records that follow each other in the order of keys; they are locked now."""
        statement = f"SELECT id FROM public.{table} WHERE id >= $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED"
        near = self._key()
        found = await self._connection.fetch(statement, near, limit)
        if not found:
            found = await self._connection.fetch(statement, UUID(int=0), limit)
        return [row["id"] for row in found]

    async def _execute(self, statement: str, *arguments: object) -> int:
        """How many rows the statement changed."""
        status = await self._connection.execute(statement, *arguments)
        return int(status.rpartition(" ")[2])

    def _key(self) -> UUID:
        return UUID(int=self._random.getrandbits(128), version=4)

    def _text(self) -> str:
        return self._random.choice(_TEXTS)

    def _now(self) -> datetime:
        self._time += timedelta(microseconds=self._random.randint(1, 5_000_000))
        return self._time
