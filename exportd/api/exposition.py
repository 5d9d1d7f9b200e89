"""Serves monitoring: the metrics for Prometheus, including those of the database, and whether the daemon is ready.

The monitoring address needs no credentials, so probes only say which part does not work. The log says why.
"""

import ipaddress
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import structlog
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from exportd.api.transport.gate import Authority, refuse_page
from exportd.database import queries
from exportd.database.connector import Pool
from exportd.database.translator import translated
from exportd.database.unit_of_work import slices
from exportd.model.clock import Clock
from exportd.model.entity import EntityCode
from exportd.model.errors import ExportdError
from exportd.telemetry.metrics import Metrics

if TYPE_CHECKING:
    import asyncpg


_SQL = queries.load("metrics")

_logger = structlog.get_logger()

Condition = Callable[[], Awaitable[bool]]
"""Tells whether a part of the daemon works. Raising ExportdError means that it does not."""

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_READINESS_AGE_S = 1.0
_LOOK_TIMEOUT_S = 3.0
_OWN_NAMES = frozenset({"localhost"})
_MAX_AGE_S = 5.0
"""The shortest time between two readings of metrics, however often they are scraped."""

_TIMEOUT_MS = 2000
"""The time limit of a query, because metrics are read every few seconds and must not burden the database."""


