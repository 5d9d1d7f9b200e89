"""The real daemon on TCP, with TLS; and the keys in files that it is given."""

import asyncio
import os
import re
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import m3ter
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from tests.acceptance.declarations import schedule
from tests.acceptance.sample_application import CATALOG, ORGANIZATION, Application
from tests.acceptance.twin_sites import twin_of
from tests.fixtures.control_clients import bare
from tests.fixtures.daemon import Daemon, Site

PAST = datetime(2020, 1, 1, tzinfo=UTC)
TLS = {"listen": "127.0.0.1:0", "tls_certificate": "chain.pem", "tls_key": "key.pem"}


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def issue(authority: trustme.CA, folder: Path, *, until: datetime | None = None) -> None:
    """A certificate for the loopback in a site's folder, in place of the one before; its key is private."""
    issued = authority.issue_cert("127.0.0.1", not_before=PAST, not_after=until)
    (folder / "chain.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    write_key(folder / "key.pem", issued.private_key_pem.bytes())


def write_key(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    path.write_bytes(content)
    path.chmod(mode)


def serial_seen(port: int, authority: trustme.CA) -> object:
    """The number of the certificate that a new connection is shown, and trusts."""
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as line,
        trusting.wrap_socket(line, server_hostname="127.0.0.1") as secure,
    ):
        seen = secure.getpeercert()
        assert seen is not None
        return seen["serialNumber"]


def port_of(daemon: Daemon) -> int:
    return int(daemon.events_named("control API ready")[-1]["address"].rpartition(":")[2])


@contextmanager
def program(site: Site, port: int, authority: trustme.CA) -> Iterator[m3ter.M3ter]:
    """The official client, with credentials of its own, over TLS."""
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with bare(site.folder / "control.sock") as local:
        wanted = {"organization": ORGANIZATION, "name": "billing"}
        made = local.post("/v1/clients", json=wanted).raise_for_status().json()
    with m3ter.M3ter(
        api_key=made["id"],
        api_secret=made["apiSecret"],
        org_id=ORGANIZATION,
        base_url=f"https://127.0.0.1:{port}",
        max_retries=0,
        _strict_response_validation=True,
        http_client=httpx.Client(verify=trusting, trust_env=False),
    ) as client:
        yield client


async def test_the_official_client_over_tls_and_a_certificate_that_is_renewed(
    site: Site, application: Application, authority: trustme.CA
) -> None:
    issue(authority, site.folder)
    site.configure(CATALOG, {"schedule": [schedule(destinations=[])], "control": {"socket": "control.sock", **TLS}})
    daemon = await site.start()
    job = await site.first_job(application.connection)
    await site.succeeded(application.connection, job)
    port = port_of(daemon)

    def look() -> None:
        with program(site, port, authority) as client:
            assert [found.code for found in client.data_exports.schedules.list().data] == ["often"]
            link = client.data_exports.jobs.get_download_url(str(job))
            assert link.url is not None
            assert link.url.startswith(f"https://127.0.0.1:{port}/downloads/")
            assert client._client.get(link.url).raise_for_status().content.startswith(b"PK")
        # Who does not trust the authority, and who speaks HTTP without TLS, gets an end and no answer.
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            httpx.get(f"https://127.0.0.1:{port}/v1/status", trust_env=False)
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(f"http://127.0.0.1:{port}/v1/status", trust_env=False)

    await asyncio.to_thread(look)
    first = await asyncio.to_thread(serial_seen, port, authority)

    issue(authority, site.folder)
    assert await asyncio.to_thread(serial_seen, port, authority) == first
    daemon.signal(signal.SIGHUP)
    await daemon.wait_for_event("reloaded")
    second = await asyncio.to_thread(serial_seen, port, authority)
    assert second != first

    # Half of a renewal is refused, and the one before is shown on.
    good = (site.folder / "chain.pem").read_bytes()
    issue(authority, site.folder)
    (site.folder / "chain.pem").write_bytes(good)
    refused = await site.quickly("reload")
    assert refused.returncode == 2
    assert "control.tls_key: the key in " in refused.stderr
    assert "does not belong to the certificate" in refused.stderr
    assert await asyncio.to_thread(serial_seen, port, authority) == second

    # One that is out of date is no reason to stop exporting; it is said.
    issue(authority, site.folder, until=PAST + timedelta(days=1))
    assert (await site.quickly("reload")).returncode == 0
    assert "has expired; renew it" in (await daemon.wait_for_event("clients will refuse the certificate"))["error"]
    checked = await site.quickly("check")
    assert checked.returncode == 1
    assert "fix    control.tls_certificate: the certificate in " in checked.stdout
    assert "Traceback" not in daemon.text
    assert await daemon.stop() == 0
    await site.assert_clean()


def mismatched(folder: Path) -> None:
    write_key(folder / "key.pem", trustme.CA().issue_cert("127.0.0.1").private_key_pem.bytes())


def encrypted(folder: Path) -> None:
    key = serialization.load_pem_private_key((folder / "key.pem").read_bytes(), None)
    write_key(
        folder / "key.pem",
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
        ),
    )


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "chain.pem").unlink(), r"control\.tls_certificate: the file .*chain\.pem cannot be"),
        (
            lambda folder: (folder / "key.pem").unlink(),
            r"control\.tls_key: the file .*key\.pem cannot be read: No such",
        ),
        (
            lambda folder: (folder / "chain.pem").write_text("?"),
            r"chain\.pem and .*key\.pem are not a certificate chain",
        ),
        (lambda folder: (folder / "key.pem").chmod(0o644), r"open to every user of this machine .*0644.*: chmod o= /"),
        (mismatched, r"control\.tls_key: the key in .*key\.pem does not belong to the certificate in .*chain\.pem"),
        (encrypted, r"control\.tls_key: the key in .*key\.pem is protected by a password"),
    ],
    ids=["no chain", "no key", "no PEM", "open key", "another key", "encrypted key"],
)
async def test_files_that_cannot_be_used_are_named_by_check_and_run(
    site: Site, application: Application, authority: trustme.CA, spoil: Callable[[Path], object], sentence: str
) -> None:
    issue(authority, site.folder)
    spoil(site.folder)
    site.configure(CATALOG, {"control": {"socket": "control.sock", **TLS}})
    for command, code in (("run", 2), ("check", 1)):
        outcome = await site.quickly(command)
        said = outcome.stdout + outcome.stderr
        assert outcome.returncode == code, said
        assert re.search(sentence, said), said
        assert "Traceback" not in said


