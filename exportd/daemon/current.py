"""What a reload replaces as a whole. Whoever begins something looks here; what has begun keeps what it was given."""

from dataclasses import dataclass

from exportd.catalog.document import Catalog
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
