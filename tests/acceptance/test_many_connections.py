"""Ten thousand connections at once on the socket of the real daemon, from a hostile client."""

import asyncio
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from exportd.api.transport.acceptor import MAX_CONNECTIONS
from tests.acceptance.declarations import destination, schedule
from tests.acceptance.sample_application import CATALOG, Application
from tests.fixtures.daemon import Daemon, Site, until

CROWD = 10_000
_OTHER_FILES = 500
"""What the test itself has open; generously."""

_COMING_AND_GOING = 64
"""Of the daemon's files: connections to the database, and those that were just let in or are just being closed."""

WORDS = (
    b"",  # hangs
    b"GET /v1/status HTTP/1.1\r\nhost: localhost\r\nx-more: ",  # begins, and goes no further
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # garbage
    b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n",  # asks, and takes nothing of the answer
)


@contextmanager
def room_for_files(count: int) -> Iterator[int]:
    """So many files may be open, or as many as the machine allows; says how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    try:
        yield allowed
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def arrive(path: Path, number: int) -> socket.socket:
    """One of the crowd. Blocks while the daemon has more to welcome than may wait."""
    line = socket.socket(socket.AF_UNIX)
    line.connect(str(path))
    with suppress(BrokenPipeError, ConnectionResetError):  # it was closed already
        line.sendall(WORDS[number % len(WORDS)])
    line.setblocking(False)
    return line


def is_closed(line: socket.socket) -> bool:
    """Whether the daemon has closed the connection; what it sent before is read."""
    try:
        while line.recv(1 << 20):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        pass
    return True


def files_of(daemon: Daemon) -> int:
    return len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir()))


@pytest.mark.slow
async def test_ten_thousand_connections_do_not_keep_others_from_being_served(
    site: Site, application: Application
) -> None:
    lake = site.destination()
    site.configure(CATALOG, {"schedule": [schedule()], "destination": [destination("lake", lake)]})
    daemon = await site.start_program()
    await site.succeeded(application.connection, await site.first_job(application.connection))
    most_files = files_of(daemon) + MAX_CONNECTIONS + _COMING_AND_GOING
    with room_for_files(CROWD + _OTHER_FILES) as files, ExitStack() as crowd:
        size = min(CROWD, files - _OTHER_FILES)
        assert size > 10 * MAX_CONNECTIONS, "this machine allows too few open files to tell anything"
        lines: list[socket.socket] = []

        def gather() -> None:
            socket_path = site.folder / "control.sock"
            lines.extend(crowd.enter_context(arrive(socket_path, number)) for number in range(size))

        gathering = asyncio.create_task(asyncio.to_thread(gather))
        job = await site.fire()
        served = 0
        while not gathering.done() or not served:
            answer = await site.quickly("status", "--json")
            assert answer.returncode == 0, answer.stderr
            assert files_of(daemon) <= most_files
            served += 1
        await gathering
        await site.succeeded(application.connection, job)

        async def excess_is_gone() -> bool:
            assert files_of(daemon) <= most_files
            return sum(not is_closed(line) for line in lines) <= MAX_CONNECTIONS

        await until(excess_is_gone, what="the end of the excess connections")
        answer = await site.quickly("job", "list")
        assert answer.returncode == 0, answer.stderr
    assert not daemon.events_named("request failed")
    assert "Traceback" not in daemon.text
    assert await daemon.stop() == 0
    await site.assert_clean(lake)
