"""Joins calls that are made at the same time into one, because many jobs ask the database or the disk for the same
thing.

A request is sent at once when no call is running, together with all requests of the same turn of the event loop.
Requests that come meanwhile are sent together in the next call. After several requests were made at the same time, more
are expected: the next call waits for them, as long as they keep coming. So a single job waits for nothing, and many
jobs need few statements and few flushes.
"""

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel

from exportd.model.errors import PermanentError, Reason, TransientError

_CROWDED_S = 1.0
"""For how long more requests are expected after several were made at the same time."""

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")

MAX_TOGETHER = 100
LINGER_S = 0.03
"""A call waits for more requests until none has come for this long."""

_MAX_LINGERS = 10
CALL_TIMEOUT_S = 10.0
"""The time limit of a call. It is not cancelled with the request that started it, because others wait for it too."""


@dataclass(slots=True, eq=False)
class _Asked(Generic[RequestT, AnswerT]):
    request: RequestT
    answers: list[AnswerT] = field(default_factory=list)
    error: BaseException | None = None

    @property
    def is_answered(self) -> bool:
        return bool(self.answers) or self.error is not None


class CallBatcher(Generic[RequestT, AnswerT]):
    """Answers single requests by ``call``, which answers several, in their order.

    When ``call`` raises a PermanentError, each request is tried separately, so that only the request at fault gets the
    error.
    """

    def __init__(self, call: Callable[[Sequence[RequestT]], Awaitable[Sequence[AnswerT]]]) -> None:
        self._call = call
        self._waiting: list[_Asked[RequestT, AnswerT]] = []
        self._is_calling = False
        self._called = anyio.Event()
        self._crowded_until = -math.inf

    async def ask(self, request: RequestT) -> AnswerT:
        """Make a request and return its answer. Raises what ``call`` raises, and TransientError after
        ``CALL_TIMEOUT_S``.
        """
        asked = _Asked[RequestT, AnswerT](request)
        self._waiting.append(asked)
        try:
            while not asked.is_answered:
                if self._is_calling:
                    await self._called.wait()
                else:
                    await self._call_for_all()
        finally:
            if asked in self._waiting:  # cancelled
                self._waiting.remove(asked)
        if asked.error is not None:
            raise asked.error
        return asked.answers[0]

    async def _call_for_all(self) -> None:
        self._is_calling = True
        try:
            await anyio.lowlevel.checkpoint()  # others ask in this turn of the event loop
            if anyio.current_time() < self._crowded_until:
                await self._linger()
            if len(self._waiting) > 1:
                self._crowded_until = anyio.current_time() + _CROWDED_S
            together, self._waiting = self._waiting[:MAX_TOGETHER], self._waiting[MAX_TOGETHER:]
            with anyio.move_on_after(CALL_TIMEOUT_S, shield=True):
                await self._answer(together)
            for asked in together:
                if not asked.is_answered:
                    asked.error = TransientError(
                        f"The database did not answer within {CALL_TIMEOUT_S:g} s.", reason=Reason.DATABASE_UNREACHABLE
                    )
        finally:
            self._is_calling = False
            self._called.set()
            self._called = anyio.Event()

    async def _linger(self) -> None:
        """Wait as long as other requests keep coming."""
        for _ in range(_MAX_LINGERS):
            before = len(self._waiting)
            await anyio.sleep(LINGER_S)
            if len(self._waiting) == before or before >= MAX_TOGETHER:
                return

    async def _answer(self, together: Sequence[_Asked[RequestT, AnswerT]]) -> None:
        try:
            answers = await self._call([asked.request for asked in together])
        except Exception as error:  # it is theirs, whatever it is
            if isinstance(error, PermanentError) and len(together) > 1:
                for asked in together:
                    await self._answer([asked])
                return
            for asked in together:
                asked.error = error
            return
        for asked, answer in zip(together, answers, strict=True):
            asked.answers.append(answer)