class Exposition:
    """Makes the text of metrics. ``refresh`` updates those of the database, and may raise ExportdError; ``look``
    updates those of the process.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        refresh: Callable[[Metrics], Awaitable[None]],
        look: Callable[[Metrics], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._metrics = metrics
        self._refresh = refresh
        self._look = look
        self._clock = clock
        self._lock = anyio.Lock()
        self._text = b""
        self._made_at = float("-inf")

    async def text(self) -> bytes:
        """The metrics' text, at most a few seconds old. While the database is out of reach, its metrics are
        left out.
        """
        async with self._lock:
            if self._clock.monotonic() - self._made_at >= _MAX_AGE_S:
                try:
                    await self._refresh(self._metrics)
                except ExportdError as error:
                    self._metrics.forget_database()
                    _logger.warning("metrics without the database", reason=error.reason, error=error.sentence)
                await self._look(self._metrics)
                # In a thread, because it takes long with thousands of schedules.
                self._text = await anyio.to_thread.run_sync(self._metrics.text)
                self._made_at = self._clock.monotonic()
            return self._text


class Readiness:
    """Checks whether the parts of the daemon work, at most once a second, however many probes ask."""

    def __init__(self, parts: Mapping[str, Condition], clock: Clock) -> None:
        self._parts = parts
        self._clock = clock
        self._lock = anyio.Lock()
        self._found: dict[str, bool] = {}
        self._found_at = float("-inf")

    async def look(self) -> Mapping[str, bool]:
        """Whether each part works, by name. A part that does not answer within 3 seconds does not work."""
        async with self._lock:
            if self._clock.monotonic() - self._found_at >= _READINESS_AGE_S:
                found = dict.fromkeys(self._parts, False)
                async with anyio.create_task_group() as looking:
                    for name, condition in self._parts.items():
                        looking.start_soon(self._look_at, name, condition, found)
                if missing := [name for name, works in found.items() if not works and self._found.get(name, True)]:
                    _logger.warning("not ready", missing=missing)
                self._found, self._found_at = found, self._clock.monotonic()
            return self._found

    async def _look_at(self, name: str, condition: Condition, found: dict[str, bool]) -> None:
        with anyio.move_on_after(_LOOK_TIMEOUT_S):
            try:
                found[name] = await condition()
            except ExportdError as error:
                _logger.debug("a part does not work", part=name, reason=error.reason, error=error.sentence)


class Monitoring:
    """An ASGI application. ``exposition`` returns the current exposition, which a reload replaces.

    ``hosts`` are names of this server, besides localhost and IP addresses.
    """

    def __init__(self, exposition: Callable[[], Exposition], readiness: Readiness, *, hosts: Collection[str]) -> None:
        self._exposition = exposition
        self._readiness = readiness
        self._hosts = frozenset(name.lower() for name in hosts) | _OWN_NAMES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = self._refused(scope) or await self._answer(scope["path"])
        answer.headers["cross-origin-resource-policy"] = "same-origin"
        answer.headers["cache-control"] = "no-store"
        await answer(scope, receive, send)

    def _refused(self, scope: Scope) -> Response | None:
        if scope["method"] not in {"GET", "HEAD"}:
            return PlainTextResponse("Only GET is answered here.\n", 405, headers={"allow": "GET, HEAD"})
        # DNS rebinding, by which a foreign page reaches this server, uses a name and never an IP address.
        named = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        called = Authority.of(named[0]) if len(named) == 1 else None
        hosts = self._hosts | ({called.host} if called is not None and _is_ip_address(called.host) else set())
        refusal = refuse_page(scope["method"], scope["headers"], hosts=hosts)
        if refusal is None:
            return None
        sentence = (
            "The Host header does not name this server: metrics.hosts lists the names it goes by."
            if refusal.status_code == 400
            else refusal.detail
        )
        return PlainTextResponse(f"{sentence}\n", refusal.status_code)

    async def _answer(self, path: str) -> Response:
        match path:
            case "/metrics":
                return Response(await self._exposition().text(), media_type=METRICS_TYPE)
            case "/healthz":
                return PlainTextResponse("ok\n")  # the loop turns, or this would not be sent
            case "/readyz":
                parts = await self._readiness.look()
                lines = [f"{name} {'ok' if works else 'missing'}\n" for name, works in parts.items()]
                return PlainTextResponse("".join(lines), 200 if all(parts.values()) else 503)
            case _:
                return PlainTextResponse("There are /metrics, /healthz and /readyz.\n", 404)


def _is_ip_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


class MetricsReader:
    """Fills the gauges about the database. ``logs`` are the change logs' names, by entity."""

    def __init__(self, pool: Pool, logs: Mapping[EntityCode, str]) -> None:
        self._pool = pool
        self._logs = logs

    async def read(self, metrics: Metrics) -> None:
        """Read the figures into the gauges. Raises TransientError when the database is out of reach or too slow; the
        gauges then stay as they were.
        """
        with translated("reading the metrics"):
            async with (
                self._pool.acquire(timeout=_TIMEOUT_MS / 1000) as connection,
                connection.transaction(readonly=True),
            ):
                await connection.execute(f"SET LOCAL statement_timeout = {_TIMEOUT_MS}")
                found: dict[str, Sequence[asyncpg.Record]] = {
                    "freshness": [row async for rows in slices(connection, _SQL["freshness"]) for row in rows],
                    "failed_schedules": await connection.fetch(_SQL["failed_schedules"]),
                    "jobs": await connection.fetch(_SQL["jobs"]),
                    "change_logs": await connection.fetch(_SQL["change_logs"], [*self._logs], [*self._logs.values()]),
                    "oldest_rows": await connection.fetch(_SQL["oldest_rows"]),
                    "oldest_transaction": await connection.fetch(_SQL["oldest_transaction"]),
                }
        # In a thread, because it takes long with thousands of schedules.
        await anyio.to_thread.run_sync(_fill, metrics, found)


def _fill(metrics: Metrics, found: "Mapping[str, Sequence[asyncpg.Record]]") -> None:
    """``found`` has the rows of each query."""
    metrics.forget_database()
    metrics.database_up.set(1)
    for row in found["freshness"]:
        metrics.freshness.labels(row["organization"], row["code"], row["destination"]).set(row["lag_s"])
    for row in found["failed_schedules"]:
        metrics.schedule_failed.labels(row["organization"], row["code"], row["reason"]).set(1)
    for row in found["jobs"]:
        metrics.jobs.labels("PENDING").set(row["pending"])
        metrics.jobs.labels("RUNNING").set(row["running"])
        metrics.oldest_due.set(row["oldest_due_s"])
    for row in found["change_logs"]:
        metrics.log_rows.labels(row["entity"]).set(row["rows"])
        if row["oldest_window_s"] is not None:
            metrics.oldest_window.labels(row["entity"]).set(row["oldest_window_s"])
    for row in found["oldest_rows"]:
        metrics.oldest_row.labels(row["kind"]).set(row["age_s"])
    for row in found["oldest_transaction"]:
        metrics.oldest_transaction.set(row["age_s"])
