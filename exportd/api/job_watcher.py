"""Tells listeners how jobs come along, whichever daemon runs them.

One look into the database a second serves all listeners, and none is made while nobody listens. A listener takes what
is new to it when it is ready for more: a slow one is told less often, and nothing is piled up for it.
"""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import aclosing

import anyio
import structlog
from starlette.responses import StreamingResponse
from starlette.types import Send

from exportd.jobs.live_job import JobEvent, LiveJob, events_between
from exportd.model.clock import Clock
from exportd.model.errors import ExportdError
from exportd.model.job import JobId

MAX_LISTENERS = 32
PERIOD_S = 1.0
HEARTBEAT_S = 15.0
"""After so long without news a comment tells that the line is alive."""

_LAST_LOOK_S = 2.0
"""How long the last look may take."""

_HEARTBEAT = b": still here\n\n"

_logger = structlog.get_logger()

Look = Callable[[Collection[JobId]], Awaitable[list[LiveJob]]]
"""The jobs that run, and these."""


class JobWatcher:
    """One per daemon. Streams end when ``run`` does."""

    def __init__(self, look: Look, clock: Clock) -> None:
        self._look = look
        self._clock = clock
        self._jobs: dict[JobId, LiveJob] = {}
        self._told: list[dict[JobId, LiveJob | None]] = []
        """By listener: the jobs whose end it has to be told, as it last heard of them."""
        self._listened_to = anyio.Event()
        self._news = anyio.Event()
        self._over = False

    @property
    def is_full(self) -> bool:
        """Whether one listener more would be too many."""
        return len(self._told) >= MAX_LISTENERS

    async def run(self) -> None:
        """Look once a second while somebody listens, until cancelled; then all streams end."""
        try:
            while True:
                await self._listened_to.wait()
                await self._look_once()
                await self._clock.sleep_until(self._clock.monotonic() + PERIOD_S)
                if not self._told:
                    self._listened_to = anyio.Event()
        finally:
            self.leave()

    async def take_leave(self) -> None:
        """Tell those who listen how the jobs have ended that the daemon waited for; then ``leave``."""
        if self._told:
            with anyio.move_on_after(_LAST_LOOK_S):
                await self._look_once()
        self.leave()

    def leave(self) -> None:
        """End all streams, and begin no other."""
        self._over = True
        self._tell()

    async def stream(self, job_id: JobId | None = None) -> AsyncGenerator[bytes]:
        """Server-sent events of one job until its end, or of every job that runs (None) until the daemon leaves."""
        if self.is_full or self._over:
            return
        told: dict[JobId, LiveJob | None] = {} if job_id is None else {job_id: None}
        self._told.append(told)
        self._listened_to.set()
        try:
            quiet_since = self._clock.monotonic()
            while job_id is None or told:
                await self._news.wait()
                for event in self._new_to(told, job_id):
                    yield _encoded(event)
                    quiet_since = self._clock.monotonic()
                if self._over:
                    return
                if self._clock.monotonic() - quiet_since >= HEARTBEAT_S:
                    yield _HEARTBEAT
                    quiet_since = self._clock.monotonic()
        finally:
            self._told = [each for each in self._told if each is not told]

    async def _look_once(self) -> None:
        wanted = {job_id for told in self._told for job_id in told}
        try:
            self._jobs = {job.id: job for job in await self._look(wanted)}
        except ExportdError as error:
            _logger.warning("running jobs could not be looked at", reason=error.reason, error=error.sentence)
        self._tell()

    def _tell(self) -> None:
        told, self._news = self._news, anyio.Event()
        if self._over:
            self._news.set()
        told.set()

    def _new_to(self, told: dict[JobId, LiveJob | None], only: JobId | None) -> list[JobEvent]:
        """What a listener has not heard; from here on it has."""
        news: list[JobEvent] = []
        for job in self._jobs.values():
            followed = job.id in told or (only is None and not job.finished)
            if not followed:
                continue
            news += events_between(told.get(job.id), job)
            if job.finished:
                del told[job.id]
            else:
                told[job.id] = job
        return news


def _encoded(event: JobEvent) -> bytes:
    return f"event: {event.name}\ndata: {json.dumps(event.data, ensure_ascii=False)}\n\n".encode()


# MERGED: An answer that goes on: server-sent events. A client that does not keep up is dropped by the server (server.py).


class EventStream(StreamingResponse):
    """``events`` is closed when the client has gone, whenever that is."""

    def __init__(self, events: AsyncGenerator[bytes]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"cache-control": "no-store"})
        self._events = events

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self._events):
            await super().stream_response(send)
