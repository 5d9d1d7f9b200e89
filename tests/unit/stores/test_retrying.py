from collections.abc import Awaitable, Callable, Sequence

import pytest

from exportd.model.errors import ExportdError, PermanentError, Reason, TransientError
from exportd.stores.layout import ObjectKey
from exportd.stores.retrying import RetryBudget
from exportd.stores.store import Upload, UploadGoneError

AWAY = TransientError("The lake is away.", reason=Reason.DESTINATION_UNAVAILABLE)
LATER = TransientError("The lake is away for a minute.", reason=Reason.DESTINATION_UNAVAILABLE, retry_after_s=60)
REFUSED = PermanentError("The lake refuses.", reason=Reason.DESTINATION_REFUSED)
GONE = UploadGoneError(Upload(ObjectKey("a/b"), "u1"), "the lake")


def answering(outcomes: Sequence[ExportdError | str]) -> tuple[Callable[[], Awaitable[str]], list[ExportdError | str]]:
    """Work that comes to each of the outcomes in turn, and those that are left."""
    left = [*outcomes]

    async def work() -> str:
        outcome = left.pop(0)
        if isinstance(outcome, ExportdError):
            raise outcome
        return outcome

    return work, left


def quick(timeout_s: float = 20, guard: Callable[[], None] = lambda: None) -> RetryBudget:
    return RetryBudget(timeout_s=timeout_s, first_wait_s=0.0001, max_wait_s=0.0001, jitter_s=0, guard=guard)


@pytest.mark.parametrize("failures", [0, 1, 5])
async def test_it_repeats_until_there_is_a_result(failures: int) -> None:
    work, left = answering([*[AWAY] * failures, "done", "once too often"])
    guarded: list[int] = []
    assert await quick(guard=lambda: guarded.append(len(left))).call(work) == "done"
    assert left == ["once too often"]
    # The guard was asked before each attempt, and only then.
    assert guarded == [*range(failures + 2, 1, -1)]


@pytest.mark.parametrize("failures", [0, 1, 5])
@pytest.mark.parametrize("error", [REFUSED, GONE, LATER])
async def test_what_no_attempt_mends_in_time_is_raised_at_once(error: ExportdError, failures: int) -> None:
    work, left = answering([*[AWAY] * failures, error, "too late"])
    with pytest.raises(type(error)) as raised:
        await quick().call(work)
    assert raised.value is error
    assert left == ["too late"]


async def test_a_spent_budget_raises_the_last_error() -> None:
    last = TransientError("The lake is still away.", reason=Reason.DESTINATION_UNAVAILABLE)
    work, left = answering([AWAY, last])
    with pytest.raises(TransientError) as raised:
        await RetryBudget(timeout_s=0.05, first_wait_s=0.06, max_wait_s=0.06, jitter_s=0).call(work)
    assert raised.value is last
    assert not left


async def test_a_guard_ends_the_attempts() -> None:
    work, left = answering([AWAY, AWAY, "too late"])

    def guard() -> None:
        if len(left) < 2:
            raise REFUSED

    with pytest.raises(PermanentError):
        await quick(guard=guard).call(work)
    assert left == ["too late"]


async def test_the_first_attempt_counts_towards_the_budget() -> None:
    work, left = answering([AWAY, "too late"])
    with pytest.raises(TransientError):
        await quick(timeout_s=1e-9).call(work)
    assert left == ["too late"]
