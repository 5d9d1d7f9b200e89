"""Changes the demo's records in every way that an application might, in believable transactions.

Several changers may work at the same time, each with a connection of its own. A changer that waits too long for a
locked record, or finds it gone, rolls its transaction back and goes on.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

import asyncpg
from asyncpg.transaction import Transaction

from exportd.database.connector import Connection
from exportd.demo.editor import Action, Editor
from exportd.demo.generator import SHARES
from exportd.model.entity import EntityCode
from exportd.model.errors import PermanentError, Reason

Isolation = Literal["read_committed", "repeatable_read", "serializable"]

_ISOLATIONS: tuple[Isolation, ...] = ("read_committed", "read_committed", "read_committed", "repeatable_read")

_DECK: Mapping[Action, int] = {
    Action.INSERT: 6,
    Action.UPDATE: 6,
    Action.UPDATE_MANY: 3,
    Action.UPDATE_NOTHING: 1,
    Action.UPSERT: 3,
    Action.DELETE: 3,
    Action.CASCADE: 2,
    Action.MOVE: 2,
    Action.REKEY: 2,
    Action.REPLACE: 1,
    Action.PASSING: 1,
    Action.SAVEPOINT: 2,
    Action.ROLLBACK: 1,
}
"""How often each action comes in a round; each comes at least once."""

ROUND = sum(_DECK.values())
"""The smallest size of a burst that holds every kind of change."""

_ACTIONS_PER_TRANSACTION = 2
_UNDONE_SAVEPOINTS = 0.7

_PLAIN = tuple(action for action in _DECK if action not in {Action.SAVEPOINT, Action.ROLLBACK})

_CONFLICTS = (
    asyncpg.LockNotAvailableError,
    asyncpg.TransactionRollbackError,  # deadlocks and serialization failures
    asyncpg.ForeignKeyViolationError,
    asyncpg.UniqueViolationError,
)


_ENTITIES = {code.lower(): code for code in SHARES}

# Only differences within one transaction mean something: the counts may include earlier transactions.
_COUNTS = """
SELECT relname, pg_stat_get_xact_tuples_inserted(oid) AS inserted, pg_stat_get_xact_tuples_updated(oid) AS updated,
       pg_stat_get_xact_tuples_deleted(oid) AS deleted
FROM pg_catalog.pg_class WHERE relnamespace = 'public'::regnamespace AND relname = ANY ($1)
"""


@dataclass(frozen=True, slots=True)
class RowCounts:
    """Rows of one entity in committed transactions; what cascades do is counted, what was rolled back is not."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    def __add__(self, other: "RowCounts") -> "RowCounts":
        return RowCounts(self.inserted + other.inserted, self.updated + other.updated, self.deleted + other.deleted)

    def __sub__(self, other: "RowCounts") -> "RowCounts":
        return RowCounts(self.inserted - other.inserted, self.updated - other.updated, self.deleted - other.deleted)


@dataclass(frozen=True, slots=True)
class ChangeSummary:
    """The changes that were made: rows of each entity, how often each action was taken, and how transactions ended.

    ``conflicts`` were rolled back because another connection was in the way (a lock, a deadlock, a record that went).
    """

    rows: Mapping[EntityCode, RowCounts] = field(default_factory=dict)
    actions: Mapping[Action, int] = field(default_factory=dict)
    committed: int = 0
    rolled_back: int = 0
    conflicts: int = 0

    def __add__(self, other: "ChangeSummary") -> "ChangeSummary":
        return ChangeSummary(
            rows=added(self.rows, other.rows),
            actions=Counter(self.actions) + Counter(other.actions),
            committed=self.committed + other.committed,
            rolled_back=self.rolled_back + other.rolled_back,
            conflicts=self.conflicts + other.conflicts,
        )

    def __str__(self) -> str:
        total = self.total
        ends = [f"{self.committed} transactions committed", f"{self.rolled_back} rolled back"]
        if self.conflicts:
            ends.append(f"{self.conflicts} given up because of a conflict")
        return (
            f"{total.inserted:,} rows inserted, {total.updated:,} updated, {total.deleted:,} deleted"
            f" in {len(self.rows)} entities; {', '.join(ends)}"
        )

    @property
    def total(self) -> RowCounts:
        """The rows of all entities together."""
        return sum(self.rows.values(), RowCounts())


class _RollbackError(Exception):
    """Leaves a transaction's block, so that it is rolled back."""


class OpenTransaction:
    """A changer's transaction that stays open until the caller calls ``commit`` or ``rollback``, once.

    A careless export loses such changes: their transaction is older than rows that an earlier run exported.
    """

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
        """Commits the changes and returns what they were."""
        rows = difference(await count_rows(self._connection), self._before)
        await self._transaction.commit()
        return ChangeSummary(rows=rows, actions=self._actions, committed=1)

    async def rollback(self) -> ChangeSummary:
        """Rolls the changes back; they count as actions only."""
        await self._transaction.rollback()
        return ChangeSummary(actions=self._actions, rolled_back=1)


