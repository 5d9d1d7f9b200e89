"""The console of another host through a real ssh and sshd, by the lines of docs/console.md."""

import asyncio
import grp
import os
import pwd
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.console_browser import ConsoleBrowser, browser_at, origin
from tests.acceptance.declarations import schedule
from tests.acceptance.sample_application import CATALOG, Application
from tests.acceptance.test_console_access import command, opened
from tests.acceptance.test_control_socket import BECOMES_OTHERS, UNPRIVILEGED_ID, open_folder
from tests.fixtures.control_clients import bare
from tests.fixtures.daemon import TIMEOUT_S, Site, until
from tests.fixtures.server_process import listens, reserved_ports
from tests.fixtures.ssh_server import SshServer, ssh_server

pytestmark = pytest.mark.ssh_server

PAGE = (Path(__file__).parents[2] / "docs" / "console.md").read_text(encoding="utf-8")
OTHER = pwd.getpwuid(UNPRIVILEGED_ID if BECOMES_OTHERS else os.getuid())
"""Who logs in: another user than the daemon's, where the tests can become one."""
ROLE = "operator" if BECOMES_OTHERS else "admin"


@pytest.fixture
def web1() -> Iterator[SshServer]:
    with open_folder() as folder, ssh_server(folder) as server:
        yield server


@pytest.fixture
async def control_socket(site: Site, application: Application) -> AsyncIterator[Path]:
    """The socket of a daemon whose operators are the group of the user who logs in."""
    del application
    with open_folder() as folder:
        group = grp.getgrgid(OTHER.pw_gid).gr_name
        control = {"socket": str(folder / "control.sock"), "group": group, "operators": [group]}
        site.configure(CATALOG, {"control": control, "schedule": [schedule(destinations=[])]})
        await site.start()
        yield folder / "control.sock"
        assert await site.daemons[-1].stop() == 0


def line_of_page(start: str, changed: Mapping[str, str]) -> list[str]:
    """The words of the line of the page that begins so, with what is different on this machine."""
    (line,) = re.findall(rf"^{re.escape(start)} .*$", PAGE, re.MULTILINE)
    for theirs, ours in changed.items():
        assert theirs in line
        line = line.replace(theirs, ours)
    return shlex.split(line)


@contextmanager
def running(words: Sequence[str], server: SshServer) -> Iterator["subprocess.Popen[bytes]"]:
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, env=server.environment()) as process:
        try:
            yield process
        finally:
            process.terminate()


def children_of(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


async def actor_of_newest_deed(control_socket: Path) -> tuple[str, str]:
    with bare(control_socket) as http:
        deed = (await asyncio.to_thread(http.get, "/v1/audit")).json()["data"][0]
    return deed["action"], deed["actor"]


def pause_often(browser: ConsoleBrowser) -> None:
    assert f"{OTHER.pw_name}, {ROLE}" in browser.open("/console/").text
    links = browser.open("/console/exports").links
    (often,) = {link for link in links if re.fullmatch("/console/schedules/[-0-9a-f]{36}", link)}
    paused = browser.press(browser.open(often), "Pause")
    assert f"Paused by unix:{OTHER.pw_name}" in paused.text


async def test_the_command_logs_in_and_acts_as_who_logged_in(web1: SshServer, control_socket: Path) -> None:
    host = f"{OTHER.pw_name}@web1"
    options, env = ["--host", host, "--socket", str(control_socket)], web1.environment()
    process, address = await opened(options, env)
    (ssh,) = children_of(process.pid)

    def look() -> None:
        with browser_at(origin(address)) as browser:
            assert "This daemon" in browser.open(address).text
            pause_often(browser)

    await asyncio.to_thread(look)
    assert await actor_of_newest_deed(control_socket) == ("schedule paused", f"unix:{OTHER.pw_name} (console)")
    process.terminate()
    assert (await process.communicate())[1] == b""
    assert process.returncode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(ssh, 0)

    # A connection that the host ends is said, and ends the command.
    process, _ = await opened(options, env)
    for session in children_of(web1.process.pid):
        os.kill(session, signal.SIGTERM)
    said = (await process.communicate())[1].decode()
    assert (process.returncode, f"exportd: ssh to {host} ended: " in said) == (3, True), said


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--host", "stranger-here@web1"],
            "ssh to stranger-here@web1 ended: stranger-here@127.0.0.1: Permission denied",
        ),
        (["--host", "away"], "ssh to away ended: ssh: connect to host 127.0.0.1 port "),
        (
            ["--host", "web1", "--socket", "/no/such.sock"],
            "The daemon at /no/such.sock of web1 does not answer: channel ",
        ),
    ],
)
async def test_what_ssh_complains_of_is_said(web1: SshServer, options: list[str], sentence: str) -> None:
    pipe, env = asyncio.subprocess.PIPE, web1.environment()
    process = await asyncio.create_subprocess_exec(*command(*options), stdout=pipe, stderr=pipe, env=env)
    printed, said = await process.communicate()
    assert (process.returncode, printed, sentence in said.decode()) == (3, b"", True), said


async def test_a_forwarded_socket_signs_in_who_logged_in(web1: SshServer, control_socket: Path) -> None:
    with reserved_ports(1) as (port,):
        changed = {"8080": str(port), "/run/exportd/control.sock": str(control_socket), "web1": f"{OTHER.pw_name}@web1"}

        async def is_forwarded() -> bool:
            return await asyncio.to_thread(listens, port)

        def look() -> None:
            with browser_at(f"http://localhost:{port}") as browser:
                asked = browser.open("/console/")
                assert f"as the user with the number {OTHER.pw_uid}" in asked.text
                assert browser.press(asked, "Sign in").answer.url.path == "/console/"
                pause_often(browser)

        with running(line_of_page("ssh -N", changed), web1):
            await until(is_forwarded, what="the port that ssh forwards")
            await asyncio.to_thread(look)
    assert await actor_of_newest_deed(control_socket) == ("schedule paused", f"unix:{OTHER.pw_name} (console)")


async def test_the_command_on_the_host_is_reached_by_its_port(web1: SshServer, control_socket: Path) -> None:
    """By who runs the tests, for the others may have no shell."""
    ours = f"{sys.executable} -m exportd console --socket {control_socket}"
    with reserved_ports(1) as (near,), reserved_ports(1) as (far,):
        changed = {
            "-t": "-tt",  # there is no terminal here
            "-L 8080:": f"-L {near}:",
            ":8080": f":{far}",
            "--port 8080": f"--port {far}",
            "exportd console": ours,
        }

        def look(process: "subprocess.Popen[bytes]") -> None:
            assert process.stdout is not None and process.stdin is not None
            line = process.stdout.readline().decode()
            assert line.startswith(f"The console is at http://127.0.0.1:{far}/"), line
            address = line.split()[-1].replace(f":{far}/", f":{near}/")
            with browser_at(origin(address)) as browser:
                assert "This daemon" in browser.open(address).text
            process.stdin.write(b"\x03")  # Ctrl-C
            process.stdin.flush()
            process.wait(TIMEOUT_S)

        with running(line_of_page("ssh -t", changed), web1) as process:
            await asyncio.to_thread(look, process)
            assert process.returncode == 0
