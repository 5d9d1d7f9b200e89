"""The delay of the daemon's event loop, from its own metrics. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

_NAME = "exportd_event_loop_delay_seconds"


@dataclass(frozen=True, slots=True)
class LoopDelay:
    """How many samples were at most so late, by the upper ends of the histogram's buckets in seconds."""

    counts: Mapping[float, float]

    @classmethod
    def of(cls, metrics: str) -> "LoopDelay":
        """What an answer of ``/metrics`` says."""
        family = next(candidate for candidate in text_string_to_metric_families(metrics) if candidate.name == _NAME)
        return cls(
            {float(sample.labels["le"]): sample.value for sample in family.samples if sample.name == f"{_NAME}_bucket"}
        )

    def since(self, before: "LoopDelay") -> "LoopDelay":
        """Only the samples that came later."""
        return LoopDelay({end: count - before.counts[end] for end, count in self.counts.items()})

    @property
    def samples(self) -> int:
        return round(self.counts[math.inf])

    def percentile(self, share: float) -> float:
        """Seconds, interpolated within a bucket as Prometheus does; the last bucket counts as its lower end."""
        wanted = share * self.samples
        start, below = 0.0, 0.0
        for end, count in sorted(self.counts.items()):
            if count >= wanted and count > below:
                return start if math.isinf(end) else start + (end - start) * (wanted - below) / (count - below)
            start, below = end, count
        return start
