"""A pause that a person asked for: of all daemons, or of a schedule."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Pause:
    """Since when nothing happens (aware UTC), and by whose wish."""

    paused_at: datetime
    paused_by: str
