"""Watches how many bytes a job receives from the database, and reports in the job's progress when it receives almost
none.

Reading a table may run code of the table's owner: the planner calls a function in an index's predicate, and an
expression of the catalog may call another. Such code may sleep. An ordinary statement may send nothing for a long time
as well, because it sorts, or because it searches a huge table for the few rows of one tenant. The two cannot be told
apart, so both are only reported, and the dispatcher runs other jobs beside such a job (``jobs/stalls.py``). Only when a
statement sends nothing for ``limits.silence_timeout_s`` is the attempt ended.

The measure is the time that the job has waited for the server, less one second for each ``STEADY_BYTES`` received. So
rows that trickle in count as almost none. The waiting time of one statement counts for the next one too, up to four
fifths of the time that makes a stall. So many short sleeps add up like a long one, but no entity counts as stalled
because of another alone. Time in which the spool writes does not count.
"""

import math
from asyncio import TimerHandle
from asyncio import get_running_loop as running_loop
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import anyio
import structlog

from exportd.model.entity import EntityCode
from exportd.model.errors import Reason, TransientError
from exportd.model.job import JobProgress, Stall

STALLED_AFTER_S = 15.0
"""A job that has waited for the server for this long counts as stalled."""

STEADY_BYTES = 1_000_000

_MIN_PAUSE_S = 0.01

_logger = structlog.stdlib.get_logger()


class SilenceWatcher:
    """The watcher of one job. It reports to the job's ``progress``. ``timeout_s`` is how long a statement may send
    nothing at all.
    """

    def __init__(
        self, *, timeout_s: float, progress: JobProgress | None = None, stalled_after_s: float = STALLED_AFTER_S
    ) -> None:
        self._timeout_s = timeout_s
        self.progress = JobProgress() if progress is None else progress
        self._stalled_after_s = stalled_after_s
        self._waited_s = 0.0

    @contextmanager
    def reading(self, entity: EntityCode) -> Iterator["Silence"]:
        """Watch one statement that reads the entity's table, until the block ends. Raises TransientError
        COPY_SILENT.
        """
        silence = Silence(
            self.progress,
            entity,
            timeout_s=self._timeout_s,
            stalled_after_s=self._stalled_after_s,
            waited_s=min(self._waited_s, 0.8 * self._stalled_after_s),
        )
        try:
            with silence.scope:
                yield silence
        finally:
            self._waited_s = silence.end()
        if silence.scope.cancelled_caught:
            raise TransientError(
                f"The database sent nothing of entity {entity} for {self._timeout_s:g} s. A function that an index or "
                "a policy of its table calls may hold it up; if the table is only large, raise "
                "limits.silence_timeout_s.",
                reason=Reason.COPY_SILENT,
            )


class Silence:
    """The silence of one statement. The job has waited for ``waited_s`` seconds before it.

    It begins when the object is made. ``received`` ends it, and ``resumed`` begins it again.
    """

    def __init__(
        self, progress: JobProgress, entity: EntityCode, *, timeout_s: float, stalled_after_s: float, waited_s: float
    ) -> None:
        self.scope = anyio.CancelScope()
        self._loop = running_loop()
        self._progress = progress
        self._entity = entity
        self._timeout_s = timeout_s
        self._stalled_after_s = stalled_after_s
        self._waited_s = waited_s
        self._waiting_since: float | None = None
        self._stall: Stall | None = None
        self._timer: TimerHandle | None = None
        self.resumed()
        self._look()

    def received(self, size_bytes: int) -> None:
        """Record that the server has sent ``size_bytes``, which are now being processed."""
        if self._waiting_since is not None:
            self._waited_s += self._loop.time() - self._waiting_since
        self._waiting_since = None
        self.scope.deadline = math.inf
        # Waiting time beyond that of a stall does not count: after a long sort, the job recovers as quickly when rows
        # come.
        self._waited_s = max(0.0, min(self._waited_s, self._stalled_after_s) - size_bytes / STEADY_BYTES)
        if self._stall is not None and not self._waited_s:
            self._tell(None)
            _logger.info("entity goes on", entity=self._entity)

    def resumed(self) -> None:
        """Record that the bytes are processed, and that the job waits for the server again."""
        self._waiting_since = self._loop.time()
        self.scope.deadline = self._waiting_since + self._timeout_s

    def end(self) -> float:
        """Record that the statement has ended, with or without success. Returns how long the job has waited so far, in
        seconds.
        """
        if self._timer is not None:
            self._timer.cancel()
        self.received(0)
        self._tell(None)
        return self._waited_s

    def _look(self) -> None:
        """Report a stall if the job has waited long enough, and set the timer for the next look."""
        now = self._loop.time()
        waited_s = self._waited_s + (0.0 if self._waiting_since is None else now - self._waiting_since)
        missing_s = self._stalled_after_s - waited_s
        if missing_s <= 0 and self._stall is None:
            self._tell(
                Stall(
                    (self._entity,),
                    Reason.COPY_SILENT,
                    f"The database has sent next to nothing for {waited_s:.0f} s, entity {self._entity} last. It sorts "
                    "or searches a large table, or a function that an index or a policy of the table calls holds it "
                    "up.",
                    datetime.now(UTC) - timedelta(seconds=waited_s),
                )
            )
            _logger.warning("entity stalls", entity=self._entity, waited_s=round(waited_s))
        again_s = max(missing_s, _MIN_PAUSE_S) if missing_s > 0 else self._stalled_after_s
        self._timer = self._loop.call_later(again_s, self._look)

    def _tell(self, stall: Stall | None) -> None:
        self._progress.replace_stall(self._stall, stall)
        self._stall = stall
