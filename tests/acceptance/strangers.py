"""Those who misbehave, in a process of their own: ``python -m tests.acceptance.strangers``, a target on standard input.

They go on until standard input ends, and keep everything that they are told. What they achieved is printed as JSON. The
process gives way to all others, as if it ran on another machine.
"""

import asyncio
import json
import os
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import httpx

SILENT_CONNECTIONS = 150
OVERSIZE_BYTES = 2_000_000
FORGED = ("job_queued", "job_started", "schedule_changed", "destination_changed", "cancel_requested", "nonsense")
PAGES: tuple[Mapping[str, str], ...] = (
    {"host": "evil.example"},
    {"host": "evil@localhost"},
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
)
ROWS = """
    INSERT INTO attic.things SELECT n, 'greedy', repeat('x', 100) FROM generate_series(1, 50) AS n
    ON CONFLICT (id) DO UPDATE SET note = things.note || 'y'
"""


@dataclass(frozen=True)
class Target:
    """What is attacked, and what each stranger has been given. ``heard`` is the file for what they are told."""

    organization: str
    others: tuple[str, ...]
    port: int
    socket: str
    client: str
    secret: str
    owner_dsn: str
    visitor_dsn: str
    heard: str


@dataclass
class Achieved:
    """``accepted`` are the changes that the API took, by what was done and to what; ``done`` counts everything."""

    accepted: list[tuple[str, str]] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)


