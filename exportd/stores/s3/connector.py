"""Connects to S3: makes clients for buckets, with roles that are assumed and renewed, and sends lighter requests
through them.

The library keeps credentials by session, so each role has a session. What makes sessions expensive, the descriptions of
AWS's services, is read once for all of them. Stores that are reached in the same way with the same rights share a
client and its connections, which live as long as one of these stores.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioDeferredRefreshableCredentials
from aiobotocore.endpoint import convert_to_response_dict
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.response import StreamingBody
from aiobotocore.session import AioSession
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, ClientError
from botocore.httpsession import get_cert_path
from botocore.utils import percent_encode

from exportd.stores.s3.errors import required
from exportd.stores.s3.options import S3Access

if TYPE_CHECKING:
    from ssl import SSLContext

    from types_aiobotocore_s3 import S3Client

_ROLE_DURATION_S = 3600
"""An hour. With 15 minutes each call would renew the credentials, because the library does so from 15 minutes before
their end.
"""

_DEFAULT_REGION = "us-east-1"
_CONNECTIONS = 10_000
"""More connections than are ever used. Each store limits its own requests, so that one that hangs does not delay
others.
"""


_HEADERS = {
    "ContentType": "Content-Type",
    "ChecksumAlgorithm": "x-amz-sdk-checksum-algorithm",
    "ChecksumCRC32": "x-amz-checksum-crc32",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
}
"""Arguments of ``put_object``, each with the header that says the same."""

_REDIRECTED = frozenset({301, 302, 307, 308, 400})
"""Statuses that may mean that the bucket lies in another region."""

_EXPRESS_SUFFIX = "--x-s3"
"""The suffix of express buckets, which need sessions and other signatures."""


class LightClient:
    """Writes and reads objects of a bucket by requests of our own, which the client signs and sends.

    For a body of 300 bytes the library's own ``put_object`` takes twice the CPU and, because of ``Expect:
    100-continue``, one more round trip. This class uses the client's credentials, signatures, connections and TLS. It
    asks the library once where the bucket is and how requests to it are signed.

    After a redirect the caller has to repeat the request through the library, which follows it.
    """

    def __init__(self, client: "S3Client", bucket: str) -> None:
        # Any, because the needed parts of the client have no public names. The lock file fixes the library's version.
        self._client: Any = client
        self._bucket = bucket
        self._way: tuple[str, str, dict[str, Any]] | None = None

    async def write(self, key: str, data: bytes, arguments: Mapping[str, Any]) -> bool:
        """Write an object. Returns False when the library has to do it. ``arguments`` are those of ``put_object``
        besides key and body. Raises what the library does.
        """
        metadata = {f"x-amz-meta-{name}": value for name, value in arguments["Metadata"].items()}
        declared = {_HEADERS[name]: value for name, value in arguments.items() if name != "Metadata"}
        headers = {"Content-Length": str(len(data)), **metadata, **declared}
        answer = await self._answer("PutObject", "PUT", key, headers, data)
        if answer is not None:
            required(answer.headers, "etag")
        return answer is not None

    async def read(self, key: str) -> StreamingBody | None:
        """Open an object's content, which the caller reads and closes. Returns None when the library has to ask for it.

        Raises what the library does.
        """
        answer = await self._answer("GetObject", "GET", key, {})
        if answer is None:
            return None
        length: Any = answer.headers.get("content-length")  # a string, as the library has it, or None
        return StreamingBody(answer.raw, length)

    async def _answer(
        self, operation_name: str, method: str, key: str, headers: Mapping[str, str], data: bytes = b""
    ) -> AioAWSResponse | None:
        """The answer to a request, None after a redirect. Raises ClientError for a refusal."""
        self._way = self._way or await self._find_way()
        if self._way is None:
            return None
        url, user_agent, context = self._way
        request = AWSRequest(
            method,
            f"{url}/{percent_encode(key, safe='/~')}",
            {"User-Agent": user_agent, **headers},
            data,
            stream_output=method == "GET",
        )
        request.context.update(context)
        await self._client._request_signer.sign(operation_name, request)
        answer: AioAWSResponse = await self._client._endpoint.http_session.send(request.prepare())
        if answer.status_code < 300:
            return answer
        # Read the whole answer, so that its connection can be used again.
        operation = self._client.meta.service_model.operation_model(operation_name)
        refusal = await convert_to_response_dict(answer, operation)
        if answer.status_code in _REDIRECTED:
            self._way = None
            return None
        raise ClientError(await self._client._response_parser.parse(refusal, operation.output_shape), operation_name)

    async def _find_way(self) -> tuple[str, str, dict[str, Any]] | None:
        """The bucket's address, the client's user agent and its signer; None if the bucket needs anything unusual."""
        client, operation = self._client, self._client.meta.service_model.operation_model("PutObject")
        if self._bucket.endswith(_EXPRESS_SUFFIX) or client.meta.config.auth_scheme_preference:
            return None
        context = {
            "client_region": client.meta.region_name,
            "client_config": client.meta.config,
            "has_streaming_input": operation.has_streaming_input,
            "auth_type": operation.resolved_auth_type,
            "unsigned_payload": operation.unsigned_payload,
        }
        parameters = await client._emit_api_params(
            api_params={"Bucket": self._bucket, "Key": "key"}, operation_model=operation, context=context
        )
        url, headers, _ = await client._resolve_endpoint_ruleset(operation, parameters, context)
        return None if headers else (url.rstrip("/"), client._user_agent_creator.to_string(), context)


@dataclass(slots=True, eq=False)
class _SharedClient:
    """A client of the library that is open until its last user has closed it."""

    users: int = 0
    client: Any = None
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    opening: anyio.Lock = field(default_factory=anyio.Lock)


class S3Connector:
    """Makes clients. One instance serves the daemon."""

    def __init__(self, descriptions: Any = None) -> None:
        self._descriptions = descriptions or AioSession().get_component("data_loader")
        self._own_sessions: dict[str, AioSession] = {}
        self._clients: dict[tuple[str, S3Access], _SharedClient] = {}

    def afresh(self) -> "S3Connector":
        """Another connector, which reads all credentials again and shares no client with this one."""
        return S3Connector(self._descriptions)

    async def client(self, access: S3Access, *, stack: AsyncExitStack) -> "S3Client":
        """A client of S3 that stays open until ``stack`` is closed. Raises what the library does."""
        client: S3Client = await self._shared("s3", _rights(access), stack)
        return client

    async def own_identity(self, access: S3Access) -> str:
        """The ARN of the identity that assumes the roles. Raises what the library does."""
        async with AsyncExitStack() as stack:
            client = await self._shared("sts", _rights(access, for_sts=True), stack)
            arn: str = (await client.get_caller_identity())["Arn"]
        return arn

    def forget(self, access: S3Access, client: "S3Client") -> None:
        """Load credentials and certificates again for the next client. The library itself reads them only once.

        Does nothing when ``client`` was forgotten already, by another store.
        """
        shared = self._clients.get(("s3", _rights(access)))
        if shared is not None and shared.client is client:
            del self._clients["s3", _rights(access)]
            self._clients.pop(("sts", _rights(access, for_sts=True)), None)
            self._own_sessions.pop(access.profile, None)

    async def _shared(self, service: str, access: S3Access, stack: AsyncExitStack) -> Any:
        """The client that all stores with the same connection and rights share at the moment."""
        key = service, access
        shared = self._clients.setdefault(key, _SharedClient())
        shared.users += 1
        async with AsyncExitStack() as leaving:
            leaving.push_async_callback(self._leave, key, shared)
            async with shared.opening:
                if shared.client is None:
                    shared.client = await self._open(service, access, shared.stack)
            stack.push_async_exit(leaving.pop_all())
        return shared.client

    async def _leave(self, key: tuple[str, S3Access], shared: _SharedClient) -> None:
        shared.users -= 1
        if not shared.users:
            if self._clients.get(key) is shared:
                del self._clients[key]
            await shared.stack.aclose()

    async def _open(self, service: str, access: S3Access, stack: AsyncExitStack) -> Any:
        session = self._own_session(access.profile)
        if access.role_arn:
            # Open as long as this connector, for renewals and for other roles.
            sts = await self._shared("sts", _rights(access, for_sts=True), stack)
            session = self._session(access.profile)
            session.register_component("credential_provider", _RoleProvider(sts, access))
        endpoint = access.endpoint if service == "s3" else access.sts_endpoint
        create: Callable[..., AbstractAsyncContextManager[Any]] = session.create_client
        try:
            client = await stack.enter_async_context(
                create(
                    service,
                    region_name=access.region or session.get_config_variable("region") or _DEFAULT_REGION,
                    endpoint_url=endpoint or None,
                    verify=str(access.ca_file) if access.ca_file is not None and endpoint else None,
                    config=_config(access),
                )
            )
        except BotoCoreError:
            # A session also remembers, for example, that a profile does not exist.
            self._own_sessions.pop(access.profile, None)
            raise
        if service == "s3":
            client.meta.events.register("before-call.s3.HeadBucket", _redirect_no_further)
        return client

    def _own_session(self, profile: str) -> AioSession:
        """A session with the credentials of a profile, or of the standard chain."""
        if profile not in self._own_sessions:
            self._own_sessions[profile] = self._session(profile)
        return self._own_sessions[profile]

    def _session(self, profile: str) -> AioSession:
        session = AioSession()
        session.register_component("data_loader", self._descriptions)
        if profile:
            session.set_config_variable("profile", profile)
        return session


class _RoleProvider:
    """Where a session of the library gets the credentials of a role from: ``sts`` gives them."""

    def __init__(self, sts: Any, access: S3Access) -> None:
        self._sts = sts
        self._access = access

    async def load_credentials(self) -> AioDeferredRefreshableCredentials:
        return AioDeferredRefreshableCredentials(refresh_using=self._assume, method="sts-assume-role")

    async def _assume(self) -> dict[str, Any]:
        answer = await self._sts.assume_role(
            RoleArn=self._access.role_arn,
            RoleSessionName=self._access.role_session_name,
            DurationSeconds=_ROLE_DURATION_S,
            **({"ExternalId": self._access.external_id} if self._access.external_id else {}),
        )
        given = answer["Credentials"]
        return {
            "access_key": given["AccessKeyId"],
            "secret_key": given["SecretAccessKey"],
            "token": given["SessionToken"],
            "expiry_time": given["Expiration"].isoformat(),
        }


class _HttpSession(AIOHTTPSession):
    """Shares the trusted certificates with all other sessions, because loading them takes 13 ms and 0.7 MB."""

    def __init__(self, verify: Any = True, **options: Any) -> None:
        super().__init__(verify, **options)
        self._certificates = str(get_cert_path(verify))  # ``verify`` may be a path, which the library's types lack

    def _build_verify_context(self) -> "SSLContext":
        # The library's hook, which has no public name. It would add certificates of clients and of proxies to the
        # context, which exportd does not use. So one context serves all.
        library: Any = super()
        found = Path(self._certificates).stat()
        version = found.st_ino, found.st_mtime_ns  # a file that was replaced is loaded again
        if self._certificates not in _CONTEXTS or _CONTEXTS[self._certificates][0] != version:
            _CONTEXTS[self._certificates] = version, library._build_verify_context()
        return _CONTEXTS[self._certificates][1]


_CONTEXTS: dict[str, tuple[tuple[int, int], "SSLContext"]] = {}
"""The TLS contexts, by the file of the certificates."""


def _rights(access: S3Access, *, for_sts: bool = False) -> S3Access:
    """The part of the access that decides where requests go and with which rights. Without a role, the external id is
    not used. For a session of STS, it is the credentials that assume the role.
    """
    if for_sts:
        return replace(access, endpoint="", role_arn="", external_id="")
    return access if access.role_arn else replace(access, external_id="", sts_endpoint="")


def _redirect_no_further(params: dict[str, Any], **_: object) -> None:
    """Keep the library from asking for a bucket's region endlessly: it asks after a redirect, and that request may be
    redirected too.
    """
    params["context"].setdefault("s3_redirect", {})["redirected"] = True


def _config(access: S3Access) -> AioConfig:
    return AioConfig(
        # One attempt, because the retry budget of the transfers alone decides what is repeated.
        retries={"mode": "standard", "total_max_attempts": 1},
        http_session_cls=_HttpSession,
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
            # TLS and the checksum protect the body. Another hash would only block the event loop.
            "payload_signing_enabled": False if access.is_encrypted else None,
        },
    )
