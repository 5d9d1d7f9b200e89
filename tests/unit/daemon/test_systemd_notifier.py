"""The notifier sends to a real datagram socket, and does nothing without one."""

import os
import socket
import time
from pathlib import Path

import anyio
import pytest

from exportd.daemon.systemd_notifier import READY, SystemdNotifier, reloading, status
from tests.fixtures.service_manager import service_manager


def taken(**environment: str) -> SystemdNotifier:
    return SystemdNotifier.taken_from(environment, process_id=os.getpid())


async def test_a_message_arrives_as_it_is(tmp_path: Path) -> None:
    with service_manager(tmp_path) as manager:
        said = status("two  schedules\nand – more")
        assert taken(NOTIFY_SOCKET=str(manager.path)).notify(f"{READY}\n{said}")
        assert await manager.next_message() == {"READY": "1", "STATUS": "two schedules and – more"}


def test_an_abstract_address_is_understood() -> None:
    name = f"exportd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(f"\0{name}")
        assert taken(NOTIFY_SOCKET=f"@{name}").notify(READY)
        assert receiving.recv(100) == READY.encode()


def test_a_reload_says_when_it_began() -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    first, second = reloading().splitlines()
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_without_systemd_nothing_is_sent(tmp_path: Path) -> None:
    assert not taken().notify(READY)
    assert not taken(NOTIFY_SOCKET=str(tmp_path / "gone")).notify(READY)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(tmp_path / "dead"))
    assert not taken(NOTIFY_SOCKET=str(tmp_path / "dead")).notify(READY)


def test_children_do_not_inherit_what_is_for_us() -> None:
    environment = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "HOME": "/"}
    SystemdNotifier.taken_from(environment, process_id=2)
    assert environment == {"HOME": "/"}


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "7"}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_PID": "7"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_served_when_it_is_meant_for_this_process(
    environment: dict[str, str], watchdog_s: float | None
) -> None:
    assert SystemdNotifier.taken_from(dict(environment), process_id=7).watchdog_s == watchdog_s


async def test_a_loop_that_hangs_sends_nothing(tmp_path: Path) -> None:
    """The messages come from the loop itself: none while it is blocked, and again when it runs."""
    with service_manager(tmp_path) as manager:
        notifier = taken(NOTIFY_SOCKET=str(manager.path), WATCHDOG_USEC="20000")
        async with anyio.create_task_group() as services:
            services.start_soon(notifier.run)
            for _ in range(3):
                assert await manager.next_message() == {"WATCHDOG": "1"}
            while True:  # what was sent before
                try:
                    manager.receiving.recv(100)
                except BlockingIOError:
                    break
            blocked_until = time.monotonic() + 0.1
            while time.monotonic() < blocked_until:
                pass
            with pytest.raises(BlockingIOError):
                manager.receiving.recv(100)
            assert await manager.next_message() == {"WATCHDOG": "1"}
            services.cancel_scope.cancel()


async def test_without_a_watchdog_nothing_is_sent(tmp_path: Path) -> None:
    with service_manager(tmp_path) as manager:
        async with anyio.create_task_group() as services:
            services.start_soon(taken(NOTIFY_SOCKET=str(manager.path)).run)
            await anyio.wait_all_tasks_blocked()
            services.cancel_scope.cancel()
        with pytest.raises(BlockingIOError):
            manager.receiving.recv(100)
