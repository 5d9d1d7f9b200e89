"""To buckets of S3, through the real daemon: a journey, an outage, and what is said of credentials."""

import re
from datetime import timedelta

import pytest

from exportd.model.errors import FullReason
from exportd.model.extraction import Mode
from tests.acceptance.declarations import destination, s3_destination, schedule
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.destinations import S3Bucket
from tests.acceptance.sample_application import CATALOG, ORGANIZATION, Application
from tests.acceptance.test_secrets import seen_of_process
from tests.fixtures.daemon import Site, files_in, until
from tests.fixtures.fault_proxy import FaultProxy
from tests.fixtures.faults import Reset, Rule, Stall, assumed_role, s3_error, slow_down
from tests.fixtures.moto import MotoServer
from tests.fixtures.s3 import S3Account
from tests.fixtures.stores import give_credentials
from tests.fixtures.swift import SwiftServer


@pytest.mark.slow
async def test_a_journey_to_buckets(
    site: Site, application: Application, swift: SwiftServer, empty_s3_bucket: S3Bucket
) -> None:
    """The first run is complete and later ones hold what changed, in both formats and both orders of partitions."""
    lines = S3Bucket(swift, swift.create_bucket(f"{empty_s3_bucket.name}-lines"))
    site.configure(
        CATALOG,
        {
            "destination": [
                s3_destination("lake", empty_s3_bucket, prefix="product"),
                s3_destination("lines", lines, partition_order="TYPE_FIRST"),
            ],
            "schedule": [schedule("often"), schedule("lines", format="JSONL", destinations=["lines"])],
        },
    )
    connection = application.connection
    daemon = await site.start()
    for code in ("often", "lines"):
        await site.succeeded(connection, await site.first_job(connection, code))
    for _ in range(2):
        await application.change()
        for code in ("often", "lines"):
            await site.succeeded(connection, await site.fire(code))
    for lake in (empty_s3_bucket, lines):
        bucket = await lake.delivered()
        bucket.assert_whole()
        assert bucket.replayed() == await application.contents()
        assert {entity.full_reason for entity in bucket.run(0).entities} == {FullReason.FIRST_RUN}
        assert {entity.mode for run in (1, 2) for entity in bucket.run(run).entities} == {Mode.INCREMENTAL}
        assert await lake.leftovers() == set()
    expected = (
        (
            empty_s3_bucket,
            rf"product/orgId={ORGANIZATION}/date=[\d-]+/hour=\d\d/type=(account|order|country)/\S+\.csv\.gz",
        ),
        (lines, rf"orgId={ORGANIZATION}/type=(account|order|country)/date=[\d-]+/hour=\d\d/\S+\.jsonl\.gz"),
    )
    for lake, pattern in expected:
        assert all(re.fullmatch(pattern, key) for key in (await lake.delivered()).objects)
    assert await daemon.stop() == 0
    assert "Traceback" not in daemon.text
    await site.assert_clean()


@pytest.mark.slow
async def test_a_bucket_that_is_down_loses_and_delays_nothing(
    site: Site, application: Application, empty_s3_bucket: S3Bucket
) -> None:
    """Beside it there is a directory. It is down for longer than the daemon tries, and more than once."""
    connection, shore = application.connection, site.destination("shore")
    async with FaultProxy(empty_s3_bucket.account.endpoint) as proxy:
        site.configure(
            CATALOG,
            {
                "destination": [
                    s3_destination("lake", empty_s3_bucket, endpoint=proxy.endpoint),
                    destination("shore", shore),
                ],
                "schedule": [schedule(destinations=["lake", "shore"])],
                "limits": {"delivery_timeout_s": 1, "job_attempts": 1},
            },
        )
        daemon = await site.start()
        await site.succeeded(connection, await site.first_job(connection))

        # The bucket does not answer; the directory has everything all the same.
        proxy.add(Rule(stall := Stall(), times=None))
        await application.change()
        job = await site.fire()
        await stall.reached.wait()
        await daemon.wait_for_event("delivered", destination="shore", times=2)
        assert await connection.fetchval("SELECT state FROM exportd.job WHERE id = $1", job) == "RUNNING"
        proxy.clear()
        proxy.add(Rule(slow_down(), times=None))
        stall.release.set()
        failed = [job]
        row = await site.finished(connection, job)
        assert (row["state"], row["reason"]) == ("FAILED", "DESTINATION_UNAVAILABLE")
        assert row["message"].startswith(
            f"Destination lake: the bucket s3://{empty_s3_bucket.name} at {proxy.endpoint} failed"
        )
        assert "SlowDown, HTTP 503, request FAULT" in row["message"]

        # From then on jobs do not wait for it, but for an occasional attempt.
        async def left_alone() -> bool:
            await application.change()
            sent = len(proxy.noted("PUT"))
            failed.append(await site.fire())
            row = await site.finished(connection, failed[-1])
            assert (row["state"], row["reason"]) == ("FAILED", "DESTINATION_UNAVAILABLE")
            if "was away a moment ago and is left alone" not in row["message"]:
                return False
            assert len(proxy.noted("PUT")) == sent
            return True

        await until(left_alone, what="a delivery that is not tried")

        proxy.clear()

        async def back() -> bool:
            job = await site.fire()
            state = (await site.finished(connection, job))["state"]
            failed.extend([job] if state == "FAILED" else [])
            return bool(state == "SUCCEEDED")

        await until(back, what="a delivery that is tried")
        await application.change()
        await site.succeeded(connection, await site.fire())
        on_shore, in_lake = DeliveredFiles.of(shore), await empty_s3_bucket.delivered()
        for bucket in (on_shore, in_lake):
            bucket.assert_whole()
            assert bucket.replayed() == await application.contents()
        assert len(on_shore.chains[0].manifests) == len(in_lake.chains[0].manifests) + len(failed)
        assert set(on_shore.run(-2).redelivers) == set(failed)
        assert in_lake.run(-2).redelivers == ()
        assert await daemon.stop() == 0
    assert "Traceback" not in daemon.text
    assert await empty_s3_bucket.leftovers() == set()
    await site.assert_clean(shore)


