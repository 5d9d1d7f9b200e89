from collections import Counter

import pytest

from exportd.database.connector import Connection
from exportd.demo.changer import ROUND, Changer, ChangeSummary, RowCounts
from exportd.demo.editor import Action
from exportd.demo.generator import SHARES, create_tables, fill
from exportd.model.errors import PermanentError
from tests.fixtures.postgres import Database
from tests.integration.demo.test_generator import FOREIGN_KEYS, count, digests

ROWS = 1000


async def filled(database: Database) -> Connection:
    connection = await database.connect()
    await create_tables(connection)
    await fill(connection, rows=ROWS)
    return connection


@pytest.mark.every_postgres
async def test_one_round_holds_every_kind_of_change(empty_database: Database) -> None:
    connection = await filled(empty_database)
    summary = await Changer(connection, seed=1).burst(size=ROUND)
    assert set(summary.actions) == set(Action)
    assert sum(summary.actions.values()) == ROUND
    assert summary.committed > 5
    assert summary.rolled_back > 0
    assert summary.conflicts == 0


async def test_in_the_end_every_entity_has_seen_every_kind_of_change(empty_database: Database) -> None:
    connection = await filled(empty_database)
    summary = await Changer(connection, seed=2).burst(size=12 * ROUND)
    assert {code for code, rows in summary.rows.items() if rows.inserted} == set(SHARES)
    assert {code for code, rows in summary.rows.items() if rows.updated} == set(SHARES)
    assert {code for code, rows in summary.rows.items() if rows.deleted} == set(SHARES)


async def test_the_summary_tells_what_became_of_the_tables(empty_database: Database) -> None:
    connection = await filled(empty_database)
    before = {code: await count(connection, code.lower()) for code in SHARES}
    summary = await Changer(connection, seed=3).burst(size=4 * ROUND)
    for code in SHARES:
        rows = summary.rows.get(code, RowCounts())
        assert await count(connection, code.lower()) == before[code] + rows.inserted - rows.deleted, code


async def test_the_same_seed_does_the_same(empty_database: Database) -> None:
    connection = await filled(empty_database)
    before = await digests(connection)
    outcomes: list[tuple[ChangeSummary, dict[str, str]]] = []
    for _ in range(2):
        transaction = connection.transaction()
        await transaction.start()
        # Inside of an outer transaction the changer's own are savepoints; a level cannot be chosen there.
        summary = await Changer(connection, seed=4, isolations=("read_committed",)).burst(size=2 * ROUND)
        outcomes.append((summary, await digests(connection)))
        await transaction.rollback()
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][1] != before


async def test_references_still_lead_somewhere_afterwards(empty_database: Database) -> None:
    connection = await filled(empty_database)
    await Changer(connection, seed=5).burst(size=3 * ROUND)
    for row in await connection.fetch(FOREIGN_KEYS):
        child, parent, column = row["child"], row["parent"], row["column"]
        lost = f"SELECT count(*) FROM {child} AS c LEFT JOIN {parent} AS p ON p.id = c.{column}"
        assert await connection.fetchval(f"{lost} WHERE c.{column} IS NOT NULL AND p.id IS NULL") == 0, (
            f"{child}.{column}"
        )


async def test_records_move_between_organizations_and_get_other_keys(empty_database: Database) -> None:
    connection = await filled(empty_database)
    owners = await owners_of(connection)
    summary = await Changer(connection, seed=6).burst(size=4 * ROUND)
    now = await owners_of(connection)
    moved = [key for key, organization in owners.items() if now.get(key, organization) != organization]
    assert len(moved) >= summary.actions[Action.MOVE] // 2
    assert summary.actions[Action.REKEY] == 8


async def owners_of(connection: Connection) -> dict[str, str]:
    owners: dict[str, str] = {}
    for code in SHARES:
        for row in await connection.fetch(f"SELECT id, organization_id FROM public.{code.lower()}"):
            owners[f"{code}/{row['id']}"] = row["organization_id"]
    return owners


async def test_an_open_transaction_shows_when_its_caller_ends_it(empty_database: Database) -> None:
    connection = await filled(empty_database)
    before = await digests(connection)
    late = await Changer(await empty_database.connect(), seed=7).open(size=6)
    assert await digests(connection) == before
    summary = await late.commit()
    assert summary.committed == 1
    assert sum(summary.actions.values()) == 6
    assert summary.total != RowCounts()
    assert await digests(connection) != before


async def test_an_open_transaction_can_be_rolled_back(empty_database: Database) -> None:
    connection = await filled(empty_database)
    before = await digests(connection)
    late = await Changer(await empty_database.connect(), seed=8).open()
    summary = await late.rollback()
    assert (summary.rolled_back, summary.total) == (1, RowCounts())
    assert await digests(connection) == before


async def test_others_work_on_beside_an_open_transaction(empty_database: Database) -> None:
    connection = await filled(empty_database)
    late = await Changer(await empty_database.connect(), seed=9).open(size=8)
    summary = await Changer(connection, seed=10, lock_timeout_s=0.01).burst(size=3 * ROUND)
    assert summary.committed > 20
    before = {code: await count(connection, code.lower()) for code in SHARES}
    summary = await late.commit()
    for code, rows in summary.rows.items():
        assert await count(connection, code.lower()) == before[code] + rows.inserted - rows.deleted, code


async def test_empty_tables_are_refused_with_a_sentence(empty_database: Database) -> None:
    connection = await empty_database.connect()
    await create_tables(connection)
    with pytest.raises(PermanentError, match="fill them first"):
        await Changer(connection, seed=1).burst(size=1)


def test_summaries_add_up() -> None:
    one = ChangeSummary(actions=Counter({Action.INSERT: 2}), committed=1)
    both = one + ChangeSummary(actions={Action.INSERT: 1, Action.DELETE: 1}, rolled_back=1, conflicts=2)
    assert both.actions == {Action.INSERT: 3, Action.DELETE: 1}
    assert (both.committed, both.rolled_back, both.conflicts) == (1, 1, 2)
    assert "1 transactions committed, 1 rolled back, 2 given up" in str(both)
