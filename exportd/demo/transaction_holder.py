"""A transaction of a changer that stays open until the caller ends it: the kind that a careless export loses."""

from collections import Counter

from asyncpg.transaction import Transaction

from exportd.database.connector import Connection
from exportd.demo.row_counter import count_rows
from exportd.demo.summary import Action, ChangeSummary, RowCounts, difference
from exportd.model.entity import EntityCode


class OpenTransaction:
    """Ended by ``commit`` or ``rollback``, either once."""

    def __init__(
        self,
        connection: Connection,
        transaction: Transaction,
        before: dict[EntityCode, RowCounts],
        actions: Counter[Action],
    ) -> None:
        self._connection = connection
        self._transaction = transaction
        self._before = before
        self._actions = actions

    async def commit(self) -> ChangeSummary:
        """Makes the changes visible; says what they were."""
        rows = difference(await count_rows(self._connection), self._before)
        await self._transaction.commit()
        return ChangeSummary(rows=rows, actions=self._actions, committed=1)

    async def rollback(self) -> ChangeSummary:
        """Makes the changes undone; they count as actions only."""
        await self._transaction.rollback()
        return ChangeSummary(actions=self._actions, rolled_back=1)
