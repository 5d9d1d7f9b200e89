"""What holds for every test: nothing blocks the event loop, and in CI nothing is skipped."""

import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import hypothesis
import pytest
import stamina
from blockbuster import blockbuster_ctx

from tests.fixtures.system_server import find_program

pytest_plugins = [
    "tests.fixtures.postgres",
    "tests.fixtures.daemon",
    "tests.fixtures.swift",
    "tests.fixtures.moto",
    "tests.fixtures.gcs_server",
    "tests.fixtures.chromium",
]


_MEMORY = Path("/dev/shm")  # noqa: S108  # Linux's folder in memory, where all may write
_NEEDED_BYTES = 8 * 1024**3


def _write_to_memory() -> None:
    """Keep temporary files in memory where it has the room and TMPDIR names no other place.

    Most tests make a database and synchronize files; on a disk that takes most of their time.
    """
    if "TMPDIR" not in os.environ and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _NEEDED_BYTES:
        os.environ["TMPDIR"] = str(_MEMORY)
        tempfile.tempdir = None  # asked for again


# Before a fixture asks where temporary files go; the processes that share the tests between them inherit it.
_write_to_memory()

# As in the daemon: what stamina would find by itself reads files, in the event loop.
stamina.instrumentation.set_on_retry_hooks(())

# Hypothesis fails a test whose example takes more than 200 ms, which a busy machine does to any of them.
hypothesis.settings.register_profile("without deadline", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("without deadline")

# A shell ignores Ctrl-C for what it runs in the background, and what we start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


# For the session: to begin and end it takes as long as most unit tests do.
@pytest.fixture(scope="session", autouse=True)
def _nothing_blocks_the_event_loop() -> Iterator[None]:
    with blockbuster_ctx("exportd") as detector:
        for name, function in detector.functions.items():
            # A look at a folder takes microseconds; waiting and the content of files do not.
            if name.startswith("os.") and name not in {"os.read", "os.write"}:
                function.deactivate()
            function.can_block_in("asyncpg/connect_utils.py", "_parse_connect_dsn_and_args")  # reads ~/.pgpass
        detector.functions["time.sleep"].can_block_in("exportd/extraction/pacer.py", "pace")  # on purpose; it says why
        yield


_TOOLS = {
    "systemd_tools": ("systemd-analyze",),
    "monitoring_tools": ("prometheus", "promtool"),
    "shells": ("bash", "zsh", "fish"),
    "browser": ("chromium",),
    "ssh_server": ("ssh", "sshd", "ssh-keygen"),
    "web_server": ("nginx",),
}
"""By the marker of the tests that need them, the programs that a machine may lack."""


def pytest_report_header() -> list[str]:
    """Name the tests that are left out here."""
    return [
        f"left out: the tests marked {marker}, for this machine has no {' or no '.join(missing)}"
        for marker, programs in _TOOLS.items()
        if (missing := [program for program in programs if find_program(program) is None]) and not os.environ.get("CI")
    ]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs the system's tools where they are not (in CI they have to be there), and what boots a
    systemd unless the environment asks for it: that takes root, and a minute.
    """
    left_out = set()
    if not os.environ.get("CI"):
        left_out |= {marker for marker, programs in _TOOLS.items() if not all(map(find_program, programs))}
    if os.environ.get("EXPORTD_TEST_SYSTEMD") != "1":
        left_out.add("systemd_boot")
    deselected = [item for item in items if any(map(item.get_closest_marker, left_out))]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if item not in deselected]
    items[:] = _dealt_out(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def _dealt_out(items: Sequence[pytest.Item], workers: int) -> list[pytest.Item]:
    """Each worker begins with as long a list, and with the long tests: what is left at the end is short, and can be
    shared. File by file, for the tests of one share what it sets up.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    rooms = ("acceptance", "integration")
    longest_first = sorted(files, key=lambda path: next((i for i, room in enumerate(rooms) if room in path.parts), 9))
    return [item for first in range(workers) for path in longest_first[first::workers] for item in files[path]]


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name parameters of bytes by their argument: compressed bytes hold the time, and the processes that share the
    tests between them have to call each test the same.
    """
    return argname if isinstance(val, bytes) and not val.isascii() else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but CI skips nothing: {report.longrepr}"
    return report
