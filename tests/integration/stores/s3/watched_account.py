"""Buckets of moto behind a proxy, which sees what S3 and STS are asked; and the stores that one connector opens."""

import re
from contextlib import AsyncExitStack
from urllib.parse import parse_qs

from exportd.stores.s3.connector import S3Connector
from exportd.stores.s3.options import S3Access
from exportd.stores.s3.store import S3Store
from tests.fixtures.fault_proxy import FaultProxy, Noted
from tests.fixtures.stores import PROFILE

ROLE = "arn:aws:iam::123456789012:role/exports"


class WatchedAccount:
    """``bucket-one`` and ``bucket-two``. The stores are closed with the stack."""

    def __init__(self, proxy: FaultProxy, stack: AsyncExitStack) -> None:
        self.proxy = proxy
        self._connector = S3Connector()
        self._stack = stack

    def open(self, bucket: str, role_arn: str = ROLE, external_id: str = "org-1") -> S3Store:
        access = S3Access(
            region="us-east-1",
            endpoint=self.proxy.endpoint,
            sts_endpoint=self.proxy.endpoint,
            profile=PROFILE,
            role_arn=role_arn,
            external_id=external_id,
        )
        store = S3Store(bucket, access, self._connector)
        self._stack.push_async_callback(store.aclose)
        return store

    @property
    def assumed(self) -> list[dict[str, str]]:
        """What STS was asked."""
        return [
            {name: value for name, [value] in parse_qs(request.body.decode()).items()}
            for request in self.proxy.noted("POST", "^/$")
        ]

    def keys_of(self, bucket: str) -> set[str]:
        """The access keys that requests to a bucket were signed with."""
        return {access_key(request) for request in self.proxy.noted(pattern=f"^/{bucket}/")}

    def connections(self, bucket: str) -> set[object]:
        """By which connections there were requests to a bucket."""
        return {request.connection for request in self.proxy.noted(pattern=f"^/{bucket}/")}


def access_key(noted: Noted) -> str:
    """The access key that a request was signed with."""
    found = re.search(r"Credential=([^/]+)/", noted.headers["Authorization"])
    assert found is not None
    return found[1]
