"""What a reload replaces as a whole. Whoever begins something looks here; what has begun keeps what it was given."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from exportd.api.schemas.status import ServiceState
from exportd.catalog.document import Catalog
from exportd.model.clock import Clock
from exportd.model.job import JobProgress, Lease
from exportd.pipeline import Pipeline
from exportd.settings.schema import Settings


@dataclass(frozen=True, slots=True)
class State:
    """The settings as far as they hold (what waits for a restart is not in them), and what was made from them."""

    settings: Settings
    catalog: Catalog
    pipeline: Pipeline


class Current:
    """The state of now."""

    def __init__(self, state: State) -> None:
        self.state = state

    async def run_job(self, lease: Lease, progress: JobProgress) -> None:
        """Run a job, to its end, on the state that it finds when it begins."""
        await self.state.pipeline.run(lease, progress)


# MERGED: Knows which services of the daemon run, and since when.


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
