"""Connects to S3: clients for buckets, in roles that are assumed and renewed.

The library keeps credentials by session, so each role has a session. What makes sessions expensive, the descriptions of
AWS's services, is read once for all of them. A client lives as long as its store.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Any

from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioDeferredRefreshableCredentials
from aiobotocore.session import AioSession

from exportd.stores.s3.options import S3Access

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

_ROLE_DURATION_S = 3600
"""An hour. With 15 minutes, each call would renew the credentials: the library begins 15 minutes before the end."""

_DEFAULT_REGION = "us-east-1"
_CONNECTIONS = 20
"""More than the pieces in flight and the small files that are published at once."""


class S3Connector:
    """Makes clients. One serves the daemon."""

    def __init__(self) -> None:
        self._descriptions = AioSession().get_component("data_loader")
        self._own_sessions: dict[str, AioSession] = {}

    async def client(self, access: S3Access, *, stack: AsyncExitStack) -> "S3Client":
        """A client of S3, open until ``stack`` is closed. Raises what the library does."""
        session = self._own_session(access.profile)
        if access.role_arn:
            session = self._role_session(access)
        client: S3Client = await _open(session, "s3", access, endpoint=access.endpoint, stack=stack)
        client.meta.events.register("before-call.s3.HeadBucket", _redirect_no_further)
        return client

    async def own_identity(self, access: S3Access) -> str:
        """The ARN of the identity that assumes the roles. Raises what the library does."""
        async with AsyncExitStack() as stack:
            session = self._own_session(access.profile)
            client = await _open(session, "sts", access, endpoint=access.sts_endpoint, stack=stack)
            arn: str = (await client.get_caller_identity())["Arn"]
        return arn

    def _own_session(self, profile: str) -> AioSession:
        """A session with the credentials of a profile, or of the standard chain."""
        if profile not in self._own_sessions:
            self._own_sessions[profile] = self._session(profile)
        return self._own_sessions[profile]

    def forget(self, profile: str) -> None:
        """Load a profile's credentials anew for the next client: the library reads them once for each session."""
        self._own_sessions.pop(profile, None)

    def _role_session(self, access: S3Access) -> AioSession:
        session = self._session(access.profile)
        session.register_component("credential_provider", _RoleProvider(lambda: self._assume_role(access)))
        return session

    def _session(self, profile: str) -> AioSession:
        session = AioSession()
        session.register_component("data_loader", self._descriptions)
        if profile:
            session.set_config_variable("profile", profile)
        return session

    async def _assume_role(self, access: S3Access) -> dict[str, Any]:
        """The credentials of the role, as the library's renewal takes them."""
        async with AsyncExitStack() as stack:
            session = self._own_session(access.profile)
            client = await _open(session, "sts", access, endpoint=access.sts_endpoint, stack=stack)
            answer = await client.assume_role(
                RoleArn=access.role_arn,
                RoleSessionName=access.role_session_name,
                DurationSeconds=_ROLE_DURATION_S,
                **({"ExternalId": access.external_id} if access.external_id else {}),
            )
        given = answer["Credentials"]
        return {
            "access_key": given["AccessKeyId"],
            "secret_key": given["SecretAccessKey"],
            "token": given["SessionToken"],
            "expiry_time": given["Expiration"].isoformat(),
        }


class _RoleProvider:
    """Where a session of the library gets its credentials from."""

    def __init__(self, assume: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self._assume = assume

    async def load_credentials(self) -> AioDeferredRefreshableCredentials:
        return AioDeferredRefreshableCredentials(refresh_using=self._assume, method="sts-assume-role")


async def _open(session: AioSession, service: str, access: S3Access, *, endpoint: str, stack: AsyncExitStack) -> Any:
    create: Callable[..., AbstractAsyncContextManager[Any]] = session.create_client
    return await stack.enter_async_context(
        create(
            service,
            region_name=access.region or session.get_config_variable("region") or _DEFAULT_REGION,
            endpoint_url=endpoint or None,
            verify=str(access.ca_file) if access.ca_file is not None and endpoint else None,
            config=_config(access),
        )
    )


def _redirect_no_further(params: dict[str, Any], **_: object) -> None:
    """Keep the library from asking for a bucket's region for ever: it asks when it is redirected, and that request may
    be redirected too.
    """
    params["context"].setdefault("s3_redirect", {})["redirected"] = True


def _config(access: S3Access) -> AioConfig:
    return AioConfig(
        # One attempt here: one place decides what is repeated, the retry budget of the transfers.
        retries={"mode": "standard", "total_max_attempts": 1},
        max_pool_connections=_CONNECTIONS,
        connect_timeout=10,
        read_timeout=120,
        tcp_keepalive=True,
        # Many stores other than AWS do not understand the default, trailing checksums; we send our own.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        warm_up_loader_caches=True,
        s3={
            "addressing_style": "path" if access.endpoint else "auto",
            # TLS and the checksum protect the body; hashing it once more would only block the event loop.
            "payload_signing_enabled": False if access.is_encrypted else None,
        },
    )
