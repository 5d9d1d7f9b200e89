"""Repeats a call to a store while trying again may help.

Every method of a store may be repeated (see ``store``), so one rule does for all: back off exponentially
with jitter until the budget is spent, then raise the last error. A permanent error, or an upload that is
gone, is raised at once. Who says when to come again (``Retry-After``) is asked again then, if that is within the
budget.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import stamina

from exportd.model.errors import TransientError
from exportd.stores.store import UploadGoneError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """How long a call is repeated, in seconds, and how the waits in between grow."""

    timeout_s: float = 120.0
    first_wait_s: float = 0.2
    longest_wait_s: float = 15.0
    jitter_s: float = 1.0

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of ``work``. Raises TransientError when the budget is spent, PermanentError at once."""
        async for attempt in stamina.retry_context(
            on=self._wait_s,
            attempts=None,
            timeout=self.timeout_s,
            wait_initial=self.first_wait_s,
            wait_max=self.longest_wait_s,
            wait_jitter=self.jitter_s,
        ):
            with attempt:
                return await work()
        raise AssertionError("the loop returns or raises")

    def _wait_s(self, error: Exception) -> bool | float:
        """Whether to repeat; how many seconds later, if the error says so."""
        if not isinstance(error, TransientError) or isinstance(error, UploadGoneError):
            return False
        if error.retry_after_s is None:
            return True
        return error.retry_after_s if error.retry_after_s <= self.timeout_s else False
