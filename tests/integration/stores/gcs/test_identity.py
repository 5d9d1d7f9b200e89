"""Every way to prove to Google who we are, against a token service on the loopback; and that no token gets out."""

import json
import logging
import sys
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote
from weakref import WeakValueDictionary

import anyio
import pytest
import structlog
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from exportd.model.errors import ExportdError, PermanentError, TransientError
from exportd.stores.gcs.identity import (
    AwsRole,
    CredentialsFile,
    GcsIdentity,
    SubjectTokenSource,
    TokenCommand,
    TokenFile,
    TokenUrl,
    WorkloadIdentity,
)
from exportd.stores.gcs.requester import GcsTokens
from exportd.stores.gcs.store import GcsStore
from exportd.stores.gcs.token_fetcher import GcsToken
from exportd.stores.layout import ObjectKey
from tests.fixtures.server_process import LOOPBACK
from tests.fixtures.strict_gcs import BUCKET, StrictGcs, running_strict_gcs

KEY = ObjectKey("part.csv.gz")
SUBJECT_TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJleHBvcnRkIn0.c2lnbmF0dXJlLW9mLXRoZS1zdWJqZWN0"
STS_TOKEN = "ya29.federated-0123456789-0123456789-0123456789"
ACCOUNT_TOKEN = "ya29.impersonated-0123456789-0123456789-0123456789"
KEY_TOKEN = "ya29.of-the-key-0123456789-0123456789-0123456789"
SECRETS = (SUBJECT_TOKEN, STS_TOKEN, ACCOUNT_TOKEN, KEY_TOKEN)
AUDIENCE = "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/exports/providers/cluster"


@dataclass
class TokenService:
    """Google's token exchange and impersonation, and the identity provider's address."""

    endpoint: str = ""
    exchanges: list[dict[str, str]] = field(default_factory=list)
    impersonations: list[tuple[str, str]] = field(default_factory=list)
    refusal: tuple[int, dict[str, str]] | None = None
    lifetime_s: int = 3600

    async def exchange(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.exchanges.append(form)
        if self.refusal is not None:
            return web.json_response(self.refusal[1], status=self.refusal[0])
        token = KEY_TOKEN if "assertion" in form else STS_TOKEN
        kind = "urn:ietf:params:oauth:token-type:access_token"
        document = {"access_token": token, "expires_in": self.lifetime_s, "token_type": "Bearer"}
        return web.json_response({**document, "issued_token_type": kind})

    async def impersonate(self, request: web.Request) -> web.Response:
        self.impersonations.append((request.path, request.headers["Authorization"]))
        return web.json_response({"accessToken": ACCOUNT_TOKEN, "expireTime": "2099-01-01T00:00:00Z"})

    async def subject(self, request: web.Request) -> web.Response:
        return web.Response(text=SUBJECT_TOKEN)


@asynccontextmanager
async def running_token_service() -> AsyncIterator[TokenService]:
    service = TokenService()
    application = web.Application()
    application.router.add_post("/v1/token", service.exchange)
    application.router.add_post("/v1/projects/-/serviceAccounts/{account}", service.impersonate)
    application.router.add_get("/subject", service.subject)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, 0).start()
    host, port = runner.addresses[0][:2]
    service.endpoint = f"http://{host}:{port}"
    try:
        yield service
    finally:
        await runner.cleanup()


@pytest.fixture
async def tokens() -> AsyncIterator[TokenService]:
    async with running_token_service() as running:
        yield running


@pytest.fixture
async def server() -> AsyncIterator[StrictGcs]:
    async with running_strict_gcs() as running:
        yield running


def workload(tokens: TokenService, source: SubjectTokenSource, *, service_account: str = "") -> WorkloadIdentity:
    return WorkloadIdentity(
        "123",
        "exports",
        "cluster",
        source,
        service_account=service_account,
        sts_url=f"{tokens.endpoint}/v1/token",
        credentials_url=tokens.endpoint,
    )


