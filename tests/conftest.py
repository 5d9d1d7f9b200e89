"""What holds for every test: nothing blocks the event loop, and in CI nothing is skipped."""

import os
import shutil
from collections.abc import Generator, Iterator

import pytest
from blockbuster import blockbuster_ctx

pytest_plugins = ["tests.fixtures.postgres", "tests.fixtures.daemon"]


@pytest.fixture(autouse=True)
def _nothing_blocks_the_event_loop() -> Iterator[None]:
    with blockbuster_ctx("exportd") as detector:
        for name, function in detector.functions.items():
            # A look at a folder takes microseconds; waiting and the content of files do not.
            if name.startswith("os.") and name not in {"os.read", "os.write"}:
                function.deactivate()
            function.can_block_in("asyncpg/connect_utils.py", "_parse_connect_dsn_and_args")  # reads ~/.pgpass
        detector.functions["time.sleep"].can_block_in("exportd/snapshots/pacer.py", "pace")  # on purpose; it says why
        yield


_BOOT = "EXPORTD_TEST_SYSTEMD"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "systemd_tools: runs systemd's own tools (systemd-analyze); CI has them")
    config.addinivalue_line("markers", f"systemd_boot: boots a real systemd; only where {_BOOT}=1 asks for it")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what this machine cannot run; in CI it has to."""
    left_out = set()
    if not os.environ.get(_BOOT):
        left_out.add("systemd_boot")
    if not (os.environ.get("CI") or shutil.which("systemd-analyze")):
        left_out.add("systemd_tools")
    deselected = [each for each in items if any(each.get_closest_marker(name) for name in left_out)]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [each for each in items if each not in deselected]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but CI skips nothing: {report.longrepr}"
    return report