class Strangers:
    """All of them, until ``over`` is set."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._random = Random(7)
        self._numbers = count()
        self._mine: list[str] = []
        self._heard = Path(target.heard).open("ab")  # noqa: SIM115  # closed by run
        self.achieved = Achieved()
        self.over = asyncio.Event()

    async def run(self) -> None:
        """Misbehave at once."""
        with self._heard:
            async with asyncio.TaskGroup() as group:
                for act in (
                    *(self._operate,) * 4,
                    *(self._own_a_table, self._truncate, self._squat, self._forge),
                    *(self._open_pages, self._keep_silent, self._send_halves),
                ):
                    group.create_task(self._again_and_again(act))

    async def _again_and_again(self, act: Callable[[], Awaitable[None]]) -> None:
        """Whatever a stranger is refused or loses, they come back."""
        while not self.over.is_set():
            try:
                await act()
            except (OSError, httpx.HTTPError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                self._hear(type(error).__name__, str(error).encode())
            await asyncio.sleep(0)

    def _hear(self, what: str, content: bytes) -> None:
        self.achieved.done[what] += 1
        self._heard.write(content + b"\n")

    # The operator of a tenant

    async def _operate(self) -> None:
        """Ask as fast as can be, for what is one's own and others'; fill every quota; send what is too large."""
        target = self._target
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{target.port}", trust_env=False, timeout=20.0
        ) as client:
            token = (
                await client.post(
                    "/oauth/token", auth=(target.client, target.secret), json={"grant_type": "client_credentials"}
                )
            ).json()
            if "access_token" not in token:
                return
            client.headers["authorization"] = f"Bearer {token['access_token']}"
            while not self.over.is_set():
                await self._random.choice((self._ask, self._ask, self._pry, self._change, self._export, self._stuff))(
                    client
                )

    async def _ask(self, client: httpx.AsyncClient) -> None:
        self._answered("ask", await client.get(self._path(self._target.organization, "jobs"), params={"pageSize": 100}))

    async def _pry(self, client: httpx.AsyncClient) -> None:
        other = self._random.choice(self._target.others)
        for kind in ("schedules", "destinations", "jobs"):
            self._answered("pry", await client.get(self._path(other, kind)))
            self._answered("pry", await client.get(f"/v1/{kind}", params={"organization": other}))
        self._answered("pry", await client.get(self._random.choice(("/v1/status", "/v1/capture", "/metrics"))))

    async def _change(self, client: httpx.AsyncClient) -> None:
        if self._mine and self._random.random() < 0.3:
            schedule = self._mine.pop()
            answer = await client.delete(self._path(self._target.organization, "schedules", schedule))
            self._answered("delete", answer, lambda _: ("schedule deleted", schedule))
            return
        number = next(self._numbers)
        body = {
            "name": "x",
            "code": f"greedy-{number}",
            "sourceType": "OPERATIONAL",
            "operationalDataTypes": ["THINGS"],
            "scheduleType": "HOUR",
            "period": 1,
            "offset": 15,
        }
        answer = await client.post(self._path(self._target.organization, "schedules"), json=body)
        if self._answered("create", answer, lambda document: ("schedule created", document["id"])):
            self._mine.append(answer.json()["id"])

    async def _export(self, client: httpx.AsyncClient) -> None:
        entities = self._random.sample(["THINGS", "ACCOUNTS", "ORDERS", "COUNTRIES"], self._random.randint(1, 4))
        body = {"sourceType": "OPERATIONAL", "operationalDataTypes": entities}
        answer = await client.post(self._path(self._target.organization, "adhoc"), json=body)
        self._answered("export", answer, lambda document: ("export requested", document["jobId"]))

    async def _stuff(self, client: httpx.AsyncClient) -> None:
        content = b'{"name": "' + b"x" * OVERSIZE_BYTES + b'"}'
        headers = {"content-type": "application/json"}
        where = self._path(self._target.organization, "schedules")
        self._answered("stuff", await client.post(where, content=content, headers=headers))

    def _answered(
        self, what: str, answer: httpx.Response, made: Callable[[Any], tuple[str, str]] | None = None
    ) -> bool:
        self._hear(f"{what} {answer.status_code}", answer.content)
        if answer.status_code == 200 and made is not None:
            self.achieved.accepted.append(made(answer.json()))
        return answer.status_code == 200

    @staticmethod
    def _path(organization: str, *rest: str) -> str:
        return "/".join(("", "organizations", organization, "dataexports", *rest))

    # The owner of a table

    async def _own_a_table(self) -> None:
        """Change it, lock it, and put policies on it."""
        connection = await asyncpg.connect(self._target.owner_dsn)
        try:
            while not self.over.is_set():
                await connection.execute(ROWS)
                async with connection.transaction():
                    await connection.execute("LOCK TABLE attic.things IN ACCESS EXCLUSIVE MODE")
                    await asyncio.sleep(0.1)
                await connection.execute("ALTER TABLE attic.things ENABLE ROW LEVEL SECURITY")
                await asyncio.sleep(0.05)
                await connection.execute("ALTER TABLE attic.things DISABLE ROW LEVEL SECURITY")
                self.achieved.done["locked"] += 1
                await asyncio.sleep(0.5)
        finally:
            await connection.close()

    async def _truncate(self) -> None:
        """Have exportd's own function run while traps are set; look at what the traps have caught."""
        connection = await asyncpg.connect(self._target.owner_dsn)
        try:
            while not self.over.is_set():
                await connection.execute("TRUNCATE attic.things")
                names = await connection.fetch("SELECT DISTINCT application_name FROM pg_stat_activity")
                self._hear("truncated", "\n".join(str(row[0]) for row in names).encode())
                await asyncio.sleep(0.3)
        finally:
            await connection.close()

    # A role that may connect

    async def _squat(self) -> None:
        """Take the locks that others might take, listen to everything, and look into the catalogs."""
        connection = await asyncpg.connect(self._target.visitor_dsn)

        def listen(*notification: object) -> None:
            self._hear(f"heard on {notification[2]}", str(notification[3]).encode())

        try:
            for channel in ("exportd_events", "exportd_doorbell"):
                await connection.add_listener(channel, listen)
            for number in range(300):
                await connection.execute("SELECT pg_advisory_lock(hashtextextended('exportd ' || $1, 0))", str(number))
            for name in ("schedules", "destinations", "jobs"):
                await connection.execute("SELECT pg_advisory_lock(hashtextextended('exportd ' || $1, 0))", name)
            while not self.over.is_set():
                for table in ("job", "schedule", "destination", "api_client", "log_accounts"):
                    with suppress(asyncpg.InsufficientPrivilegeError):
                        rows = await connection.fetch(f"SELECT * FROM exportd.{table}")
                        self._hear("looked into a table", repr(rows).encode())
                names = await connection.fetch("SELECT application_name, query FROM pg_stat_activity")
                self._hear("looked at others", repr(names).encode())
                await asyncio.sleep(0.2)
        finally:
            await connection.close()

    async def _forge(self) -> None:
        """Notifications, as if they were the daemon's and the triggers'."""
        connection = await asyncpg.connect(self._target.visitor_dsn)
        try:
            while not self.over.is_set():
                for kind in FORGED:
                    payload = json.dumps({"kind": kind, "id": str(next(self._numbers)), "schedule": None})
                    await connection.execute("SELECT pg_notify('exportd_events', $1)", payload)
                await connection.execute(
                    "SELECT pg_notify('exportd_doorbell', 'FORGED_' || n || repeat('x', 500))"
                    " FROM generate_series(1, 200) AS n"
                )
                self.achieved.done["forged"] += 1
                await asyncio.sleep(0.02)
        finally:
            await connection.close()

    # A web page, and a client without credentials

    async def _open_pages(self) -> None:
        transport = httpx.AsyncHTTPTransport(uds=self._target.socket)
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=20.0) as local,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{self._target.port}", trust_env=False) as remote,
        ):
            while not self.over.is_set():
                for client in (local, remote):
                    for headers in PAGES:
                        for method, path in (("POST", "/v1/pause"), ("GET", "/v1/schedules"), ("POST", "/v1/clients")):
                            self._answered("page", await client.request(method, path, headers=dict(headers)))
                await asyncio.sleep(0.05)

    async def _keep_silent(self) -> None:
        """Connect and say nothing."""
        lines: list[socket.socket] = []
        try:
            while len(lines) < SILENT_CONNECTIONS and not self.over.is_set():
                line = socket.socket()
                line.setblocking(False)
                lines.append(line)
                await asyncio.get_running_loop().sock_connect(line, ("127.0.0.1", self._target.port))
                self.achieved.done["silent"] += 1
            await asyncio.sleep(1)
        finally:
            for line in lines:
                line.close()

    async def _send_halves(self) -> None:
        """Announce a body, send half of it, and wait."""
        line = socket.socket()
        line.setblocking(False)
        try:
            loop = asyncio.get_running_loop()
            await loop.sock_connect(line, ("127.0.0.1", self._target.port))
            head = b"POST /oauth/token HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            await loop.sock_sendall(line, head + b'content-length: 1000\r\n\r\n{"grant_type": ')
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    self._hear("half", await loop.sock_recv(line, 65536))
        finally:
            line.close()


async def _main() -> None:
    os.nice(19)
    loop = asyncio.get_running_loop()
    document = json.loads(await loop.run_in_executor(None, sys.stdin.readline))
    strangers = Strangers(Target(**document))
    misbehaving = asyncio.create_task(strangers.run())
    await loop.run_in_executor(None, sys.stdin.read)
    strangers.over.set()
    await misbehaving
    sys.stdout.write(json.dumps(vars(strangers.achieved)))


if __name__ == "__main__":
    asyncio.run(_main())
