"""Good requests, to be spoilt by tests."""

from typing import Any

ROLE = "arn:aws:iam::123456789012:role/exports"


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
