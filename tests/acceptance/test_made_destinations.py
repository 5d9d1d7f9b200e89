"""A bucket that the official client has declared is written in a role that exportd assumes."""

import asyncio
from pathlib import Path
from uuid import UUID

import pytest

from tests.acceptance.destinations import S3Bucket
from tests.acceptance.sample_application import CATALOG, ORGANIZATION, Application
from tests.fixtures.control_clients import official
from tests.fixtures.daemon import Site
from tests.fixtures.moto import MotoServer
from tests.fixtures.stores import PROFILE, give_credentials

BUCKET = "acme-exports"


async def test_the_official_client_declares_a_bucket_and_receives_exports_there(
    site: Site, application: Application, moto: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon itself may do nothing but assume the role, and the role nothing but write."""
    moto.create_bucket(BUCKET)
    role = await moto.create_role(
        "exports",
        {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{BUCKET}/m3/*"},
        external_id=ORGANIZATION,
    )
    user = await moto.create_user("exportd", {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role})
    await moto.enforce_policies()
    give_credentials(user, tmp_path, monkeypatch)
    site.configure(
        CATALOG,
        {
            "s3": {
                "endpoint": moto.endpoint,
                "sts_endpoint": moto.endpoint,
                "region": moto.region,
                "profile": PROFILE,
            }
        },
    )
    daemon = await site.start()

    def declare() -> None:
        with official(site.folder / "control.sock", ORGANIZATION) as client:
            made = client.data_exports.destinations.create(
                bucket_name=BUCKET,
                iam_role_arn=role,
                prefix="m3",
                destination_type="S3",
                extra_body={"name": "The lake", "code": "lake"},
            )
            client.data_exports.schedules.create(
                operational_data_types=["ACCOUNTS"],
                source_type="OPERATIONAL",
                extra_body={
                    "name": "Often",
                    "code": "often",
                    "operationalDataTypes": ["ACCOUNTS", "ORDERS", "COUNTRIES"],
                    "scheduleType": "DAY",
                    "period": 1,
                    "destinationIds": [made.id],
                },
            )

    await asyncio.to_thread(declare)
    first = await site.first_job(application.connection)
    await site.succeeded(application.connection, first)
    await application.change()
    second: UUID = await site.fire()
    await site.succeeded(application.connection, second)
    assert await daemon.stop() == 0

    await moto.allow_everything()
    bucket = await S3Bucket(moto, BUCKET).delivered()
    bucket.assert_whole()
    assert bucket.replayed() == await application.contents()
    assert all(key.startswith(f"m3/orgId={ORGANIZATION}/") for key in bucket.objects)
