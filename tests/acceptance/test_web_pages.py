"""What a web page of another site can make a browser send to the real daemon, and what programs send."""

import asyncio
import shutil
import socket
import subprocess
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.acceptance.sample_application import CATALOG, ORGANIZATION, Application
from tests.acceptance.test_tls import port_of
from tests.fixtures.control_clients import bare, official
from tests.fixtures.daemon import Site

JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}

PAGES = {
    "rebinding": ("GET", "/v1/status", {"host": "evil.example"}, 400),
    "rebinding to a port": ("GET", "/v1/status", {"host": "evil.example:8080"}, 400),
    "user in the host": ("POST", "/v1/pause", {"host": "evil@localhost"}, 400),
    "form": ("POST", "/v1/pause", {**FORM, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 403),
    "form of an old browser": ("POST", "/v1/pause", {**FORM, "origin": "http://evil.example"}, 403),
    "sandboxed form": ("POST", "/v1/pause", {**FORM, "origin": "null"}, 403),
    "another port": ("POST", "/v1/pause", {"host": "localhost:8080", "origin": "http://localhost:9090"}, 403),
    "another host of the site": ("POST", "/v1/pause", {"sec-fetch-site": "same-site"}, 403),
    "credentials": ("POST", "/v1/clients", {**JSON, "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}, 403),
    "script": ("GET", "/v1/status", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
}


def raw(line: socket.socket, request: bytes) -> bytes:
    """What comes until the connection is closed."""
    line.settimeout(20)
    line.sendall(request)
    answer = b""
    while piece := line.recv(65536):
        answer += piece
    return answer


def look_as_a_page(client: httpx.Client) -> None:
    for kind, (method, path, headers, status) in PAGES.items():
        answer = client.request(method, path, headers=headers)
        assert (answer.status_code, kind) == (status, kind)
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def smuggle(line: socket.socket) -> None:
    """Two lengths, and a second request in what one of them leaves over."""
    with closing(line):
        answer = raw(
            line,
            b"POST /oauth/token HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n"
            b"0\r\n\r\nGET /v1/status HTTP/1.1\r\nhost: localhost\r\n\r\n",
        )
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1


def unix_line(path: Path) -> socket.socket:
    line = socket.socket(socket.AF_UNIX)
    line.connect(str(path))
    return line


async def test_a_web_page_can_do_nothing_and_programs_everything(site: Site, application: Application) -> None:
    site.configure(CATALOG, {"control": {"socket": "control.sock", "listen": "127.0.0.1:0"}})
    daemon = await site.start()
    port, path = port_of(daemon), site.folder / "control.sock"

    def attack() -> None:
        with bare(path) as local, httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as remote:
            for client in (local, remote):
                look_as_a_page(client)
            assert local.get("/v1/pause").json() == {"paused": False, "since": None, "by": None}
            assert local.get("/v1/clients").json()["data"] == []
            # A program's answers say the same to browsers.
            for client, status in ((local, 200), (remote, 401)):
                answer = client.get(
                    "/metrics", headers={"accept": "text/plain;version=0.0.4", "accept-encoding": "gzip"}
                )
                assert answer.status_code == status
                assert answer.headers["cross-origin-resource-policy"] == "same-origin"
            # The console's own pages, and a link to them.
            for site_of in ("same-origin", "none"):
                assert local.get("/v1/status", headers={"sec-fetch-site": site_of}).status_code == 200
            link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
            assert local.get("/v1/status", headers=link).status_code == 200
        for line in (unix_line(path), socket.create_connection(("127.0.0.1", port))):
            smuggle(line)
        for line in (unix_line(path), socket.create_connection(("127.0.0.1", port))):
            with closing(line):
                garbage = raw(line, b"\x16\x03\x01 nonsense\r\n\r\n")
            assert garbage.startswith(b"HTTP/1.1 400 ")
            assert b"cross-origin-resource-policy: same-origin\r\n" in garbage
        with official(path, ORGANIZATION) as m3ter_client:
            assert m3ter_client.data_exports.schedules.list().data == []
        curl = shutil.which("curl")
        if curl is None:
            pytest.fail("curl is needed")
        asked = subprocess.run(
            [curl, "--silent", "--fail", "--unix-socket", str(path), "http://localhost/v1/status"],
            capture_output=True,
            check=False,
        )
        assert (asked.returncode, asked.stdout[:1]) == (0, b"{")

    await asyncio.to_thread(attack)
    assert (await site.quickly("status", "--json")).returncode == 0
    assert await daemon.stop() == 0
    await site.assert_clean()
