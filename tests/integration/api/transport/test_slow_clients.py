"""Clients that ask and do not take what is answered, and requests that outlast the daemon. No database is needed."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from exportd.api.job_watcher import EventStream
from exportd.api.transport import connection, server
from exportd.api.transport.client_limits import RateLimit
from exportd.api.transport.gate import Gate
from exportd.api.transport.server import EmbeddedServer
from exportd.model.clock import SystemClock

PIECE_BYTES = 50_000


@dataclass
class Served:
    """A server on a Unix socket, and how many of its endless streams are open."""

    path: Path
    server: EmbeddedServer
    streams: list[int] = field(default_factory=list)
    ended: anyio.Event = field(default_factory=anyio.Event)

    @property
    def unsent_bytes(self) -> int:
        return sum(connection.transport.get_write_buffer_size() for connection in self.server.server_state.connections)

    @asynccontextmanager
    async def asking(self, target: str) -> AsyncIterator[socket.socket]:
        """A client that has sent a request, and reads nothing of itself."""
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, str(self.path))
            client.send(f"GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            yield client


async def until(seen: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not seen():
            await anyio.lowlevel.checkpoint()


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[Served]:
    async def flood() -> AsyncGenerator[bytes]:
        found.streams.append(1)
        try:
            while True:
                await asyncio.sleep(0)
                yield b"x" * PIECE_BYTES
        finally:
            found.streams.pop()

    def streaming(kind: Callable[[AsyncGenerator[bytes]], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(_request: Request) -> Response:
            return kind(flood())

        return answer

    async def brief(_request: Request) -> Response:
        return PlainTextResponse("here")

    async def endless(_request: Request) -> Response:
        await anyio.Event().wait()
        return PlainTextResponse("never")

    application = Starlette(
        routes=[
            Route("/events", streaming(EventStream)),
            Route("/download", streaming(StreamingResponse)),
            Route("/brief", brief),
            Route("/endless", endless),
        ]
    )
    clock = SystemClock()
    gate = Gate(application, hosts={"localhost"}, address_limit=RateLimit(1000, 1.0), clock=clock)
    found = Served(folder / "control.sock", EmbeddedServer(gate))
    async with anyio.create_task_group() as group:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(found.path))
            listening.listen()
            listening.setblocking(False)

            async def serve() -> None:
                await found.server.serve([listening])
                found.ended.set()

            group.start_soon(serve)
            await found.server.listening.wait()
            yield found
            found.server.should_exit = True
            await found.ended.wait()


@pytest.mark.parametrize("target", ["/events", "/download"])
async def test_who_takes_nothing_is_dropped_and_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setattr(connection, "WRITE_STALL_TIMEOUT_S", 0.5)
    async with served(tmp_path) as found, found.asking(target):
        await until(lambda: found.unsent_bytes > 0)
        # What the kernel does not take any more is one piece and its frame, however much there is to tell.
        assert found.unsent_bytes <= PIECE_BYTES + 100
        async with httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(found.path)), base_url="http://localhost"
        ) as http:
            assert (await http.get("/brief")).text == "here"
            assert found.streams, "it is still waited for"
        await until(lambda: not found.server.server_state.connections)
        await until(lambda: not found.streams)


async def test_who_takes_what_comes_is_never_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "WRITE_STALL_TIMEOUT_S", 0.3)
    loop = asyncio.get_running_loop()
    async with served(tmp_path) as found, found.asking("/events") as client:
        end = loop.time() + 1.0
        while loop.time() < end:
            await until(lambda: found.unsent_bytes > 0)
            while found.unsent_bytes:
                assert await loop.sock_recv(client, 65536)
        assert found.streams


async def test_who_vanishes_is_not_spoken_to_any_more(tmp_path: Path) -> None:
    async with served(tmp_path) as found:
        async with found.asking("/events"):
            await until(lambda: bool(found.streams))
        await until(lambda: not found.streams and not found.server.server_state.connections)


async def test_a_request_that_outlasts_the_daemon_gets_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_GRACE_S", 0.1)
    async with served(tmp_path) as found, found.asking("/endless") as client, found.asking("/events"):
        await until(lambda: len(found.server.server_state.tasks) == 2 and found.unsent_bytes > 0)
        found.server.should_exit = True
        with anyio.fail_after(10):
            await found.ended.wait()
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert json.loads(body)["message"].startswith("The daemon is stopping.")
