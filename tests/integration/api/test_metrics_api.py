"""Metrics: who may read them, and what they say of schedules, jobs and change logs."""

import asyncio

import anyio.lowlevel
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from exportd.api.exposition import Exposition, MetricsReader
from exportd.model.entity import EntityCode
from exportd.telemetry.metrics import Metrics
from tests.fixtures.daemon import until
from tests.fixtures.fake_clock import FakeClock
from tests.integration.api.standalone_api import ApiServer

METERS, BILLS = EntityCode("METERS"), EntityCode("BILLS")
_SCHEDULE = """
    INSERT INTO exportd.schedule
        (organization, code, name, entities, format, destinations, rule, next_due_at, modified_at)
    VALUES ('acme', $1, $1, '{ACCOUNTS,PLANS}', 'CSV', $2, '{"cron": "0 2 * * *"}', now(), now() - interval '2 h')
    RETURNING id"""
_JOB = """
    INSERT INTO exportd.job
        (organization, schedule_id, due_at, entities, format, destinations, state, finished_at, reason, created_at)
    VALUES ('acme', $1, now() - make_interval(hours => $2), '{ACCOUNTS}', 'CSV', '{lake}', $3,
            CASE WHEN $3::exportd.job_state IN ('SUCCEEDED', 'FAILED') THEN now() END, $4, now() - interval '1 h')"""
_POSITION = """
    INSERT INTO exportd.position (schedule_id, entity, job_id, snapshot, taken_at, guards, destinations)
    VALUES ($1, $2, gen_random_uuid(), '1:1:', now() - make_interval(mins => $3), '{}', '{lake}')"""


async def families(api: ApiServer) -> dict[str, Metric]:
    answer = (await api.http.get("/metrics")).raise_for_status()
    assert answer.headers["content-type"].startswith("text/plain")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def values(family: Metric) -> dict[tuple[str, ...], float]:
    """By the values of the labels, which are sorted by name."""
    return {tuple(sample.labels.values()): sample.value for sample in family.samples}


async def test_only_users_of_the_machine_are_told(api: ApiServer) -> None:
    assert (await api.tcp.get("/metrics")).status_code == 401
    refused = await api.tcp.get("/metrics", headers=await api.bearer())
    assert refused.status_code == 403
    assert "own machine" in refused.json()["message"]
    assert (await api.http.get("/metrics")).status_code == 200


async def test_schedules_jobs_and_logs_are_as_the_database_has_them(api: ApiServer) -> None:
    fresh = await api.pool.fetchval(_SCHEDULE, "fresh", ["lake", "puddle"])
    failing = await api.pool.fetchval(_SCHEDULE, "failing", [])
    half, old_half = [await api.pool.fetchval(_SCHEDULE, code, ["lake"]) for code in ("half", "old-half")]
    for schedule, entity, minutes in (
        (fresh, "ACCOUNTS", 10),
        (fresh, "PLANS", 30),
        (fresh, "METERS", 500),  # not its any more
        (half, "ACCOUNTS", 10),
        (old_half, "ACCOUNTS", 180),
    ):
        await api.pool.execute(_POSITION, schedule, entity, minutes)
    for schedule, hours_ago, state, reason in (
        (fresh, 2, "FAILED", "SPOOL_FULL"),
        (fresh, 1, "SUCCEEDED", None),
        (failing, 2, "SUCCEEDED", None),
        (failing, 1, "FAILED", "DESTINATION_REFUSED"),
        (failing, 0, "PENDING", None),
        (fresh, 0, "RUNNING", None),
    ):
        await api.pool.execute(_JOB, schedule, hours_ago, state, reason)
    await api.pool.execute("CREATE TABLE exportd.log_accounts AS SELECT generate_series(1, 1000) AS seq")

    found = await families(api)
    lags = {key: round(lag / 60) for key, lag in values(found["exportd_freshness_lag_seconds"]).items()}
    assert lags == {
        ("lake", "acme", "fresh"): 30,
        ("puddle", "acme", "fresh"): 120,
        ("", "acme", "failing"): 120,
        ("lake", "acme", "half"): 120,
        ("lake", "acme", "old-half"): 180,
    }
    assert values(found["exportd_schedule_failed"]) == {("acme", "DESTINATION_REFUSED", "failing"): 1}
    assert values(found["exportd_jobs"]) == {("PENDING",): 1, ("RUNNING",): 1}
    # Created an hour ago, but may be claimed only since it was inserted.
    assert 0 <= values(found["exportd_oldest_due_job_seconds"])[()] < 60
    assert {key: round(age / 60) for key, age in values(found["exportd_change_log_oldest_window_seconds"]).items()} == {
        ("ACCOUNTS",): 180
    }
    assert values(found["exportd_database_up"]) == {(): 1}


async def test_an_estimate_of_the_logs_rows_comes_from_the_statistics(api: ApiServer) -> None:
    await api.pool.execute("CREATE TABLE exportd.log_meters AS SELECT generate_series(1, 1000) AS seq")
    await api.pool.execute("ANALYZE exportd.log_meters")
    metrics = Metrics()
    reader = MetricsReader(api.pool, {METERS: "log_meters", BILLS: "log_bills"})

    async def rows() -> bool:
        await reader.read(metrics)
        assert metrics.registry.get_sample_value("exportd_change_log_rows", {"entity": "BILLS"}) is None
        return metrics.registry.get_sample_value("exportd_change_log_rows", {"entity": "METERS"}) == 1000

    await until(rows, what="the statistics")


async def test_an_open_transaction_ages(api: ApiServer) -> None:
    metrics = Metrics()
    async with api.pool.acquire() as connection, connection.transaction():
        await connection.fetch("SELECT pg_sleep(0.05)")
        await MetricsReader(api.pool, {}).read(metrics)
    age_s = metrics.registry.get_sample_value("exportd_oldest_transaction_seconds")
    assert age_s is not None
    assert age_s >= 0.05


async def test_the_oldest_rows_have_an_age(api: ApiServer) -> None:
    await api.pool.execute(
        """INSERT INTO exportd.job (organization, due_at, entities, format, destinations, state, finished_at)
           SELECT 'acme', now(), '{}', 'CSV', '{}', 'FAILED', now() - make_interval(days => n)
           FROM generate_series(1, 3) AS n"""
    )
    metrics = Metrics()
    await MetricsReader(api.pool, {}).read(metrics)
    age_s = metrics.registry.get_sample_value("exportd_oldest_row_seconds", {"kind": "jobs"})
    assert age_s is not None
    assert round(age_s / 86_400) == 3
    assert metrics.registry.get_sample_value("exportd_oldest_row_seconds", {"kind": "audit"}) is None


async def test_a_lock_in_the_way_is_not_waited_for(api: ApiServer) -> None:
    async with api.pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE exportd.schedule IN ACCESS EXCLUSIVE MODE")
        answer = (await api.http.get("/metrics")).raise_for_status()
    assert "exportd_database_up 0.0" in answer.text
    assert "exportd_event_loop_delay_seconds_bucket" in answer.text


async def test_many_askers_are_one_look(api: ApiServer) -> None:
    clock, looks = FakeClock(), 0

    async def refresh(_metrics: Metrics) -> None:
        nonlocal looks
        looks += 1
        await anyio.lowlevel.checkpoint()

    async def look(_metrics: Metrics) -> None: ...

    exposition = Exposition(Metrics(), refresh=refresh, look=look, clock=clock)
    await asyncio.gather(*(exposition.text() for _ in range(20)))
    assert looks == 1
    await clock.advance(5)
    await exposition.text()
    assert looks == 2
