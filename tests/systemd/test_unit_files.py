"""The files of systemd/: what systemd's own tools think of them, and whether they agree with the code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from exportd.api.transport.acceptor import MAX_CONNECTIONS
from exportd.settings.control_schema import ControlSettings
from exportd.settings.schema import LimitSettings

SYSTEMD = Path(__file__).parents[2] / "systemd"
PROGRAM = "/opt/exportd/bin/exportd"
MAX_EXPOSURE = 15
"""In tenths, as systemd-analyze counts: 1.5 of 10."""


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units, with the program where it is here: systemd-analyze looks for it."""
    program = Path(sys.executable).with_name("exportd")
    copies = []
    for name in ("exportd.service", "exportd.socket"):
        copies.append(tmp_path / name)
        copies[-1].write_text((SYSTEMD / name).read_text(encoding="utf-8").replace(PROGRAM, str(program)))
    return copies


def analyzed(*words: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["systemd-analyze", *map(str, words)], check=False, capture_output=True, text=True, timeout=60
    )


def values(unit: str, section: str, key: str) -> list[str]:
    """Every value of a key, which may stand several times."""
    text = (SYSTEMD / unit).read_text(encoding="utf-8")
    body = re.search(rf"^\[{section}\]\n(.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL)
    assert body
    return re.findall(rf"^{key}=(.*)$", body[1], re.MULTILINE)


@pytest.mark.systemd_tools
def test_systemd_understands_the_units(units: list[Path]) -> None:
    found = analyzed("verify", "--man=no", *units)
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.systemd_tools
def test_systemd_would_complain(units: list[Path]) -> None:
    """The check above notices what is wrong."""
    units[0].write_text(units[0].read_text().replace("WatchdogSec=60", "WatchdogSecs=60"))
    assert "WatchdogSecs" in analyzed("verify", "--man=no", *units).stderr


@pytest.mark.systemd_tools
def test_the_service_exposes_little(units: list[Path]) -> None:
    found = analyzed("security", "--offline=true", "--no-pager", f"--threshold={MAX_EXPOSURE}", units[0])
    assert found.returncode == 0, found.stdout


def test_a_stop_takes_no_longer_than_systemd_waits() -> None:
    (timeout,) = values("exportd.service", "Service", "TimeoutStopSec")
    assert int(timeout) >= LimitSettings().shutdown_grace_s + 10


def test_the_service_has_room_for_what_it_holds_and_no_more() -> None:
    (files,) = values("exportd.service", "Service", "LimitNOFILE")
    assert 8 * MAX_CONNECTIONS <= int(files) <= 65_536
    (memory,) = values("exportd.service", "Service", "MemoryMax")
    assert memory == "2G"
    (tasks,) = values("exportd.service", "Service", "TasksMax")
    assert 100 < int(tasks) <= 512


def test_the_socket_is_where_clients_look() -> None:
    assert values("exportd.socket", "Socket", "ListenStream") == [str(ControlSettings().socket)]
    assert values("exportd.socket", "Socket", "FileDescriptorName") == ["control"]


def test_the_kernel_can_tell_us_who_calls() -> None:
    """With users of its own, the daemon would see every caller as nobody."""
    assert values("exportd.service", "Service", "PrivateUsers") == []
    assert values("exportd.service", "Service", "DynamicUser") == []


def test_readiness_is_not_lost_on_an_older_systemd() -> None:
    assert values("exportd.service", "Service", "Type") == ["notify"]
    assert values("exportd.service.d/notify-reload.conf", "Service", "Type") == ["notify-reload"]
    assert values("exportd.service.d/notify-reload.conf", "Service", "ExecReload") == [""]


def test_all_files_speak_of_one_user() -> None:
    user = values("exportd.service", "Service", "User")
    assert user == values("exportd.socket", "Socket", "SocketUser") == ["exportd"]
    assert re.search(r"^u exportd ", (SYSTEMD / "sysusers.d" / "exportd.conf").read_text(), re.MULTILINE)
    assert re.search(
        r"^d /run/exportd 0755 exportd exportd", (SYSTEMD / "tmpfiles.d" / "exportd.conf").read_text(), re.MULTILINE
    )
