"""What a changer did, and how many rows its transactions changed."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from exportd.database.connector import Connection
from exportd.demo.generator import SHARES
from exportd.model.entity import EntityCode

_ENTITIES = {code.lower(): code for code in SHARES}

# Only differences within one transaction mean something: the counts may include earlier transactions.
_COUNTS = """
SELECT relname, pg_stat_get_xact_tuples_inserted(oid) AS inserted, pg_stat_get_xact_tuples_updated(oid) AS updated,
       pg_stat_get_xact_tuples_deleted(oid) AS deleted
FROM pg_catalog.pg_class WHERE relnamespace = 'public'::regnamespace AND relname = ANY ($1)
"""


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
    """What happened: rows per entity, how often each action was taken, and how transactions ended.

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


def added(*parts: Mapping[EntityCode, RowCounts]) -> dict[EntityCode, RowCounts]:
    """The sums by entity, without the entities where nothing happened."""
    totals: dict[EntityCode, RowCounts] = {}
    for part in parts:
        for code, counts in part.items():
            totals[code] = totals.get(code, RowCounts()) + counts
    return {code: counts for code, counts in totals.items() if counts != RowCounts()}


def difference(
    after: Mapping[EntityCode, RowCounts], before: Mapping[EntityCode, RowCounts]
) -> dict[EntityCode, RowCounts]:
    """What came between, without the entities where nothing happened."""
    return added(after, {code: RowCounts() - counts for code, counts in before.items()})


async def count_rows(connection: Connection) -> dict[EntityCode, RowCounts]:
    """The rows that the current transaction has changed so far, by statements, cascades and triggers.

    What a rollback to a savepoint undid stays in the counts.
    """
    return {
        _ENTITIES[row["relname"]]: RowCounts(row["inserted"], row["updated"], row["deleted"])
        for row in await connection.fetch(_COUNTS, list(_ENTITIES))
    }