def token_file(folder: Path) -> TokenFile:
    path = folder / "token"
    path.write_text(SUBJECT_TOKEN)
    return TokenFile(path)


async def put(server: StrictGcs, identity: GcsIdentity, *, tokens: GcsTokens | None = None) -> None:
    store = GcsStore(BUCKET, identity, endpoint=server.endpoint, tokens=tokens)
    try:
        await store.put(KEY, b"rows")
    finally:
        await store.aclose()


async def put_in_vain(server: StrictGcs, identity: GcsIdentity) -> ExportdError:
    """The error; nothing of a token is in it."""
    with pytest.raises(ExportdError) as caught:
        await put(server, identity)
    output = "".join(traceback.format_exception(caught.value))
    assert not [secret for secret in SECRETS if secret in output]
    assert server.objects == {}
    return caught.value


def program(folder: Path, script: str) -> TokenCommand:
    path = folder / "provider.py"
    path.write_text(script)
    return TokenCommand(f"{sys.executable} {path}", timeout_s=5)


@pytest.mark.parametrize("kind", ["file", "url", "program"])
async def test_a_subject_token_is_exchanged(
    server: StrictGcs, tokens: TokenService, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "0")
    server.tokens = [f"Bearer {STS_TOKEN}"]
    answer = {
        "version": 1,
        "success": True,
        "token_type": "urn:ietf:params:oauth:token-type:jwt",
        "id_token": SUBJECT_TOKEN,
        "expiration_time": 4_000_000_000,
    }
    sources: dict[str, SubjectTokenSource] = {
        "file": token_file(tmp_path),
        "url": TokenUrl(f"{tokens.endpoint}/subject"),
        "program": program(tmp_path, f"print({json.dumps(answer)!r})"),
    }
    await put(server, workload(tokens, sources[kind]))
    assert server.objects[KEY].content == b"rows"
    (exchange,) = tokens.exchanges
    assert exchange["subject_token"] == SUBJECT_TOKEN
    assert exchange["audience"] == AUDIENCE
    assert exchange["scope"] == "https://www.googleapis.com/auth/devstorage.read_write"


async def test_a_service_account_is_impersonated(server: StrictGcs, tokens: TokenService, tmp_path: Path) -> None:
    server.tokens = [f"Bearer {ACCOUNT_TOKEN}"]
    account = "exporter@acme.iam.gserviceaccount.com"
    await put(server, workload(tokens, token_file(tmp_path), service_account=account))
    assert server.objects[KEY].content == b"rows"
    ((path, authorization),) = tokens.impersonations
    assert path == f"/v1/projects/-/serviceAccounts/{account}:generateAccessToken"
    assert authorization == f"Bearer {STS_TOKEN}"


async def test_a_role_of_aws_is_exchanged(
    server: StrictGcs, tokens: TokenService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Google would do with it, asking AWS, is not to be had here; that it is a signed request of ours is."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the secret of the role")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    server.tokens = [f"Bearer {STS_TOKEN}"]
    await put(server, workload(tokens, AwsRole()))
    (exchange,) = tokens.exchanges
    request = json.loads(unquote(exchange["subject_token"]))
    assert request["url"].startswith("https://sts.eu-west-1.amazonaws.com?Action=GetCallerIdentity")
    signed = {header["key"]: header["value"] for header in request["headers"]}
    assert signed["x-goog-cloud-target-resource"] == AUDIENCE
    assert "AKIAEXAMPLE" in signed["Authorization"]
    assert "the secret of the role" not in exchange["subject_token"]


async def test_a_credential_configuration_of_google_is_taken(
    server: StrictGcs, tokens: TokenService, tmp_path: Path
) -> None:
    server.tokens = [f"Bearer {STS_TOKEN}"]
    path = tmp_path / "configuration.json"
    path.write_text(json.dumps(workload(tokens, token_file(tmp_path)).credential_configuration()))
    await put(server, CredentialsFile(path))
    assert server.objects[KEY].content == b"rows"


