"""A circuit breaker: whether a place that stayed away is worth a delivery now. Pure; time is handed in.

    CLOSED      all is well
    OPEN        it stayed away for a whole retry budget: nobody waits for it, until the pause is over
    HALF_OPEN   one delivery is let through: it closes the circuit, or opens it for twice the pause

So a dead bucket costs the workers one retry budget, and after that next to nothing until it is back.
"""

from enum import StrEnum


class CircuitState(StrEnum):
    """See the module's text."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


class Circuit:
    """Of one destination. ``now`` is monotonic time in seconds, everywhere the same clock's."""

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
        """Whether to deliver. Who is admitted reports how it went: ``succeeded``, ``failed`` or ``given_up``."""
        match self.state(now):
            case CircuitState.CLOSED:
                return True
            case CircuitState.OPEN:
                return False
            case CircuitState.HALF_OPEN:
                admitted, self._trying = not self._trying, True
                return admitted

    def closes_in_s(self, now: float) -> float:
        """How long nobody is admitted yet, in seconds; who comes while another tries waits for the shortest pause."""
        return max(self._open_until - now, self._first_pause_s if self._trying else 0.0)

    def succeeded(self) -> None:
        self._failures = 0
        self._trying = False

    def failed(self, now: float) -> None:
        """It stayed away for a whole retry budget."""
        self._trying = False
        if self.state(now) is CircuitState.OPEN:
            return  # one of several that were under way when it opened
        pause_s = min(self._longest_pause_s, self._first_pause_s * 2 ** min(self._failures, 16))
        self._failures += 1
        self._open_until = now + pause_s

    def given_up(self) -> None:
        """The delivery ended before it could tell: it was cancelled, or failed for another reason."""
        self._trying = False


def circuit_for(delivery_timeout_s: float) -> Circuit:
    """For a destination whose failing costs that much time: it is left alone for a quarter of it, later for up to five
    times it.
    """
    return Circuit(first_pause_s=delivery_timeout_s / 4, longest_pause_s=5 * delivery_timeout_s)
