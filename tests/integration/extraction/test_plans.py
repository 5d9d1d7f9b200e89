"""The cost of an incremental run follows the changes, not the table: both indexes are used."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from exportd.extraction.snapshot_reader import OpenSnapshot
from exportd.model.entity import OrganizationId
from tests.integration.capture.source_database import CapturedTable, SourceDatabase

pytestmark = pytest.mark.every_postgres


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes_of(child)


async def plans_of(things: CapturedTable) -> list[dict[str, Any]]:
    """The plans of what a run would read, by itself or with another one: the changed rows and the deleted ones."""
    plans: list[dict[str, Any]] = []

    async def explain(snapshot: OpenSnapshot) -> None:
        code = things.entity.code
        window, statements = snapshot.windows[code], snapshot.statements[code]
        assert window.previous is not None
        asked = [(statements.organization, window.previous), (OrganizationId("another"), window.previous)]
        for query in (
            *(statements.changed(window.previous, ordered=ordered) for ordered in (False, True)),
            *(statements.deleted(window.previous, ordered=ordered) for ordered in (False, True)),
            statements.changed_of(asked, 2 * snapshot.keys[code]),
            statements.deleted_of(asked, 2 * snapshot.keys[code]),
        ):
            (plan,) = json.loads(await snapshot.connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT json) {query}"))
            plans.append(plan["Plan"])

    await things.run(while_open=explain)
    return plans


@pytest.mark.parametrize("analyzed", [False, True], ids=["no statistics", "statistics"])
@pytest.mark.parametrize("tenant", ["organization_id", None])
async def test_few_changes_in_a_large_table_are_found_by_index(
    source: SourceDatabase, tenant: str | None, analyzed: bool
) -> None:
    things = await source.capture(
        "things", "id uuid PRIMARY KEY, organization_id text, n int, note text", tenant=tenant
    )
    await source.app.execute("""
        INSERT INTO things SELECT md5(i::text)::uuid, 'acme', i, repeat('x', 100) FROM generate_series(1, 50000) AS i;
        CREATE INDEX ON things (n)""")
    # A log with a history: what is old must not be read again.
    await source.app.execute(
        "DO $$ BEGIN FOR i IN 1..3000 LOOP UPDATE things SET note = 'y' WHERE n = i; END LOOP; END $$"
    )
    await things.run()
    for number in range(20):
        await source.app.execute(f"UPDATE things SET note = 'z' WHERE n = {1000 + number}")
    await source.app.execute("DELETE FROM things WHERE n BETWEEN 2001 AND 2005")
    if analyzed:
        await source.app.execute(f"ANALYZE things; ANALYZE {things.log}")
    for plan in await plans_of(things):
        nodes = list(nodes_of(plan))
        assert not [node for node in nodes if node["Node Type"] == "Seq Scan"]
        by_xid = [node for node in nodes if "xid >=" in node.get("Index Cond", "")]
        assert by_xid, "the log's index is used, and with its lower bound"
        assert all(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) <= 30 for node in by_xid)