async def test_the_key_of_a_service_account_is_taken(server: StrictGcs, tokens: TokenService, tmp_path: Path) -> None:
    server.tokens = [f"Bearer {KEY_TOKEN}"]
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key = {
        "type": "service_account",
        "client_email": "exporter@acme.iam.gserviceaccount.com",
        "private_key": private.decode(),
        "token_uri": f"{tokens.endpoint}/v1/token",
    }
    path = tmp_path / "key.json"
    path.write_text(json.dumps(key))
    await put(server, CredentialsFile(path))
    assert server.objects[KEY].content == b"rows"


async def test_a_token_is_fetched_once_and_anew_when_it_is_not_accepted(
    server: StrictGcs, tokens: TokenService, tmp_path: Path
) -> None:
    server.tokens = [f"Bearer {STS_TOKEN}"]
    store = GcsStore(BUCKET, workload(tokens, token_file(tmp_path)), endpoint=server.endpoint)
    await store.put(KEY, b"rows")
    await store.head(KEY)
    assert len(tokens.exchanges) == 1
    server.tokens = ["Bearer another"]
    with pytest.raises(PermanentError, match="Google does not accept who exportd says it is"):
        await store.head(KEY)
    assert len(tokens.exchanges) == 2
    await store.aclose()


async def test_stores_with_the_same_identity_share_a_token(
    server: StrictGcs, tokens: TokenService, tmp_path: Path
) -> None:
    server.tokens = [f"Bearer {STS_TOKEN}"]
    shared: GcsTokens = WeakValueDictionary()
    identity = workload(tokens, token_file(tmp_path))
    other = replace(identity, service_account="of-another")
    one, *others = (GcsStore(BUCKET, identity, endpoint=server.endpoint, tokens=shared) for _ in range(20))
    async with anyio.create_task_group() as tasks:
        for number, store in enumerate((one, *others)):
            tasks.start_soon(store.put, ObjectKey(f"{number}.csv.gz"), b"rows")
    assert len(tokens.exchanges) == 1
    with pytest.raises(PermanentError):  # its own token is none that the bucket takes
        await put(server, other, tokens=shared)
    assert len(tokens.impersonations) == 2
    for store in others:
        await store.aclose()
    assert identity in shared
    await one.aclose()
    assert not shared, "what no store uses is forgotten"


async def test_those_who_wait_for_a_token_share_the_failure(tokens: TokenService, tmp_path: Path) -> None:
    """Otherwise each would ask in its turn, and the last one would wait for all."""
    tokens.refusal = (503, {"error": "unavailable"})
    token = GcsToken(workload(tokens, token_file(tmp_path)))
    failures: dict[str, str] = {}

    async def ask(bucket: str) -> None:
        with pytest.raises(TransientError) as failure:
            await token.value(bucket=bucket)
        failures[bucket] = failure.value.sentence

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(ask, f"bucket-{number}")
    assert len(tokens.exchanges) == 1
    assert all(f"gs://{bucket}: Google gave no token" in sentence for bucket, sentence in failures.items())
    assert len(failures) == 20
    tokens.refusal = None
    assert await token.value(bucket="bucket") == STS_TOKEN


async def test_the_one_who_fetches_may_leave(tokens: TokenService, tmp_path: Path) -> None:
    token = GcsToken(workload(tokens, token_file(tmp_path)))
    values: list[str] = []

    async def ask() -> None:
        values.append(await token.value(bucket="bucket"))

    async with anyio.create_task_group() as waiting, anyio.create_task_group() as leaving:
        leaving.start_soon(ask)
        await anyio.lowlevel.checkpoint()
        waiting.start_soon(ask)
        await anyio.lowlevel.checkpoint()
        leaving.cancel_scope.cancel()
    assert values == [STS_TOKEN]