OWN_SECRET, ROLE_SECRET, ROLE_TOKEN = "0wn/s3cr3t+key", "r0le/s3cr3t+key", "s3ssion/t0ken+of/the/role=="
_SECRETS = re.compile("|".join(re.escape(secret) for secret in (OWN_SECRET, ROLE_SECRET, ROLE_TOKEN)))


@pytest.mark.slow
async def test_credentials_stay_where_they_were_put(
    site: Site, application: Application, moto: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A success, outages and a refusal, all looked through."""
    connection = application.connection
    bucket = moto.create_bucket("theirs")
    own = S3Account(endpoint=moto.endpoint, access_key="AKIAOWN", secret_key=OWN_SECRET, region=moto.region)
    give_credentials(own, site.folder, monkeypatch)
    outputs: list[str] = []
    async with FaultProxy(moto.endpoint) as proxy:
        role = assumed_role("ASIAROLE", timedelta(hours=1), secret_key=ROLE_SECRET, session_token=ROLE_TOKEN)
        proxy.add(Rule(role, "POST", "^/$", times=None))
        site.configure(
            CATALOG,
            {
                "destination": [
                    s3_destination(
                        *("lake", S3Bucket(moto, bucket)),
                        endpoint=proxy.endpoint,
                        role_arn="arn:aws:iam::1:role/exports",
                    )
                ],
                "s3": {"sts_endpoint": proxy.endpoint},
                "schedule": [schedule()],
                "limits": {"delivery_timeout_s": 0.2, "job_attempts": 1},
                "log": {"level": "debug"},
            },
        )
        daemon = await site.start()
        await site.succeeded(connection, await site.first_job(connection))
        assert {request.headers["x-amz-security-token"] for request in proxy.noted("PUT")} == {ROLE_TOKEN}
        for fault in (slow_down(), Reset(), s3_error(403, "InvalidToken", "The provided token is malformed.")):
            proxy.clear()
            proxy.add(Rule(fault, times=None))
            assert (await site.finished(connection, await site.fire()))["state"] == "FAILED"
        outputs += [seen_of_process(daemon.process.pid, name) for name in ("cmdline", "environ")]
        for command in (("check",), ("job", "list", "--json"), ("schedule", "list", "--json")):
            outcome = await site.quickly(*command)
            outputs += [outcome.stdout, outcome.stderr]
        assert await daemon.stop() == 0
    rows = await connection.fetch("SELECT row_to_json(j)::text AS row FROM exportd.job AS j")
    outputs += [row["row"] for row in rows] + [daemon.text]
    lake = await S3Bucket(moto, bucket).delivered()
    outputs += [manifest.decode() for manifest in lake.manifests.values()]
    outputs += [path.read_bytes().decode(errors="replace") for path in files_in(site.spool)]
    assert len(lake.manifests) == 1
    assert len(outputs) > 10
    for output in outputs:
        assert not _SECRETS.search(output)
    await site.assert_clean()
