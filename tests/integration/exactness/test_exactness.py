"""Every window holds exactly what changed, whatever eight writers do at the same time."""

import os
import random
from collections import Counter

import pytest

import exportd.extraction.copier
from exportd.model.errors import FullReason
from tests.fixtures.postgres import Database
from tests.integration.exactness.exactness_run import ExactnessRun
from tests.integration.exactness.writer import STEPS, VISIT_STEPS

_AT_LEAST = {
    "runs": 200,
    "runs in a shared snapshot": 60,
    "first runs in a shared snapshot": 10,
    "runs with transactions in flight": 150,
    "windows incremental": 600,
    "back-fills": 15,
    f"windows {FullReason.CHANGES_UNKNOWN}": 3,
    "changed": 500,
    "deleted": 300,
    "born and gone": 20,
    "truncated": 4,
    "truncated at a higher level": 2,
    "rolled back": 20,
    "savepoints rolled back": 20,
    "prepared and committed": 10,
    "prepared and rolled back": 5,
    "conflicts": 10,
    **dict.fromkeys(STEPS, 3),
}
"""What has to have happened (and been committed), or the run would prove little."""


_GROWN_AT_LEAST = {
    f"windows {FullReason.PARTITIONS_CHANGED}": 4,
    "partitions created": 1,
    "partitions attached": 5,
    "partitions attached with rows": 1,
    "partitions removed": 2,
    "changed": 100,
    "deleted": 50,
    **dict.fromkeys(VISIT_STEPS, 3),
}


def _enough(counts: Counter[str]) -> bool:
    return all(counts[name] >= times for name, times in _AT_LEAST.items())


def _grown_enough(counts: Counter[str]) -> bool:
    return all(counts[name] >= times for name, times in _GROWN_AT_LEAST.items())


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.every_postgres
async def test_every_window_is_exactly_what_changed(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    # So that full runs read each table over two connections that share the snapshot, however small it is.
    monkeypatch.setattr(exportd.extraction.copier, "_WORTH_A_CONNECTION_BYTES", 1)
    seed = int(os.environ.get("EXACTNESS_SEED") or random.SystemRandom().randrange(1_000_000))
    counts = await ExactnessRun(database, seed=seed).run(_enough)
    print(f"seed {seed}: {dict(counts)}")  # noqa: T201 - shows what was tried


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.every_postgres
async def test_partitions_may_come_and_go_at_any_moment(database: Database) -> None:
    seed = int(os.environ.get("EXACTNESS_SEED") or random.SystemRandom().randrange(1_000_000))
    counts = await ExactnessRun(database, seed=seed, growing=True).run(_grown_enough)
    print(f"seed {seed}: {dict(counts)}")  # noqa: T201 - shows what was tried