async def test_a_token_near_its_end_serves_while_no_other_is_to_be_had(
    server: StrictGcs, tokens: TokenService, tmp_path: Path
) -> None:
    server.tokens = [f"Bearer {STS_TOKEN}"]
    tokens.lifetime_s = 200
    store = GcsStore(BUCKET, workload(tokens, token_file(tmp_path)), endpoint=server.endpoint)
    await store.put(KEY, b"rows")
    tokens.refusal = (503, {"error": "unavailable"})
    assert await store.head(KEY) is not None
    assert len(tokens.exchanges) > 1
    await store.aclose()


async def test_an_upload_needs_no_token_and_gets_none(server: StrictGcs, tokens: TokenService, tmp_path: Path) -> None:
    server.tokens = [f"Bearer {STS_TOKEN}"]
    store = GcsStore(BUCKET, workload(tokens, token_file(tmp_path)), endpoint=server.endpoint)
    upload = await store.start(KEY)
    await store.complete(upload, [], b"rows")
    assert [("Authorization" in request.headers) for request in server.seen] == [True, False]
    await store.aclose()


async def test_what_the_token_service_refuses_is_said_without_the_token(
    server: StrictGcs, tokens: TokenService, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tokens.refusal = (400, {"error": "invalid_grant", "error_description": f"The token {SUBJECT_TOKEN} is not for us."})
    with structlog.testing.capture_logs() as logs:
        error = await put_in_vain(server, workload(tokens, token_file(tmp_path)))
    assert isinstance(error, PermanentError)
    assert "invalid_grant" in error.sentence
    assert "provider cluster of the workload identity pool projects/123/" in error.sentence
    assert "docs/destinations.md" in error.sentence
    output = caplog.text + repr(logs)
    assert not [secret for secret in SECRETS if secret in output]


async def test_a_token_service_that_is_away_is_transient(
    server: StrictGcs, tokens: TokenService, tmp_path: Path
) -> None:
    identity = WorkloadIdentity("123", "exports", "cluster", token_file(tmp_path), sts_url="http://127.0.0.1:1/token")
    assert isinstance(await put_in_vain(server, identity), TransientError)
    tokens.refusal = (500, {"error": "server_error"})
    error = await put_in_vain(server, workload(tokens, token_file(tmp_path)))
    assert isinstance(error, TransientError)
    assert "HTTP 500" in error.sentence


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (f"import sys; print('{SUBJECT_TOKEN}'); sys.exit(3)", "non-zero return code 3"),
        (f"print('{SUBJECT_TOKEN}')", "gave no token"),
    ],
)
async def test_a_program_that_fails_is_not_quoted(
    server: StrictGcs, tokens: TokenService, tmp_path: Path, script: str, said: str
) -> None:
    error = await put_in_vain(server, workload(tokens, program(tmp_path, script)))
    assert isinstance(error, PermanentError)
    assert said in error.sentence


async def test_a_token_file_that_is_missing_is_named(server: StrictGcs, tokens: TokenService, tmp_path: Path) -> None:
    error = await put_in_vain(server, workload(tokens, TokenFile(tmp_path / "nothing")))
    assert "nothing" in error.sentence
    assert isinstance(error, PermanentError)


@pytest.mark.parametrize("content", ["", "[]", '{"type": "authorized_user"}', '{"type": "service_account"}'])
async def test_a_file_that_holds_no_credentials_is_refused(server: StrictGcs, tmp_path: Path, content: str) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(content)
    error = await put_in_vain(server, CredentialsFile(path))
    assert isinstance(error, PermanentError)
    assert str(path) in error.sentence


async def test_without_googles_library_there_is_a_sentence(
    server: StrictGcs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gcloud.aio.auth", None)
    error = await put_in_vain(server, CredentialsFile(tmp_path / "key.json"))
    assert isinstance(error, PermanentError)
    assert "Install exportd anew" in error.sentence
