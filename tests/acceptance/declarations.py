"""What a configuration declares, with what is usual in these tests."""

from collections.abc import Iterable
from pathlib import Path

from tests.acceptance.destinations import GcsBucket, S3Bucket
from tests.acceptance.sample_application import ORGANIZATION
from tests.fixtures.daemon import Site
from tests.fixtures.stores import PROFILE


def schedule(code: str = "often", **others: object) -> dict[str, object]:
    """A schedule of everything to the destination ``lake``; it fires once, at the daemon's start."""
    return {
        "code": code,
        "organization": ORGANIZATION,
        "entities": "ALL",
        "destinations": ["lake"],
        "unit": "DAY",
        "period": 1,
        **others,
    }


def of_tenants(site: Site, organizations: Iterable[str], *, schedules: int = 1) -> dict[str, list[dict[str, object]]]:
    """For each organization a directory ``lake``, ``lake_of`` it, and schedules ``<organization>-<number from 1>``."""
    return {
        "destination": [
            destination("lake", site.destination(lake_of(name)), organization=name) for name in organizations
        ],
        "schedule": [
            schedule(f"{name}-{number}", organization=name)
            for name in organizations
            for number in range(1, schedules + 1)
        ],
    }


def lake_of(organization: str) -> str:
    """How its directory is called in the site's folder."""
    return f"lake-of-{organization}"


def destination(code: str, directory: Path, **others: object) -> dict[str, object]:
    return {"code": code, "organization": ORGANIZATION, "directory": str(directory), **others}


def s3_destination(code: str, lake: S3Bucket, **others: object) -> dict[str, object]:
    return {
        "code": code,
        "organization": ORGANIZATION,
        "type": "S3",
        "bucket": lake.name,
        "endpoint": lake.account.endpoint,
        "region": lake.account.region,
        "profile": PROFILE,
        **others,
    }


def gcs_destination(code: str, lake: GcsBucket, **others: object) -> dict[str, object]:
    """Its server is named in the configuration's table ``gcs``: ``{"endpoint": lake.server.endpoint}``."""
    return {"code": code, "organization": ORGANIZATION, "type": "GCS", "bucket": lake.name, **others}
