"""A circuit breaker: decides whether to try a destination that has not answered lately. Pure; times are passed in.

    CLOSED      deliveries are admitted
    OPEN        it did not answer for a whole retry budget: no delivery is admitted until the pause is over
    HALF_OPEN   one delivery is admitted: it closes the circuit, or opens it for twice the pause

So a bucket that does not answer costs one retry budget, and after that almost nothing until it is back.
"""

from enum import StrEnum


class CircuitState(StrEnum):
    """See the module's docstring."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


class Circuit:
    """The circuit of one destination. ``now`` is always the time of the same monotonic clock, in seconds."""

    def __init__(self, *, first_pause_s: float = 30.0, longest_pause_s: float = 600.0) -> None:
        self._first_pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._failures = 0
        self._open_until = 0.0
        self._trying = False

    def state(self, now: float) -> CircuitState:
        if not self._failures:
            return CircuitState.CLOSED
        return CircuitState.OPEN if now < self._open_until else CircuitState.HALF_OPEN

    def admits(self, now: float) -> bool:
        """Whether to deliver now. An admitted delivery must report its end by ``succeeded``, ``failed`` or
        ``given_up``.
        """
        admitted = self.would_admit(now)
        if admitted:
            self._trying = self.state(now) is CircuitState.HALF_OPEN
        return admitted

    def would_admit(self, now: float) -> bool:
        """Whether a delivery would be admitted, without admitting one."""
        state = self.state(now)
        return state is CircuitState.CLOSED or (state is CircuitState.HALF_OPEN and not self._trying)

    def closes_in_s(self, now: float) -> float:
        """Seconds until a delivery may be admitted. While another delivery is being tried, it is the first pause."""
        return max(self._open_until - now, self._first_pause_s if self._trying else 0.0)

    def succeeded(self) -> None:
        self._failures = 0
        self._trying = False

    def failed(self, now: float) -> None:
        """The destination did not answer for a whole retry budget."""
        self._trying = False
        if self.state(now) is CircuitState.OPEN:
            return  # one of several that were under way when it opened
        pause_s = min(self._longest_pause_s, self._first_pause_s * 2 ** min(self._failures, 16))
        self._failures += 1
        self._open_until = now + pause_s

    def given_up(self) -> None:
        """The delivery ended for a reason that has nothing to do with the destination, such as its cancellation."""
        self._trying = False


def circuit_for(delivery_timeout_s: float) -> Circuit:
    """The circuit of a destination with this retry budget. It pauses for a quarter of the budget first, and for up to
    five times the budget later.
    """
    return Circuit(first_pause_s=delivery_timeout_s / 4, longest_pause_s=5 * delivery_timeout_s)
