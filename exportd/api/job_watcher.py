"""Streams the progress of jobs to listeners as server-sent events. The jobs may run on any daemon.

One query a second serves all listeners; without listeners there are no queries. A listener takes the news when it is
ready for more, so a slow one gets fewer events, and nothing is queued for it. The server closes the connection of a
client that reads nothing (``transport/connection.py``).
"""

import json
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Hashable
from contextlib import aclosing

import anyio
import structlog
from starlette.responses import StreamingResponse
from starlette.types import Send

from exportd.jobs.live_job import JobEvent, LiveJob, events_between
from exportd.model.clock import Clock
from exportd.model.entity import OrganizationId
from exportd.model.errors import ExportdError
from exportd.model.job import JobId

MAX_LISTENERS = 32
MAX_PROGRAMS = 16
"""The number of listeners from which on programs have to wait. Users of the machine do not."""

PERIOD_S = 1.0
HEARTBEAT_S = 15.0
"""After this time without news, a comment shows that the connection is alive."""

_LAST_QUERY_S = 2.0
"""How long the last query may take."""

_HEARTBEAT = b": still here\n\n"

_logger = structlog.get_logger()

Look = Callable[[Collection[JobId]], Awaitable[list[LiveJob]]]
"""Reads the running jobs, and the jobs with the given ids."""


_Reported = dict[JobId, LiveJob | None]
"""The jobs of one listener whose end it has not received yet, each as it was last sent (None: not yet sent)."""


class JobWatcher:
    """Watches jobs for all listeners of a daemon. Streams end when ``run`` does."""

    def __init__(self, look: Look, clock: Clock) -> None:
        self._look = look
        self._clock = clock
        self._jobs: dict[JobId, LiveJob] = {}
        self._listeners: list[_Reported] = []
        self._owners: Counter[Hashable] = Counter()
        self._listened_to = anyio.Event()
        self._news = anyio.Event()
        self._over = False

    def is_full(self, *, for_programs: bool = False) -> bool:
        """Whether another listener would be too many."""
        return len(self._listeners) >= (MAX_PROGRAMS if for_programs else MAX_LISTENERS)

    def count_of(self, owner: Hashable) -> int:
        """How many streams an owner follows."""
        return self._owners[owner]

    async def run(self) -> None:
        """Query once a second while there are listeners, until cancelled; then all streams end."""
        try:
            while True:
                await self._listened_to.wait()
                await self._query_once()
                await self._clock.sleep_until(self._clock.monotonic() + PERIOD_S)
                if not self._listeners:
                    self._listened_to = anyio.Event()
        finally:
            self.close()

    async def drain(self) -> None:
        """Report the ends of the jobs for which the daemon has waited, then ``close``."""
        if self._listeners:
            with anyio.move_on_after(_LAST_QUERY_S):
                await self._query_once()
        self.close()

    def close(self) -> None:
        """End all streams, and start no others."""
        self._over = True
        self._wake_listeners()

    async def stream(
        self, job_id: JobId | None = None, *, organization: OrganizationId | None = None, owner: Hashable = None
    ) -> AsyncGenerator[bytes]:
        """Server-sent events of one job until its end, or of every job that runs (None) until the daemon stops.

        With ``organization``, only its jobs, as it may see them. ``owner`` is the follower; see ``count_of``.
        """
        if self.is_full() or self._over:
            return
        reported: _Reported = {} if job_id is None else {job_id: None}
        self._listeners.append(reported)
        self._owners[owner] += 1
        self._listened_to.set()
        try:
            quiet_since = self._clock.monotonic()
            while job_id is None or reported:
                await self._news.wait()
                for event in self._unreported(reported, job_id, organization):
                    yield _encoded(event)
                    quiet_since = self._clock.monotonic()
                if self._over:
                    return
                if self._clock.monotonic() - quiet_since >= HEARTBEAT_S:
                    yield _HEARTBEAT
                    quiet_since = self._clock.monotonic()
        finally:
            self._listeners = [listener for listener in self._listeners if listener is not reported]
            self._owners[owner] -= 1
            self._owners = +self._owners  # without those that follow nothing any more

    async def _query_once(self) -> None:
        wanted = {job_id for reported in self._listeners for job_id in reported}
        try:
            self._jobs = {job.id: job for job in await self._look(wanted)}
        except ExportdError as error:
            _logger.warning("running jobs could not be read", reason=error.reason, error=error.sentence)
        self._wake_listeners()

    def _wake_listeners(self) -> None:
        news, self._news = self._news, anyio.Event()
        if self._over:
            self._news.set()
        news.set()

    def _unreported(
        self, reported: _Reported, only: JobId | None, organization: OrganizationId | None
    ) -> list[JobEvent]:
        """The events that a listener has not received. They count as sent from here on."""
        news: list[JobEvent] = []
        for live in self._jobs.values():
            followed = live.id in reported or (only is None and not live.finished)
            if not followed or organization not in {None, live.organization}:
                continue
            job = live if organization is None else live.for_organization()
            news += events_between(reported.get(job.id), job)
            if job.finished:
                del reported[job.id]
            else:
                reported[job.id] = job
        return news


class EventStream(StreamingResponse):
    """A response of server-sent events; ``events`` is closed when the client has gone."""

    def __init__(self, events: AsyncGenerator[bytes]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"cache-control": "no-store"})
        self._events = events

    def only_while(self, may_go_on: Callable[[], Awaitable[bool]]) -> "EventStream":
        """The same events, until ``may_go_on`` returns False after one of them."""
        return EventStream(_while(self._events, may_go_on))

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self._events):
            await super().stream_response(send)


async def _while(events: AsyncGenerator[bytes], may_go_on: Callable[[], Awaitable[bool]]) -> AsyncGenerator[bytes]:
    async with aclosing(events):
        async for event in events:
            if not await may_go_on():
                return
            yield event


def _encoded(event: JobEvent) -> bytes:
    return f"event: {event.name}\ndata: {json.dumps(event.data, ensure_ascii=False)}\n\n".encode()
