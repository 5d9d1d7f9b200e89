"""Clients over TCP that do not come to an agreement on TLS. No database is needed."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest
from starlette.responses import PlainTextResponse

from exportd.api.transport import acceptor
from exportd.api.transport.certificate import Certificate
from exportd.api.transport.server import EmbeddedServer

HELLO = bytes.fromhex("16030100c8010000c40303")
"""The beginning of a client's hello, which announces 200 bytes."""


@asynccontextmanager
async def listening(certificate: Certificate) -> AsyncIterator[int]:
    """A server with TLS; the port."""
    server = EmbeddedServer(PlainTextResponse("here"), certificate)
    async with anyio.create_task_group() as group:
        with socket.create_server(("127.0.0.1", 0)) as found:
            found.setblocking(False)
            group.start_soon(server.serve, [found])
            await server.listening.wait()
            yield found.getsockname()[1]
            server.should_exit = True


async def end_of(line: socket.socket) -> bytes:
    """What comes until the connection is closed."""
    received = b""
    with anyio.fail_after(20):
        try:
            while piece := await asyncio.get_running_loop().sock_recv(line, 4096):
                received += piece
        except ConnectionResetError:
            pass
    return received


@pytest.mark.parametrize("said", [b"", HELLO, b"\x16"])
async def test_a_handshake_that_is_not_finished_in_time_is_given_up(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(acceptor, "HANDSHAKE_TIMEOUT_S", 0.1)
    async with listening(certificate) as port:
        with socket.create_connection(("127.0.0.1", port)) as line:
            line.setblocking(False)
            line.send(said)
            assert await end_of(line) == b""


async def test_connections_in_a_handshake_count_and_the_oldest_goes_first(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "MAX_CONNECTIONS", 8)  # of one address 4
    async with listening(certificate) as port:
        lines = [socket.create_connection(("127.0.0.1", port)) for _ in range(6)]
        for line in lines:
            line.setblocking(False)
        for line in lines[:2]:
            assert await end_of(line) == b""
            line.close()
        for line in lines[2:]:
            with pytest.raises(BlockingIOError):
                line.recv(1)
        # A handshake that is under way when the server stops does not hold it up.
    for line in lines[2:]:
        assert await end_of(line) == b""
        line.close()


async def test_files_are_kept_for_others(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "HANDSHAKE_TIMEOUT_S", 0.1)
    left = [0]
    monkeypatch.setattr(acceptor, "files_left", lambda: left[0])
    async with listening(certificate) as port:
        with socket.create_connection(("127.0.0.1", port)) as line:
            line.setblocking(False)
            ended = asyncio.create_task(end_of(line))
            await asyncio.wait([ended], timeout=0.5)
            assert not ended.done(), "it waits in the kernel, where it needs no file of ours"
            left[0] = 1 << 20
            assert await ended == b""
