"""A benchmark's options and results. Pure.

A machine's speed varies: other programs run, caches are warm or not. So a benchmark measures two ways of doing the
same work in turns, several times, and reports the ratio of the medians.
"""

import random
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Say = Callable[[str], None]
"""Shows what the benchmark is doing."""


@dataclass(frozen=True, slots=True)
class Options:
    """The command line's options.

    ``major`` is the Postgres to take (None: the newest), ``rounds`` how often to repeat (None: as the benchmark
    thinks best), ``quick`` asks for small sizes, whose ratios mean little.
    """

    major: int | None = None
    rounds: int | None = None
    quick: bool = False

    def size(self, rows: int) -> int:
        """How many rows to take where ``rows`` are meant."""
        return max(rows // 20, 1) if self.quick else rows

    def repeats(self, usual: int) -> int:
        """How often to measure where ``usual`` is enough to trust the median."""
        if self.rounds is not None:
            return self.rounds
        return 1 if self.quick else usual


@dataclass(frozen=True, slots=True)
class Measurement:
    """One line of the table. ``limit`` None: for information only."""

    name: str
    ratio: float
    limit: float | None
    better: Literal["lower", "higher"]
    detail: str

    @property
    def within_limit(self) -> bool:
        if self.limit is None:
            return True
        return self.ratio <= self.limit if self.better == "lower" else self.ratio >= self.limit


def in_turns(names: Sequence[str], rounds: int, *, seed: int = 1) -> Iterator[str]:
    """Every name once a round, in a new random order each round, so that none always follows the same other."""
    chance = random.Random(seed)
    for _ in range(rounds):
        yield from chance.sample(names, len(names))


def spread(figures: Iterable[float], digits: int = 2) -> str:
    """Median, and the smallest and largest figure: ``5.26 (5.10-5.40)``."""
    known = sorted(figures)
    median = f"{statistics.median(known):.{digits}f}"
    return f"{median} ({known[0]:.{digits}f}-{known[-1]:.{digits}f})" if len(known) > 1 else median
