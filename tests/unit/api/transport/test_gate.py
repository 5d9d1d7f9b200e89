"""What the gate turns away before any operation looks at it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import anyio
import pytest
from fastapi import FastAPI, Request
from structlog.testing import capture_logs

from exportd.api.problems import Refusal, install_handlers
from exportd.api.transport.client_limits import RateLimit
from exportd.api.transport.gate import MAX_BODY_BYTES, REFUSALS_A_SECOND, Gate
from exportd.api.transport.unix_socket import Peer
from tests.fixtures.fake_clock import FakeClock

Receive = Callable[[], Awaitable[dict[str, Any]]]
LOCAL = Peer(1, 1000, frozenset())


def gate(clock: FakeClock, *, requests: int = 1000, body_time_s: float = 30.0) -> Gate:
    """Before an application that says how long the body was, or refuses with the status that the request names."""
    application = FastAPI()
    install_handlers(application)

    @application.post("/")
    async def measure(request: Request) -> int:
        if (status := request.headers.get("x-refuse")) is not None:
            raise Refusal(int(status), "No.")
        return len(await request.body())

    limit = RateLimit(requests, 300.0)
    return Gate(application, hosts={"localhost"}, address_limit=limit, clock=clock, body_time_s=body_time_s)


async def answered(
    to: Gate,
    receive: Receive,
    *,
    peer: Peer | None = None,
    address: str = "192.0.2.1",
    path: str = "/",
    more: Sequence[tuple[bytes, bytes]] = (),
) -> tuple[int, dict[bytes, bytes]]:
    """Status and headers of the answer to a POST."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [*more] if any(name == b"host" for name, _ in more) else [(b"host", b"localhost"), *more],
        "client": (address, 5),
        "state": {"peer": peer},
    }
    await to(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"])


def sending(*pieces: bytes, more: bool = False) -> Receive:
    """A client that sends these pieces and, with ``more``, promises another one that never comes."""
    waiting = list(pieces)

    async def receive() -> dict[str, Any]:
        if not waiting:
            await anyio.sleep_forever()
        body = waiting.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(waiting) or more}

    return receive


async def test_a_body_that_does_not_arrive_in_time_is_given_up() -> None:
    for pieces in ((), (b"the beginning",)):
        with anyio.fail_after(20):
            status, headers = await answered(gate(FakeClock(), body_time_s=0.02), sending(*pieces, more=True))
        assert (status, headers[b"connection"]) == (408, b"close")


async def test_a_body_without_a_declared_length_is_measured() -> None:
    half = b"x" * (MAX_BODY_BYTES // 2)
    assert (await answered(gate(FakeClock()), sending(half, half)))[0] == 200
    assert (await answered(gate(FakeClock()), sending(half, half, b"x")))[0] == 413


async def test_an_address_may_make_so_many_requests_and_others_are_not_concerned() -> None:
    clock = FakeClock()
    narrow = gate(clock, requests=3)
    assert [(await answered(narrow, sending(b"x")))[0] for _ in range(5)] == [200, 200, 200, 429, 429]
    status, headers = await answered(narrow, sending(b"x"))
    assert (status, 1 <= int(headers[b"retry-after"]) <= 300) == (429, True)
    assert (await answered(narrow, sending(b"x"), address="192.0.2.2"))[0] == 200
    await clock.advance(301.0)
    assert (await answered(narrow, sending(b"x")))[0] == 200


@pytest.mark.parametrize("requests", [1, 50])
async def test_users_of_the_machine_are_not_counted(requests: int) -> None:
    narrow = gate(FakeClock(), requests=1)
    statuses = {(await answered(narrow, sending(b"x"), peer=LOCAL))[0] for _ in range(requests)}
    assert statuses == {200}


@pytest.mark.parametrize(
    ("peer", "more", "status"),
    [
        (None, [(b"sec-fetch-site", b"cross-site")], 403),
        (LOCAL, [(b"sec-fetch-site", b"cross-site")], 403),
        (LOCAL, [(b"host", b"evil.example")], 400),
        (None, [(b"x-refuse", b"401")], 401),
        (None, [(b"x-refuse", b"403")], 403),
        (None, [(b"x-refuse", b"429")], 429),
    ],
)
async def test_a_client_that_is_refused_again_and_again_waits_for_it(
    peer: Peer | None, more: list[tuple[bytes, bytes]], status: int
) -> None:
    """What is accepted does not wait, nor does another client."""
    clock = FakeClock()
    to = gate(clock)
    for _ in range(REFUSALS_A_SECOND):
        assert (await answered(to, sending(b"x"), peer=peer, more=more))[0] == status
    waiting = asyncio.create_task(answered(to, sending(b"x"), peer=peer, more=more))
    await clock.advance(0.5)
    assert not waiting.done()
    assert (await answered(to, sending(b"x"), peer=peer))[0] == 200
    other = None if peer is None else Peer(2, 1001, frozenset())
    assert (await answered(to, sending(b"x"), peer=other, address="192.0.2.2", more=more))[0] == status
    await clock.advance(0.6)
    assert (await waiting)[0] == status
    assert (await answered(to, sending(b"x"), peer=peer, more=more))[0] == status


async def test_users_of_the_machine_do_not_wait_for_what_an_operation_refuses() -> None:
    to, more = gate(FakeClock()), [(b"x-refuse", b"403")]
    for _ in range(REFUSALS_A_SECOND + 1):
        assert (await answered(to, sending(b"x"), peer=LOCAL, more=more))[0] == 403


@pytest.mark.parametrize("size_bytes", [0, 10])
async def test_who_vanishes_in_the_middle_of_a_body_is_no_fault_of_ours(size_bytes: int) -> None:
    pieces: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"x" * size_bytes, "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return pieces.pop(0)

    with capture_logs() as logs:
        await answered(gate(FakeClock()), receive)
    assert logs == []


@pytest.mark.parametrize("kind", ["foreign host", "foreign page", "two lengths", "too large", "ordinary"])
async def test_no_page_of_another_site_may_embed_an_answer(kind: str) -> None:
    more = {
        "foreign host": [(b"host", b"evil.example")],
        "foreign page": [(b"sec-fetch-site", b"cross-site")],
        "two lengths": [(b"content-length", b"1"), (b"transfer-encoding", b"chunked")],
        "too large": [(b"content-length", b"2000000")],
        "ordinary": [],
    }[kind]
    status, headers = await answered(gate(FakeClock()), sending(b"x"), more=more)
    assert (status == 200) == (kind == "ordinary")
    assert headers[b"cross-origin-resource-policy"] == b"same-origin"


async def test_the_token_of_a_download_is_not_logged() -> None:
    async def broken(_scope: Any, _receive: Any, _send: Any) -> None:
        raise OSError("the disk")

    limit = RateLimit(1000, 300.0)
    failing = Gate(broken, hosts={"localhost"}, address_limit=limit, clock=FakeClock())
    with capture_logs() as logs:
        for path in ("/downloads/abcdefgh.ijklmnop", "//downloads/abcdefgh/x", "/v1/status"):
            with suppress(IndexError):  # there is no answer
                await answered(failing, sending(b""), path=path)
    assert [log["path"] for log in logs] == ["/downloads/***", "//downloads/***", "/v1/status"]
