"""Repeats a call to a store while trying again may help.

Every method of a store may be repeated (see ``store``), so one rule serves all: back off exponentially with jitter
until the budget is spent, then raise the last error. A permanent error, or an upload that is gone, is raised at once. A
Retry-After within the budget is honoured; one beyond it ends the attempts.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import anyio
import stamina

from exportd.model.errors import InvariantError, TransientError
from exportd.stores.store import UploadGoneError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """For how many seconds a call is repeated, and how the waits in between grow.

    ``guard`` is called before each attempt, and raises when the caller may not write any more.
    """

    timeout_s: float = 120.0
    first_wait_s: float = 0.2
    max_wait_s: float = 15.0
    jitter_s: float = 1.0
    guard: Callable[[], None] = lambda: None

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Call ``work`` until it succeeds, and return its result. Raises TransientError when the budget is spent,
        PermanentError at once.
        """
        began_at = anyio.current_time()
        self.guard()
        try:
            return await work()
        except TransientError as error:
            # Most calls succeed at once, and should not pay for a loop of attempts.
            left_s = self.timeout_s - (anyio.current_time() - began_at)
            if left_s <= 0:
                raise
            return await self._repeated(work, error, left_s)

    async def _repeated(self, work: Callable[[], Awaitable[T]], first: TransientError, timeout_s: float) -> T:
        """The result of ``work``, which has just failed for the first time."""
        async for attempt in stamina.retry_context(
            on=self._wait_s,
            attempts=None,
            timeout=timeout_s,
            wait_initial=self.first_wait_s,
            wait_max=self.max_wait_s,
            wait_jitter=self.jitter_s,
        ):
            if attempt.num > 1:
                self.guard()
            with attempt:
                if attempt.num == 1:
                    raise first
                return await work()
        raise InvariantError("the loop returns or raises")

    def _wait_s(self, error: Exception) -> bool | float:
        """Whether to repeat, and after how many seconds, if the error says so."""
        if not isinstance(error, TransientError) or isinstance(error, UploadGoneError):
            return False
        if error.retry_after_s is None:
            return True
        return error.retry_after_s if error.retry_after_s <= self.timeout_s else False
