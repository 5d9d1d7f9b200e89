"""Who may make a request is decided by its head; and what clients that stop in the middle of a body hold up."""

import asyncio
import os
import socket
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import anyio
import pytest

from exportd.api.identity.client_table import Role
from exportd.api.transport import acceptor
from exportd.api.transport.unix_socket import Peer
from tests.integration.api.standalone_api import ACME, ApiServer, path

READER = Peer(1, os.getuid() + 1, frozenset())
OTHER_READER = Peer(2, os.getuid() + 2, frozenset())
ADMINISTRATOR = Peer(3, os.getuid(), frozenset())


def bodies(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Method and path of every operation that takes a body."""
    found = [
        (method.upper(), url.replace("{orgId}", ACME).replace("{id}", str(uuid4())))
        for url, operations in document["paths"].items()
        for method, operation in operations.items()
        if "requestBody" in operation
    ]
    assert len(found) >= 12
    return found


def begun(method: str, url: str, *headers: str, body: bytes = b'{"beg') -> bytes:
    """A request whose body is not all there."""
    lines = [f"{method} {url} HTTP/1.1", "host: localhost", "content-type: application/json", *headers]
    return "\r\n".join([*lines, "content-length: 1000", "", ""]).encode() + body


async def status_of(stream: anyio.abc.ByteStream, request: bytes) -> int:
    await stream.send(request)
    with anyio.fail_after(20):
        return int((await stream.receive()).split()[1])


async def test_without_credentials_no_body_is_read(api: ApiServer) -> None:
    assert api.tcp.base_url.port is not None
    for method, url in bodies((await api.http.get("/openapi.json")).json()):
        async with await anyio.connect_tcp("127.0.0.1", api.tcp.base_url.port) as stream:
            assert await status_of(stream, begun(method, url)) == 401, (method, url)


@pytest.mark.parametrize("body", [b'{"beg', b"{not JSON" * 200])
async def test_what_a_reader_may_not_do_is_refused_before_its_body_is_read(api: ApiServer, body: bytes) -> None:
    assert api.tcp.base_url.port is not None
    (authorization,) = (await api.bearer(role=Role.READER)).values()
    for method, url in bodies((await api.http.get("/openapi.json")).json()):
        if url not in {"/oauth/token", "/v1/adhoc/preview"}:  # a reader may ask what an export would hold
            async with await anyio.connect_tcp("127.0.0.1", api.tcp.base_url.port) as stream:
                request = begun(method, url, f"authorization: {authorization}", body=body)
                assert await status_of(stream, request) == 403, (method, url)


async def test_an_operation_decides_once(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    authenticator = api.using.access.authenticator
    identify = type(authenticator).identify

    async def counted(self: object, *arguments: Any, **named: Any) -> Any:
        asked.append(self)
        return await identify(authenticator, *arguments, **named)

    monkeypatch.setattr(type(authenticator), "identify", counted)
    assert (await api.http.get(path(ACME, "schedules"))).status_code == 200
    assert len(asked) == 1


async def test_half_sent_bodies_keep_neither_others_nor_administrators_out(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two users of this machine. Their bodies are waited for, since they may send them."""
    monkeypatch.setattr(acceptor, "MAX_CONNECTIONS", 16)
    caller = [READER]
    monkeypatch.setattr(acceptor, "peer_of", lambda _: caller[0])
    request = begun("POST", "/oauth/token", "authorization: Basic bG9jYWw6LQ==")
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as lines:

        async def crowd(peer: Peer) -> None:
            for _ in range(20):
                line = lines.enter_context(socket.socket(socket.AF_UNIX))
                line.setblocking(False)
                caller[0] = peer
                await loop.sock_connect(line, str(api.socket))
                await loop.sock_sendall(line, request)
                await asyncio.sleep(0)

        await crowd(READER)
        await crowd(OTHER_READER)
        for peer in (ADMINISTRATOR, Peer(4, os.getuid() + 3, frozenset()), READER, ADMINISTRATOR):
            caller[0] = peer
            async with await anyio.connect_unix(str(api.socket)) as stream:
                head = b"GET /v1/organizations HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
                assert await status_of(stream, head) == 200


async def test_an_administrator_gets_the_place_of_a_busy_reader(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "MAX_CONNECTIONS", 4)
    caller = [READER]
    monkeypatch.setattr(acceptor, "peer_of", lambda _: caller[0])
    listen = b"GET /v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n"
    async with AsyncExitStack() as streams:
        for peer in (READER, READER, OTHER_READER, OTHER_READER):
            caller[0] = peer
            stream = await streams.enter_async_context(await anyio.connect_unix(str(api.socket)))
            assert await status_of(stream, listen) == 200
        caller[0] = Peer(4, os.getuid() + 3, frozenset())
        stream = await streams.enter_async_context(await anyio.connect_unix(str(api.socket)))
        assert await status_of(stream, listen) == 503
        caller[0] = ADMINISTRATOR
        stream = await streams.enter_async_context(await anyio.connect_unix(str(api.socket)))
        assert await status_of(stream, listen) == 200