async def test_a_signing_key_of_ones_own_outlives_the_daemon_and_is_shared(
    site: Site, application: Application, tmp_path: Path
) -> None:
    key = site.folder / "signing.key"
    write_key(key, os.urandom(32))
    site.configure(
        CATALOG,
        {
            "schedule": [schedule(destinations=[])],
            "control": {"socket": "control.sock", "signing_key_file": str(key), "listen": "127.0.0.1:0"},
        },
    )
    daemon = await site.start()
    job = await site.first_job(application.connection)
    await site.succeeded(application.connection, job)

    def link() -> str:
        with bare(site.folder / "control.sock") as http:
            answer = http.get(f"/organizations/{ORGANIZATION}/dataexports/jobs/{job}/getdownloadurl")
            return "/downloads/" + str(answer.raise_for_status().json()["url"]).rpartition("/")[2]

    def follow(of: Site, path: str) -> tuple[int, bytes]:
        with bare(of.folder / "control.sock") as http:
            answer = http.get(path)
            return answer.status_code, answer.content

    path = await asyncio.to_thread(link)
    assert await daemon.stop() == 0
    daemon = await site.start()
    status, content = await asyncio.to_thread(follow, site, path)
    assert (status, content[:2]) == (200, b"PK")

    twin = twin_of(site, tmp_path / "twin")
    try:
        other = await twin.start()
        # It knows the link for genuine, and does not have the files.
        status, content = await asyncio.to_thread(follow, twin, path)
        assert (status, b"another daemon" in content) == (404, True)
        assert await other.stop() == 0
    finally:
        twin.close()

    write_key(key, os.urandom(32))
    daemon.signal(signal.SIGHUP)
    await daemon.wait_for_event("reloaded")
    assert (await asyncio.to_thread(follow, site, path))[0] == 403

    for content, mode, words in ((b"12345", 0o600, "has 5 bytes"), (os.urandom(32), 0o604, "open to every user")):
        write_key(key, content, mode=mode)
        assert words in (await site.quickly("reload")).stderr
        assert words in (await site.quickly("check")).stdout
    assert await daemon.stop() == 0
    await site.assert_clean()