class Changer:
    """Makes changes through a connection of its own; the same seed makes the same changes to the same tables.

    ``lock_timeout_s`` is how long to wait for a record that another transaction has locked. Each transaction has one
    of ``isolations``.
    """

    def __init__(
        self,
        connection: Connection,
        seed: int,
        *,
        lock_timeout_s: float = 0.5,
        isolations: Sequence[Isolation] = _ISOLATIONS,
    ) -> None:
        self._connection = connection
        self._random = Random(seed)
        self._lock_timeout_s = lock_timeout_s
        self._isolations = isolations
        self._editor: Editor | None = None
        self._deck: list[Action] = []

    async def burst(self, *, size: int) -> ChangeSummary:
        """Makes ``size`` changes in transactions of a few each. From ``ROUND`` on, every kind is among them."""
        summary = ChangeSummary()
        for actions in self._transactions(size):
            summary += await self._transact(actions)
        return summary

    async def open(self, *, size: int = 5) -> OpenTransaction:
        """Makes ``size`` changes in a transaction that stays open until the caller ends it.

        Meanwhile the changer must not be used for anything else; other changers may work. Other transactions that
        need the same records wait for this one, or give up.
        """
        editor = await self._ready()
        transaction = self._connection.transaction()
        await transaction.start()
        try:
            before = await count_rows(self._connection)
            taken: Counter[Action] = Counter()
            for _ in range(size):
                action = self._random.choice((Action.INSERT, Action.UPDATE, Action.UPDATE_MANY, Action.DELETE))
                taken[action] += await editor.perform(action)
        except BaseException:
            await transaction.rollback()
            raise
        return OpenTransaction(self._connection, transaction, before, taken)

    def _transactions(self, size: int) -> Iterator[list[Action]]:
        """The next ``size`` actions of the deck, a few for each transaction; a rollback has its own."""
        actions: list[Action] = []
        for _ in range(size):
            if not self._deck:
                self._deck = [action for action, times in _DECK.items() for _ in range(times)]
                self._random.shuffle(self._deck)
            action = self._deck.pop()
            if action is Action.ROLLBACK:
                yield [action]
                continue
            actions.append(action)
            if self._random.random() < 1 / _ACTIONS_PER_TRANSACTION:
                yield actions
                actions = []
        if actions:
            yield actions

    async def _transact(self, actions: Sequence[Action]) -> ChangeSummary:
        editor = await self._ready()
        isolation = self._random.choice(self._isolations)
        taken: Counter[Action] = Counter()
        try:
            async with self._connection.transaction(isolation=isolation):
                timeout = f"{round(self._lock_timeout_s * 1000)}ms"
                await self._connection.execute("SELECT set_config('lock_timeout', $1, true)", timeout)
                rows = await self._perform(actions, editor, taken)
                _roll_back_if(Action.ROLLBACK in actions)
        except _RollbackError:
            return ChangeSummary(actions=taken, rolled_back=1)
        except _CONFLICTS:
            return ChangeSummary(conflicts=1)
        return ChangeSummary(rows=rows, actions=taken, committed=1)

    async def _perform(
        self, actions: Sequence[Action], editor: Editor, taken: Counter[Action]
    ) -> dict[EntityCode, RowCounts]:
        """Performs the actions; the rows they changed, as if the transaction were not rolled back."""
        before = await count_rows(self._connection)
        undone: dict[EntityCode, RowCounts] = {}
        for action in actions:
            match action:
                case Action.SAVEPOINT:
                    undone = added(undone, await self._below_savepoint(editor))
                    taken[action] += 1
                case Action.ROLLBACK:
                    for _ in range(self._random.randint(1, 3)):
                        await editor.perform(self._random.choice(_PLAIN))
                    taken[action] += 1
                case _:
                    taken[action] += await editor.perform(action)
        return difference(difference(await count_rows(self._connection), before), undone)

    async def _below_savepoint(self, editor: Editor) -> dict[EntityCode, RowCounts]:
        """Makes a change below a savepoint; the rows that a rollback to it restored."""
        before = await count_rows(self._connection)
        try:
            async with self._connection.transaction():
                await editor.perform(self._random.choice(_PLAIN))
                _roll_back_if(self._random.random() < _UNDONE_SAVEPOINTS)
        except _RollbackError:
            return difference(await count_rows(self._connection), before)
        return {}

    async def _ready(self) -> Editor:
        """The editor, which needs the organizations before its first change."""
        if self._editor is None:
            found = await self._connection.fetch(
                "SELECT DISTINCT organization_id FROM public.products ORDER BY organization_id"
            )
            if not found:
                raise PermanentError("The demo's tables are empty; fill them first.", reason=Reason.NOT_FOUND)
            self._editor = Editor(self._connection, self._random, [row[0] for row in found])
        return self._editor


def _roll_back_if(condition: bool) -> None:
    if condition:
        raise _RollbackError


def added(*parts: Mapping[EntityCode, RowCounts]) -> dict[EntityCode, RowCounts]:
    """The sums by entity, without entities that have not changed."""
    totals: dict[EntityCode, RowCounts] = {}
    for part in parts:
        for code, counts in part.items():
            totals[code] = totals.get(code, RowCounts()) + counts
    return {code: counts for code, counts in totals.items() if counts != RowCounts()}


def difference(
    after: Mapping[EntityCode, RowCounts], before: Mapping[EntityCode, RowCounts]
) -> dict[EntityCode, RowCounts]:
    """The difference of two counts, without entities that have not changed."""
    return added(after, {code: RowCounts() - counts for code, counts in before.items()})


async def count_rows(connection: Connection) -> dict[EntityCode, RowCounts]:
    """The rows that the current transaction has changed so far, by statements, cascades and triggers.

    Changes that a rollback to a savepoint has undone stay in the counts.
    """
    return {
        _ENTITIES[row["relname"]]: RowCounts(row["inserted"], row["updated"], row["deleted"])
        for row in await connection.fetch(_COUNTS, list(_ENTITIES))
    }
