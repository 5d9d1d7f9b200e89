"""Many organizations whose records are in the sample application's tables, and random changes among them."""

from collections.abc import Awaitable, Callable, Sequence
from random import Random

import asyncpg

from tests.acceptance.sample_application import AWKWARD, TABLES, Contents, contents_of


class Tenants:
    """Changes the tables through a connection; the same seed makes the same changes."""

    def __init__(
        self, connection: "asyncpg.Connection[asyncpg.Record]", organizations: Sequence[str], *, seed: int = 1
    ) -> None:
        self.connection = connection
        self.organizations = organizations
        self._random = Random(seed)
        self._next = 1
        self._changes: Sequence[Callable[[], Awaitable[object]]] = (
            *(self._add, self._add, self._update, self._update, self._delete, self._move, self._move),
            *(self._move_orders, self._take_over_a_key, self._rename_an_order, self._pay, self._change_a_country),
        )

    async def open(self, *, accounts: int = 6) -> None:
        """Make the tables, with a few accounts of each."""
        await self.connection.execute(TABLES)
        await self.connection.execute("INSERT INTO public.countries VALUES ('CH', 'Schweiz'), ('FR', NULL), ('IN', '')")
        async with self.connection.transaction():
            for organization in self.organizations:
                for _ in range(accounts):
                    await self._add_to(organization)

    async def touch(self) -> None:
        """Change something of each organization."""
        await self.connection.execute("UPDATE public.accounts SET balance = balance + 1")

    async def change(self, times: int = 12) -> None:
        """Records come, go, and pass from one organization to another, in transactions; some are rolled back."""
        for _ in range(times):
            transaction = self.connection.transaction()
            await transaction.start()
            for _ in range(self._random.randrange(1, 4)):
                await self._random.choice(self._changes)()
            if self._random.random() < 0.15:
                await transaction.rollback()
            else:
                await transaction.commit()

    async def contents(self, organization: str) -> Contents:
        """What the tables hold for one of them."""
        return await contents_of(self.connection, organization)

    def _organization(self) -> str:
        return self._random.choice(self.organizations)

    async def _account(self) -> int | None:
        number: int | None = await self.connection.fetchval(
            "SELECT id FROM public.accounts ORDER BY md5(id::text || $1) LIMIT 1", str(self._random.random())
        )
        return number

    async def _add(self) -> None:
        await self._add_to(self._organization())

    async def _add_to(self, organization: str, number: int | None = None) -> None:
        if number is None:
            number, self._next = self._next, self._next + 1
        await self.connection.execute(
            "INSERT INTO public.accounts VALUES ($1, $2, $3, $4::text::numeric, $5)",
            number,
            organization,
            f"account {number}",
            str(self._random.randrange(10**6) / 100),
            self._random.choice(AWKWARD),
        )
        for index in range(self._random.randrange(3)):
            await self.connection.execute(
                "INSERT INTO public.orders VALUES ($1, $2, $3, DATE '2026-01-01' + $4::integer, $5)",
                f"{number}-{index}-{self._random.randrange(10**6)}",
                organization,
                number,
                self._random.randrange(365),
                self._random.choice((True, False, None)),
            )

    async def _update(self) -> None:
        await self.connection.execute(
            "UPDATE public.accounts SET note = $2, balance = balance + 1 WHERE id = $1",
            await self._account(),
            self._random.choice(AWKWARD),
        )

    async def _delete(self) -> None:
        await self.connection.execute("DELETE FROM public.accounts WHERE id = $1", await self._account())

    async def _move(self) -> None:
        """An account passes to another organization, and its orders stay behind."""
        await self.connection.execute(
            "UPDATE public.accounts SET organization_id = $2 WHERE id = $1", await self._account(), self._organization()
        )

    async def _move_orders(self) -> None:
        await self.connection.execute(
            "UPDATE public.orders SET organization_id = $2 WHERE account_id = $1",
            await self._account(),
            self._organization(),
        )

    async def _take_over_a_key(self) -> None:
        """A key that one organization gave up is taken by another."""
        number = await self._account()
        await self.connection.execute("DELETE FROM public.accounts WHERE id = $1", number)
        await self._add_to(self._organization(), number)

    async def _rename_an_order(self) -> None:
        number, self._next = self._next, self._next + 1
        await self.connection.execute(
            "UPDATE public.orders SET number = $2"
            " WHERE number = (SELECT min(number) FROM public.orders WHERE account_id = $1)",
            await self._account(),
            f"renamed-{number}",
        )

    async def _pay(self) -> None:
        await self.connection.execute(
            "UPDATE public.orders SET paid = NOT paid WHERE account_id = $1", await self._account()
        )

    async def _change_a_country(self) -> None:
        await self.connection.execute(
            "UPDATE public.countries SET label = $1 WHERE code = 'CH'", self._random.choice(AWKWARD)
        )
