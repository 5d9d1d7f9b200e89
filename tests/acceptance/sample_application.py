"""The application whose tables are exported: three tables, and random changes to them."""

from random import Random

import asyncpg

Connection = "asyncpg.Connection[asyncpg.Record]"
Row = dict[str, str | None]
Key = tuple[str, ...]
Contents = dict[str, dict[Key, Row]]
"""By entity and key: what an organization's consumer should hold, every value as text."""

ORGANIZATION = "org-1"

TABLES = """
    CREATE TABLE public.accounts (
        id bigint PRIMARY KEY, organization_id text NOT NULL, name text, balance numeric(12, 2), note text
    );
    CREATE TABLE public.orders (
        number text PRIMARY KEY, organization_id text NOT NULL,
        account_id bigint NOT NULL REFERENCES public.accounts ON DELETE CASCADE, placed_on date, paid boolean
    );
    CREATE INDEX ON public.orders (account_id);
    CREATE TABLE public.countries (code text PRIMARY KEY, label text);
"""

CATALOG = """
[[entity]]
code = "ACCOUNTS"
label = "Accounts"
type_token = "account"
table = "public.accounts"
key = ["id"]
tenant = "organization_id"
fields = ["id", "name", "balance", "note"]

[[entity]]
code = "ORDERS"
label = "Orders"
type_token = "order"
table = "public.orders"
key = ["number"]
tenant = "organization_id"
fields = ["number", "accountId", "placedOn", "paid"]

[[entity]]
code = "COUNTRIES"
label = "Countries"
type_token = "country"
table = "public.countries"
key = ["code"]
tenant = false
fields = ["code", "label"]
"""

BLOCKABLE_CATALOG = CATALOG.replace(
    '"id", "name"', '"id", { name = "name", expression = "public.wait_while_blocked(name)" }'
)
"""The same, but reading a record waits while ``statement_blocker`` blocks it."""

ENTITIES = ("ACCOUNTS", "ORDERS", "COUNTRIES")

_CONTENTS = {
    "ACCOUNTS": """SELECT id::text AS id, name, balance::text AS balance, note
                   FROM public.accounts WHERE organization_id = $1""",
    "ORDERS": """SELECT number, account_id::text AS "accountId", to_char(placed_on, 'YYYY-MM-DD') AS "placedOn",
                        paid::text AS paid
                 FROM public.orders WHERE organization_id = $1""",
    "COUNTRIES": "SELECT code, label FROM public.countries WHERE $1::text IS NOT NULL",
}

AWKWARD = (
    None,
    "",
    "plain",
    'with "quotes", commas',
    "two\nlines",
    "\r\n",
    "NULL",
    "\\N",
    "naïve – ☃ 🧊",
    " spaces ",
    "{}",
    "'",
)


async def contents_of(connection: "asyncpg.Connection[asyncpg.Record]", organization: str) -> Contents:
    """What the tables hold for an organization."""
    found: Contents = {}
    for entity, query in _CONTENTS.items():
        rows = await connection.fetch(query, organization)
        found[entity] = {(row[0],): dict(row.items()) for row in rows}
    return found


class Application:
    """Changes the tables through a connection; the same seed makes the same changes."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]", seed: int = 1) -> None:
        self.connection = connection
        self._random = Random(seed)
        self._next = 1

    async def open(self, *, accounts: int = 40) -> None:
        """Make the tables, with something in them, also of another organization."""
        await self.connection.execute(TABLES)
        await self.connection.execute("INSERT INTO public.countries VALUES ('CH', 'Schweiz'), ('FR', NULL), ('IN', '')")
        async with self.connection.transaction():
            for _ in range(accounts):
                await self.add_account()
            await self.connection.execute(
                "INSERT INTO public.accounts SELECT -n, 'org-2', 'another''s ' || n FROM generate_series(1, 9) n"
            )

    async def fill(self, accounts: int, *, note_bytes: int = 400) -> None:
        """Add many accounts at once, with notes that do not compress well."""
        first, self._next = self._next, self._next + accounts
        await self.connection.execute(
            """INSERT INTO public.accounts
               SELECT n, $3, 'bulk ' || n, n, (SELECT string_agg(md5((n * 100 + m)::text), '')
                                               FROM generate_series(1, $4 / 32) m)
               FROM generate_series($1::bigint, $2) n""",
            first,
            self._next - 1,
            ORGANIZATION,
            note_bytes,
        )

    async def add_account(self) -> int:
        number, self._next = self._next, self._next + 1
        await self.connection.execute(
            "INSERT INTO public.accounts VALUES ($1, $2, $3, $4::text::numeric, $5)",
            number,
            ORGANIZATION,
            f"account {number}",
            str(self._random.randrange(10**6) / 100),
            self._random.choice(AWKWARD),
        )
        for index in range(self._random.randrange(3)):
            await self.connection.execute(
                """INSERT INTO public.orders
                   VALUES ($1, $2, $3, DATE '2026-01-01' + $4::integer, $5)""",
                f"{number}-{index}",
                ORGANIZATION,
                number,
                self._random.randrange(365),
                self._random.choice((True, False, None)),
            )
        return number

    async def change(self, times: int = 12) -> None:
        """Insert, update and delete, in transactions of several changes; some are rolled back."""
        for _ in range(times):
            transaction = self.connection.transaction()
            await transaction.start()
            for _ in range(self._random.randrange(1, 4)):
                await self._change_one()
            if self._random.random() < 0.15:
                await transaction.rollback()
            else:
                await transaction.commit()

    async def contents(self) -> Contents:
        """What the tables hold for the organization."""
        return await contents_of(self.connection, ORGANIZATION)

    async def _change_one(self) -> None:
        account = await self.connection.fetchval(
            "SELECT id FROM public.accounts WHERE organization_id = $1 ORDER BY md5(id::text || $2) LIMIT 1",
            ORGANIZATION,
            str(self._random.random()),
        )
        match self._random.randrange(6):
            case 0 | 1:
                await self.add_account()
            case 2:
                await self.connection.execute(
                    "UPDATE public.accounts SET note = $2, balance = balance + 1 WHERE id = $1",
                    account,
                    self._random.choice(AWKWARD),
                )
            case 3:
                await self.connection.execute("DELETE FROM public.accounts WHERE id = $1", account)
            case 4:
                await self.connection.execute("UPDATE public.orders SET paid = NOT paid WHERE account_id = $1", account)
            case _:
                number, self._next = self._next, self._next + 1
                await self.connection.execute(
                    "UPDATE public.orders SET number = $2 WHERE number = (SELECT min(number) FROM public.orders"
                    " WHERE account_id = $1)",
                    account,
                    f"renamed-{number}",
                )
