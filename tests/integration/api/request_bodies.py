"""Good requests, to be spoilt by tests."""

from typing import Any
from uuid import uuid4

ROLE = "arn:aws:iam::123456789012:role/exports"

ADHOC = {"sourceType": "OPERATIONAL", "operationalDataTypes": ["PLANS"]}

BODIES: dict[str, Any] = {
    "/v1/adhoc/preview": {"sourceType": "OPERATIONAL", "operationalDataTypes": ["ACCOUNTS"]},
    "/v1/schedules/{id}/refresh": {"entity": "ACCOUNTS"},
    "/v1/schedules/{id}/backfill": {"job": str(uuid4())},
    "/v1/capture/install": {"dryRun": True},
    "/v1/capture/uninstall": {"dryRun": True},
    "/v1/log-level": {"level": "info"},
}
"""What operations take, by their paths."""


def schedule(code: str = "nightly", **others: Any) -> dict[str, Any]:
    return {
        "name": f"The {code} one",
        "code": code,
        "sourceType": "OPERATIONAL",
        "operationalDataTypes": ["ACCOUNTS", "BILLS"],
        "scheduleType": "DAY",
        "period": 1,
        "offset": 2,
        **others,
    }


def bucket(code: str = "lake", **others: Any) -> dict[str, Any]:
    return {
        "name": "The lake",
        "code": code,
        "destinationType": "S3",
        "bucketName": "acme-exports",
        "iamRoleArn": ROLE,
        **others,
    }


def gcs_bucket(code: str = "gcs", **others: Any) -> dict[str, Any]:
    return {
        "name": "The other lake",
        "code": code,
        "destinationType": "GCS",
        "bucketName": "acme-gcs",
        "projectNumber": "123",
        "poolId": "pool",
        "providerId": "provider",
        **others,
    }
