"""Who gets to the console of ``exportd console``: through ssh from elsewhere, and no other user of the same machine."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.acceptance.console_browser import browser_at
from tests.acceptance.sample_application import CATALOG, Application
from tests.acceptance.test_control_socket import BECOMES_OTHERS, UNPRIVILEGED_ID
from tests.fixtures.daemon import UNMEASURED, Site, environment, run

STAND_IN = """#!{python} -I
import os, signal, socket, sys, threading
from pathlib import Path

folder = Path(sys.argv[0]).parent
(folder / "arguments").write_text("\\n".join(sys.argv[1:]))
(folder / "pid").write_text(str(os.getpid()))
host = sys.argv[-1]
if host == "unknown":
    sys.exit("ssh: Could not resolve hostname unknown: \\x1b[1mName or service not known")
local, _, remote = sys.argv[sys.argv.index("-L") + 1].partition(":")

def pump(source, target):
    while piece := source.recv(65536):
        target.sendall(piece)
    target.shutdown(socket.SHUT_WR)

with socket.socket(socket.AF_UNIX) as listening:
    listening.bind(local)
    listening.listen()
    while True:
        near = listening.accept()[0]
        far = socket.socket(socket.AF_UNIX)
        try:
            far.connect(remote)
        except OSError as error:
            print("channel 2: open failed: connect failed:", error.strerror, file=sys.stderr, flush=True)
            near.close()
            continue
        for ends in ((near, far), (far, near)):
            threading.Thread(target=pump, args=ends, daemon=True).start()
"""
"""Takes what ssh is told, and brings one socket of this machine to another."""

OPENS_MANY = """
import socket, sys
lines = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(80)]
print(sum(line.recv(1) == b"" for line in lines))
"""


WAITS_AT_ITS_END = """
import atexit, sys
from exportd.__main__ import main
atexit.register(lambda: (print("ending", flush=True), sys.stdin.readline()))
main()
"""
"""The program, which does not end before it is told to."""

TURNED_AWAY = "opened the port, and was turned away"


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """The folder of an ssh that is first on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    ssh = folder / "ssh"
    ssh.write_text(STAND_IN.format(python=sys.executable))
    ssh.chmod(0o755)
    return folder


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "exportd", "console", "--no-browser", *options]


def refused(path: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """What is said when the console is not opened; with ``path`` in front of PATH."""
    return subprocess.run(
        command(*options),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=with_path(path, os.environ["PATH"]),
    )


def with_path(*folders: object) -> dict[str, str]:
    return {**environment(), "PATH": ":".join(map(str, folders))}


async def opened(options: Sequence[str], env: dict[str, str]) -> tuple[asyncio.subprocess.Process, str]:
    """A console, and the address that it prints."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command(*options), stdout=pipe, stderr=pipe, env=env)
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    assert line.startswith("The console is at "), (await process.communicate())[1].decode()
    return process, line.removeprefix("The console is at ").strip()


async def test_ssh_brings_the_daemon_of_another_host_and_other_users_take_no_place(
    site: Site, application: Application, stand_in: Path
) -> None:
    del application
    site.configure(CATALOG, {})
    await site.start()
    there = site.folder / "control.sock"
    through_ssh, env = ["--host", "ann@web1", "--socket", str(there)], with_path(stand_in, os.environ["PATH"])
    process, address = await opened(through_ssh, env)

    def look() -> None:
        parts = urlsplit(address)
        with browser_at(f"{parts.scheme}://{parts.netloc}") as browser:
            assert "This daemon" in browser.open(address).text

    if BECOMES_OTHERS:
        other = [f"--reuid={UNPRIVILEGED_ID}", f"--regid={UNPRIVILEGED_ID}", "--clear-groups", "--"]
        opens = [*UNMEASURED, "setpriv", *other, sys.executable, "-I", "-c", OPENS_MANY, str(urlsplit(address).port)]
        ended = await asyncio.to_thread(run, opens)
        assert ended.stdout == "80\n", ended.stderr
    await asyncio.to_thread(look)
    arguments = (stand_in / "arguments").read_text().splitlines()
    assert arguments[-2:] == ["--", "ann@web1"]
    assert arguments[arguments.index("-L") + 1].endswith(f":{there}")
    assert {"-N", "ExitOnForwardFailure=yes"} <= set(arguments)
    process.terminate()
    said = (await process.communicate())[1].decode()
    turned_away = f"exportd: another user of this machine (number {UNPRIVILEGED_ID}) {TURNED_AWAY}\n"
    assert said == (turned_away if BECOMES_OTHERS else "")
    assert process.returncode == 0
    ssh = int((stand_in / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(ssh, 0)

    # A connection that ssh loses ends the command, with a sentence.
    process, _ = await opened(through_ssh, env)
    os.kill(int((stand_in / "pid").read_text()), signal.SIGTERM)
    said = (await process.communicate())[1].decode()
    assert (process.returncode, "ssh to ann@web1 ended" in said) == (3, True), said
    assert await site.daemons[-1].stop() == 0


@pytest.mark.parametrize("arguments", [["console", "--no-browser", "--socket"], ["status", "--socket"]], ids=" ".join)
async def test_more_signals_than_one_leave_no_traceback(
    site: Site, application: Application, arguments: Sequence[str]
) -> None:
    """A terminal sends Ctrl-C to a whole group of processes, and some of these end others then."""
    del application
    site.configure(CATALOG, {})
    await site.start()
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WAITS_AT_ITS_END, *arguments, str(site.folder / "control.sock")),
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        env=environment(),
    )
    assert process.stdout is not None
    is_console = arguments[0] == "console"
    while (line := await process.stdout.readline()) != b"ending\n":
        assert line, (await process.communicate())[1].decode()
        if line == b"Ctrl-C ends it.\n":
            process.send_signal(signal.SIGINT)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT) if is_console else (signal.SIGINT,) * 3:
        process.send_signal(number)
    assert await process.communicate(b"\n") == (b"", b"")
    assert process.returncode == 0
    assert await site.daemons[-1].stop() == 0


def test_what_ssh_says_is_a_sentence(stand_in: Path, tmp_path: Path) -> None:
    unknown = refused(stand_in, "--host", "unknown")
    assert (unknown.returncode, unknown.stdout) == (3, "")
    assert "ssh to unknown ended: ssh: Could not resolve hostname unknown: \\x1b[1mName" in unknown.stderr
    silent = refused(stand_in, "--host", "web1", "--socket", "/nowhere/control.sock")
    assert silent.returncode == 3
    assert "The daemon at /nowhere/control.sock of web1 does not answer: channel 2: open failed" in silent.stderr
    for host in ("-oProxyCommand=touch", "web1 x"):
        wrong = refused(stand_in, f"--host={host}")
        assert (wrong.returncode, "is no host" in wrong.stderr) == (2, True), wrong.stderr
    no_ssh = subprocess.run(
        command("--host", "web1"), capture_output=True, text=True, check=False, timeout=60, env=with_path(tmp_path)
    )
    assert (no_ssh.returncode, "there is no ssh here" in no_ssh.stderr) == (2, True)
    for said in (unknown, silent, no_ssh):
        assert "Traceback" not in said.stderr
