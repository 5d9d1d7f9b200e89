"""What a client claims of its address, against limits that go by it. No database is needed."""

import socket

import anyio
import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from exportd.api.transport.server import EmbeddedServer


async def who(scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope)
    assert request.client is not None
    await JSONResponse([request.client.host, request.url.scheme])(scope, receive, send)


async def test_a_forwarded_address_is_not_believed_from_the_loopback_neither() -> None:
    server = EmbeddedServer(who)
    async with anyio.create_task_group() as group:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            group.start_soon(server.serve, [listening])
            await server.listening.wait()
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            async with httpx.AsyncClient(trust_env=False) as client:
                claimed = {"x-forwarded-for": "192.0.2.7", "x-forwarded-proto": "https", "forwarded": "for=192.0.2.7"}
                assert (await client.get(url, headers=claimed)).json() == ["127.0.0.1", "http"]
            server.should_exit = True
