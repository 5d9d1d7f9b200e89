"""Requests of every wrong kind: one sentence, nothing half-applied, and the server goes on."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import anyio
import httpx
import m3ter
import pytest

from exportd.api.transport import acceptor, connection, gate
from exportd.cli.socket_client import SocketClient
from exportd.model.errors import SettingsError
from tests.fixtures.control_clients import bare
from tests.integration.api.request_bodies import schedule
from tests.integration.api.standalone_api import ACME, ApiServer, path

JSON = {"content-type": "application/json"}
GOOD = json.dumps(schedule()).encode()

BODIES: dict[str, bytes] = {
    "nothing": b"",
    "not JSON": b"{",
    "cut off": GOOD[:-1],
    "two documents": GOOD + GOOD,
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "a text": b'"schedule"',
    "NaN": GOOD.replace(b'"period": 1', b'"period": NaN'),
    "Infinity": GOOD.replace(b'"period": 1', b'"period": Infinity'),
    "a huge number": GOOD.replace(b'"period": 1', b'"period": 1' + b"0" * 30),
    "an endless number": GOOD.replace(b'"period": 1', b'"period": 1' + b"0" * 10_000),
    "a huge exponent": GOOD.replace(b'"period": 1', b'"period": 1e400'),
    "no UTF-8": GOOD.replace(b"The nightly", b"\xff\xfe"),
    "UTF-16": GOOD.decode().encode("utf-16"),
    "a lone surrogate": GOOD.replace(b"The nightly", b"\\ud800"),
    "a lone surrogate in a key": b'{"\\udfff": 1}',
    "NUL": GOOD.replace(b"The nightly", b"\\u0000"),
    "NUL in a key": GOOD.replace(b'"name"', b'"na\\u0000me"'),
    "nested a thousand deep": b'{"name": ' + b"[" * 1000 + b"]" * 1000 + b"}",
    "nested a hundred thousand deep": b"[" * 100_000 + b"]" * 100_000,
    "a thousand unknown fields": json.dumps({f"field{number}": 1 for number in range(1000)}).encode(),
}


@pytest.mark.parametrize("verb", ["POST", "PUT"])
async def test_a_body_that_is_not_what_it_should_be_is_refused(api: ApiServer, verb: str) -> None:
    made = (await api.http.post(path(ACME, "schedules"), json=schedule("other"))).json()
    where = path(ACME, "schedules") if verb == "POST" else path(ACME, "schedules", made["id"])
    for name, body in BODIES.items():
        answer = await api.http.request(verb, where, content=body, headers=JSON)
        assert (answer.status_code, list(answer.json())) == (400, ["message"]), name
        message = answer.json()["message"]
        assert 10 < len(message) < 1000, name
        assert "Traceback" not in message and "pydantic" not in message, name
    listed = (await api.http.get(path(ACME, "schedules"))).json()["data"]
    assert [(found["id"], found["version"]) for found in listed] == [(made["id"], 1)]


async def test_ten_megabytes_are_too_much(api: ApiServer) -> None:
    body = json.dumps(schedule(name="x" * 10_000_000)).encode()

    async def in_pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    for content in (body, in_pieces()):
        answer = await api.http.post(path(ACME, "schedules"), content=content, headers=JSON)
        assert answer.status_code == 413
        assert "one megabyte" in answer.json()["message"]
    assert (await api.http.get(path(ACME, "schedules"))).json()["data"] == []


async def test_a_client_that_sends_too_much_gets_an_answer_and_is_not_cut_off(api: ApiServer) -> None:
    """Clients send everything before they read; a connection that is closed meanwhile would be all that they see."""
    body = b'"' + b"x" * 10_000_000 + b'"'
    where, headers = path(ACME, "schedules"), await api.bearer()

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    def send() -> None:
        with (
            bare(api.socket) as local,
            httpx.Client(base_url=api.tcp.base_url, trust_env=False, headers=headers) as tcp,
        ):
            for client in (local, tcp):
                for content in (body, pieces()):
                    answer = client.post(where, content=content, headers=JSON)
                    assert (answer.status_code, answer.headers["connection"]) == (413, "close")
        with pytest.raises(SettingsError, match="one megabyte is the limit"):
            SocketClient(api.socket).request("POST", where, body=body.decode())

    for _ in range(5):
        await asyncio.to_thread(send)
    with pytest.raises(m3ter.APIStatusError) as refused:
        await api.official(
            lambda client: client.data_exports.create_adhoc(
                operational_data_types=["ACCOUNTS"], source_type="OPERATIONAL", extra_body={"x": body.decode()}
            )
        )
    assert refused.value.status_code == 413


async def test_what_is_sent_without_end_is_not_listened_to_for_ever(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "_DRAIN_TIMEOUT_S", 60.0)
    async with await anyio.connect_unix(str(api.socket)) as stream:
        await stream.send(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000000000\r\n\r\n")
        with pytest.raises(anyio.BrokenResourceError), anyio.fail_after(60):
            while True:
                await stream.send(b"x" * 1_000_000)


async def test_another_content_type_is_refused(api: ApiServer) -> None:
    for kind in (
        "text/plain",
        "application/xml",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
    ):
        answer = await api.http.post(path(ACME, "schedules"), content=GOOD, headers={"content-type": kind})
        assert (answer.status_code, list(answer.json())) == (400, ["message"]), kind


async def test_ids_of_every_form_are_looked_for_and_not_found(api: ApiServer) -> None:
    for kind in ("schedules", "destinations", "jobs"):
        for text in ("x", "%00", "..%2f", "00000000-0000-0000-0000-000000000000", "%ff", "'", "1" * 5000, "{7}"):
            answer = await api.http.get(f"{path(ACME, kind)}/{text}")
            assert (answer.status_code, list(answer.json())) == (404, ["message"]), (kind, text)


async def test_unknown_paths_and_methods_are_answered_in_the_same_form(api: ApiServer) -> None:
    for method, url, status in (
        ("GET", "/", 404),
        ("GET", "/organizations", 404),
        ("GET", path(ACME, "schedules") + "/", 404),
        ("PATCH", path(ACME, "schedules"), 405),
        ("DELETE", path(ACME, "jobs"), 405),
    ):
        answer = await api.http.request(method, url)
        assert (answer.status_code, list(answer.json())) == (status, ["message"]), url


async def test_a_foreign_host_or_page_is_turned_away_over_tcp(api: ApiServer) -> None:
    headers = await api.bearer()
    for host in ("evil.example", "localhost.evil.example", "", "[", "127.0.0.1@evil.example"):
        answer = await api.tcp.get(path(ACME, "jobs"), headers={**headers, "host": host})
        assert (answer.status_code, "control.hosts" in answer.json()["message"]) == (400, True), host
    for origin in ("https://evil.example", "null"):
        answer = await api.tcp.get(path(ACME, "jobs"), headers={**headers, "origin": origin})
        assert answer.status_code == 403, origin
    assert (await api.tcp.get(path(ACME, "jobs"), headers={**headers, "host": "LOCALHOST:80"})).status_code == 200


async def test_what_is_no_http_is_answered_and_cut_off(api: ApiServer) -> None:
    for garbage in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"GET\r\n\r\n", b"HELO there\r\n\r\n", b"\x00" * 70_000):
        stream = await anyio.connect_unix(str(api.socket))
        async with stream:
            await stream.send(garbage)
            answer = b""
            while True:
                try:
                    answer += await stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    break
        assert answer.startswith(b"HTTP/1.1 400 "), garbage[:10]
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"message": "This is no HTTP request that can be read."}
    assert (await api.http.get(path(ACME, "jobs"))).status_code == 200


async def test_clients_that_say_nothing_are_cut_off(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEADER_TIMEOUT_S", 0.05)
    for said in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"GET /v1/status HTTP/1.1\r\nhost: localhost\r\n\r\nGET"):
        async with await anyio.connect_unix(str(api.socket)) as stream:
            if said:
                await stream.send(said)
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)), anyio.fail_after(20):
                while True:
                    await stream.receive()


async def test_more_connections_than_files_to_spare_are_turned_away(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "MAX_CONNECTIONS", 20)
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as lines:
        idle = []
        for _ in range(100):
            line = lines.enter_context(socket.socket(socket.AF_UNIX))
            line.setblocking(False)
            await loop.sock_connect(line, str(api.socket))
            idle.append(line)
        # The oldest have been closed for the newer ones, and one more for this:
        assert (await api.http.get(path(ACME, "jobs"))).status_code == 200
        with anyio.fail_after(20):
            assert [await loop.sock_recv(line, 1) for line in idle[:80]] == [b""] * 80


async def test_when_all_connections_are_busy_one_more_is_told_to_come_later(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "MAX_CONNECTIONS", 1)
    async with api.http.stream("GET", "/v1/events") as events:
        assert events.status_code == 200
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(api.socket))) as other:
            answer = await other.get("http://localhost/v1/status")
    assert answer.status_code == 503
    assert "too many connections" in answer.json()["message"]
