"""Clients over TCP that connect and never begin TLS, against the real daemon, which has few files."""

import asyncio
import shutil
import socket
import ssl
from contextlib import ExitStack, suppress

import pytest
import trustme

from tests.acceptance.declarations import destination, schedule
from tests.acceptance.sample_application import CATALOG, Application
from tests.acceptance.test_many_connections import files_of, is_closed, room_for_files
from tests.acceptance.test_tls import TLS, authority, issue, port_of
from tests.fixtures.daemon import Site, until

__all__ = ["authority"]

CROWD = 2000
FILES = 256
"""The daemon itself needs about 60."""


def arrive(port: int, address: str) -> socket.socket:
    """A client at that address of this machine, which says nothing. Its connection may still wait in the kernel."""
    line = socket.socket()
    line.setblocking(False)
    line.bind((address, 0))
    with suppress(BlockingIOError):
        line.connect(("127.0.0.1", port))
    return line


def greet(port: int, authority: trustme.CA) -> int:
    """The status that a client with TLS gets without credentials."""
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as line,
        trusting.wrap_socket(line, server_hostname="127.0.0.1") as secure,
    ):
        secure.sendall(b"GET /v1/status HTTP/1.1\r\nhost: localhost\r\n\r\n")
        return int(secure.recv(4096).split()[1])


@pytest.mark.parametrize("addresses", [1, 50])
async def test_silent_connections_take_no_file_that_others_need(
    site: Site, application: Application, authority: trustme.CA, addresses: int
) -> None:
    prlimit = shutil.which("prlimit")
    assert prlimit is not None, "prlimit of util-linux is needed"
    issue(authority, site.folder)
    lake = site.destination()
    site.configure(
        CATALOG,
        {
            "schedule": [schedule()],
            "destination": [destination("lake", lake)],
            "control": {"socket": "control.sock", **TLS},
        },
    )
    daemon = site.launch(wrapper=[prlimit, f"--nofile={FILES}:{FILES}"])
    await daemon.wait_for_event("daemon ready")
    await site.succeeded(application.connection, await site.first_job(application.connection))
    port = port_of(daemon)
    with room_for_files(CROWD + 500), ExitStack() as crowd:
        lines = [crowd.enter_context(arrive(port, f"127.0.0.{2 + number % addresses}")) for number in range(CROWD)]
        for _ in range(3):
            answer = await site.quickly("status", "--json")
            assert answer.returncode == 0, answer.stderr
            assert files_of(daemon) <= FILES * 3 // 4
            assert await asyncio.to_thread(greet, port, authority) == 401
            await site.succeeded(application.connection, await site.fire())

        async def excess_is_gone() -> bool:
            assert files_of(daemon) <= FILES * 3 // 4
            return sum(not is_closed(line) for line in lines) <= FILES // 4

        await until(excess_is_gone, what="the end of the excess connections")
    assert not daemon.events_named("job attempt failed")
    assert "Traceback" not in daemon.text
    assert await daemon.stop() == 0
    await site.assert_clean(lake)
