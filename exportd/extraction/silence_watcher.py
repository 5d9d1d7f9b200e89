"""Watches what a job reads of the database, and tells the job's progress when next to nothing comes.

Code of a table's owner may run when the table is read: the planner calls a function in an index's predicate, and an
expression of the catalog may call another. It may sleep. An honest statement may be silent as well: it sorts, or looks
for one tenant's few rows in a huge table. The two cannot be told apart, so both are only told: the dispatcher lets
others go on beside such a job (``jobs/stalls.py``). Only a silence of ``limits.silence_timeout_s`` ends the attempt.

What counts is the time for which the server had the job wait, less a second for each ``STEADY_BYTES`` that it sent. So
rows that drip are like none. What one statement has waited is held against the next, up to four fifths of what makes a
stall: many sleeps are like a long one, and no entity stalls for what another did. What the spool takes is not the
server's time.
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
"""For so long the server may have us wait before the job counts as one that stalls."""

STEADY_BYTES = 1_000_000

_MIN_PAUSE_S = 0.01

_logger = structlog.stdlib.get_logger()


class SilenceWatcher:
    """Of one job, whose progress it tells. ``timeout_s`` is how long a statement may send nothing at all."""

    def __init__(
        self, *, timeout_s: float, progress: JobProgress | None = None, stalled_after_s: float = STALLED_AFTER_S
    ) -> None:
        self._timeout_s = timeout_s
        self.progress = JobProgress() if progress is None else progress
        self._stalled_after_s = stalled_after_s
        self._waited_s = 0.0

    @contextmanager
    def reading(self, entity: EntityCode) -> Iterator["Silence"]:
        """Around a statement that reads the entity's table. Raises TransientError COPY_SILENT."""
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
    """Of one statement, after the job has waited for ``waited_s`` already.

    It begins at once; ``received`` interrupts it until ``resumed``.
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
        """So many bytes came, and are being taken."""
        if self._waiting_since is not None:
            self._waited_s += self._loop.time() - self._waiting_since
        self._waiting_since = None
        self.scope.deadline = math.inf
        # No more than what makes a stall is held against it: a long sort is forgotten when the rows come.
        self._waited_s = max(0.0, min(self._waited_s, self._stalled_after_s) - size_bytes / STEADY_BYTES)
        if self._stall is not None and not self._waited_s:
            self._tell(None)
            _logger.info("entity goes on", entity=self._entity)

    def resumed(self) -> None:
        """They were taken, and the server has us wait again."""
        self._waiting_since = self._loop.time()
        self.scope.deadline = self._waiting_since + self._timeout_s

    def end(self) -> float:
        """The statement has ended, however; how long the job has waited by now, in seconds."""
        if self._timer is not None:
            self._timer.cancel()
        self.received(0)
        self._tell(None)
        return self._waited_s

    def _look(self) -> None:
        """Find out whether it stalls, and look again when it may."""
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
