"""Knows which services of the daemon run, and since when."""

from collections.abc import Awaitable, Callable, Mapping

from exportd.api.schemas.status import ServiceState
from exportd.model.clock import Clock


class ServiceRegister:
    """One per daemon; a service is run through it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._states: dict[str, ServiceState] = {}
        self.started_at = clock.now()

    @property
    def states(self) -> Mapping[str, ServiceState]:
        """By name, in the order in which they were started."""
        return self._states

    async def run(self, name: str, service: Callable[[], Awaitable[None]]) -> None:
        """Run a service to its end. What it raises leaves."""
        self._states[name] = ServiceState(running=True, since=self._clock.now())
        try:
            await service()
        finally:
            self._states[name] = ServiceState(running=False, since=self._clock.now())
