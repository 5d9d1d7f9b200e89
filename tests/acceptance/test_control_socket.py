"""The file of the control socket, as the real daemon makes it, leaves it and finds it."""

import grp
import os
import pwd
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.acceptance.declarations import schedule
from tests.acceptance.sample_application import CATALOG, Application
from tests.fixtures.daemon import UNMEASURED, Site, run

UNPRIVILEGED_ID = 65534
PROXY_ID = 1
"""A user that every Linux has, and that is not who runs the tests."""
BECOMES_OTHERS = os.geteuid() == 0 and shutil.which("setpriv") is not None


@contextmanager
def open_folder() -> Iterator[Path]:
    """Every user may enter it; a site is its owner's alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def status_as(path: Path, *identity: str) -> "CompletedProcess[str]":
    """``exportd status`` of another user, who only needs to reach the socket."""
    command = [sys.executable, "-m", "exportd", "status", "--json", "--socket", str(path)]
    return run([*UNMEASURED, "setpriv", *identity, "--", *command])


def status_as_ann(path: Path, *identity: str) -> str:
    """The status with which a request of another user is answered that names a person."""
    asked = ("curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--unix-socket", str(path))
    sent = ("--header", "X-Forwarded-Email: ann@example.com", "http://localhost/v1/status")
    return run([*UNMEASURED, "setpriv", *identity, "--", *asked, *sent]).stdout


async def test_a_socket_that_a_killed_daemon_left_is_taken_over(site: Site, application: Application) -> None:
    site.configure(CATALOG, {"schedule": [schedule(destinations=[])]})
    path = site.folder / "control.sock"
    daemon = await site.start_program()
    await site.succeeded(application.connection, await site.first_job(application.connection))
    await daemon.kill()
    left = path.stat()
    outcome = await site.quickly("status")
    assert (outcome.returncode, "No daemon listens at" in outcome.stderr) == (3, True)

    daemon = await site.restart()
    assert path.stat().st_ino != left.st_ino or path.stat().st_ctime_ns != left.st_ctime_ns
    assert (await site.quickly("status")).returncode == 0
    # A file that is no socket is not removed.
    assert await daemon.stop() == 0
    assert not path.exists()
    path.write_text("precious")
    refused = site.fork()
    assert await refused.ended() == 2
    assert "something else than a socket" in refused.text
    assert path.read_text() == "precious"
    await site.assert_clean()


async def test_only_its_group_may_open_it_and_only_the_proxy_names_persons(
    site: Site, application: Application
) -> None:
    with open_folder() as folder:
        path = folder / "control.sock"
        control = {
            "socket": str(path),
            "group": grp.getgrgid(os.getgid()).gr_name,
            "proxy_header": "X-Forwarded-Email",
            "proxy_user": pwd.getpwuid(PROXY_ID).pw_name,
        }
        ann = {"name": "ann@example.com", "role": "operator", "organization": "ALL"}
        site.configure(CATALOG, {"control": control, "control.user": [ann]})
        daemon = await site.start()
        found = path.stat()
        assert stat.S_IMODE(found.st_mode) == 0o660
        assert (found.st_uid, found.st_gid) == (os.geteuid(), os.getgid())
        if BECOMES_OTHERS:
            stranger = status_as(path, f"--reuid={UNPRIVILEGED_ID}", f"--regid={UNPRIVILEGED_ID}", "--clear-groups")
            assert stranger.returncode == 3
            assert "This user may not open" in stranger.stderr
            assert "Traceback" not in stranger.stderr
            member = status_as(path, f"--reuid={UNPRIVILEGED_ID}", f"--regid={found.st_gid}", "--clear-groups")
            assert member.returncode == 0, member.stderr
            for user, status in ((PROXY_ID, "200"), (UNPRIVILEGED_ID, "403")):
                assert status_as_ann(path, f"--reuid={user}", f"--regid={found.st_gid}", "--clear-groups") == status
        assert await daemon.stop() == 0
    await site.assert_clean()


@pytest.mark.parametrize("command", [["status"], ["reload"], ["schedule", "show", "often", "--organization", "org-1"]])
def test_a_command_waits_no_longer_than_it_is_told(tmp_path: Path, command: list[str]) -> None:
    """The socket is listened on and never answers, as where systemd holds the socket of a daemon that hangs."""
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        outcome = run([sys.executable, "-m", "exportd", *command, "--socket", str(path), "--timeout", "0.2"])
    assert outcome.returncode == 3
    (sentence,) = outcome.stderr.splitlines()
    assert sentence.startswith(f"exportd: The daemon at {path} has not answered in time")
