"""Jobs that share a snapshot and jobs that run one by one make the same bytes from the same positions."""

import gzip
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from exportd.extraction import snapshot_reader
from exportd.model.schedule import ExportFormat
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.many_tenants import Tenants
from tests.acceptance.rewindable_pipeline import RewindablePipeline, TenantSchedule, rewindable_pipeline
from tests.fixtures.postgres import Database

_OF_A_SNAPSHOT = ("snapshot", "lsn", "taken_at", "created_at", "wal_position")
"""What a manifest, a note and an extraction say of the moment at which they were read."""

_ENTITIES = (("ACCOUNTS", "ORDERS", "COUNTRIES"), ("ACCOUNTS", "ORDERS"))
_ROUNDS = 4


@pytest.mark.every_postgres
@pytest.mark.parametrize("seed", range(4))
async def test_they_make_the_same_bytes_and_reach_the_same_positions(
    empty_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Random tenants, windows, formats and caps. In each round the same jobs run twice, from the same positions."""
    random = Random(f"batches {seed}")
    monkeypatch.setattr(snapshot_reader, "MAX_SHARED_KEYS", random.choice((6, 10_000)))
    organizations = [f"org-{number}" for number in range(random.randint(3, 6))]
    schedules = [
        TenantSchedule(
            organization, f"{organization}-{number}", random.choice(_ENTITIES), random.choice([*ExportFormat])
        )
        for organization in organizations
        for number in range(random.randint(1, 2))
    ]
    tenants = Tenants(await empty_database.connect(), organizations, seed=seed)
    await tenants.open()
    shared = Counter[int]()
    async with rewindable_pipeline(
        *(empty_database.dsn, tmp_path, await empty_database.connect(), schedules),
        part_bytes=random.choice((300, 2_000, 1 << 20)),
    ) as exports:
        await exports.fire(schedules)
        await exports.run(together=1)
        for _ in range(_ROUNDS):
            await tenants.change(random.choice((1, 8, 30)))
            # Those that are left out now have an older position later.
            chosen = random.sample(schedules, random.randint(len(schedules) // 2 + 1, len(schedules)))
            if random.random() < 0.4:
                await exports.ask_for_a_refresh(random.choice(chosen), "ORDERS")
            await exports.fire(chosen)
            await exports.save()
            # How they are made in the end is how the next round goes on.
            ways = random.choice(((1, 50), (50, 1)))
            first = await _made(exports, ways[0])
            await exports.rewind()
            second = await _made(exports, ways[1])
            # Only what differs is shown: all of both is cut off. Lines come before the compressed files that hold them.
            assert _differing(first.documents | first.lines, second.documents | second.lines) == {}
            assert _differing(first.objects, second.objects) == {}
            assert first.rows == second.rows
            snapshots = {1: first, 50: second} if ways[0] == 1 else {1: second, 50: first}
            assert snapshots[1].snapshots == len(chosen), "each is read by itself"
            shared[len(chosen) - snapshots[50].snapshots] += 1
        await exports.fire(schedules)
        await exports.run(together=50)
        for organization in organizations:
            await _assert_exact(exports.lake(organization), tenants, organization)
    assert sum(shared) > 0, "nothing has shared a snapshot"


class _Made:
    """What a run has made, without what it says of its moment."""

    def __init__(self, folder: Path, rows: list[dict[str, Any]], snapshots: int) -> None:
        self.objects: dict[str, bytes] = {}
        self.documents: dict[str, Any] = {}
        self.lines: dict[str, list[bytes]] = {}
        self.rows = rows
        self.snapshots = snapshots
        for path in sorted(folder.rglob("*")):
            key = path.relative_to(folder).as_posix()
            if path.suffix == ".json":
                self.documents[key] = _timeless(json.loads(path.read_bytes()))
            elif path.is_file() and path.parent.name != "journal":  # which tells how the files came to be there
                self.objects[key] = path.read_bytes()
                if path.suffix == ".gz":
                    self.lines[key] = gzip.decompress(self.objects[key]).splitlines()


async def _made(exports: RewindablePipeline, together: int) -> _Made:
    """Run the jobs; every file in the spool and at the destinations, and what the database says."""
    before = await exports.rows("SELECT id FROM exportd.job WHERE state = 'PENDING' ORDER BY id")
    jobs = [row["id"] for row in before]
    await exports.run(together=together)
    rows = [
        *await exports.rows(
            "SELECT schedule_id, entity, job_id, guards, destinations, expired, put_back_at FROM exportd.position"
            " ORDER BY schedule_id, entity"
        ),
        *await exports.rows(
            "SELECT id, state, attempt, phase, reason, objects_visible FROM exportd.job WHERE id = ANY ($1)"
            " ORDER BY id",
            jobs,
        ),
        *await exports.rows("SELECT * FROM exportd.part WHERE job_id = ANY ($1) ORDER BY job_id, entity, number", jobs),
        *await exports.rows(
            "SELECT job_id, destination, schedule_id FROM exportd.delivery WHERE job_id = ANY ($1) ORDER BY job_id",
            jobs,
        ),
        *await exports.rows("SELECT * FROM exportd.refresh_request ORDER BY schedule_id, entity"),
    ]
    assert {row["state"] for row in rows if "state" in row} == {"SUCCEEDED"}
    # Where each schedule is now is where its newest run has read.
    assert not await exports.rows(
        """SELECT FROM exportd.position JOIN exportd.job ON job.id = position.job_id
           WHERE position.job_id = ANY ($1) AND position.snapshot::text <> job.extraction ->> 'snapshot'""",
        jobs,
    )
    (counted,) = await exports.rows(
        "SELECT count(DISTINCT extraction ->> 'snapshot') AS snapshots FROM exportd.job WHERE id = ANY ($1)", jobs
    )
    return _Made(exports.folder / "now", rows, counted["snapshots"])


def _differing(first: Mapping[str, object], second: Mapping[str, object]) -> dict[str, tuple[object, object]]:
    return {
        name: (first.get(name), second.get(name))
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name)
    }


def _timeless(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: _timeless(value) for key, value in document.items() if key not in _OF_A_SNAPSHOT}
    return [_timeless(value) for value in document] if isinstance(document, list) else document


async def _assert_exact(lake: Path, tenants: Tenants, organization: str) -> None:
    """Its consumer holds what the tables hold, whichever way each run was made."""
    bucket = DeliveredFiles.of(lake)
    bucket.assert_whole()
    there = await tenants.contents(organization)
    for chain in bucket.chains:
        held = bucket.replayed(chain)
        assert held == {entity: there[entity] for entity in held}
