"""How much of the spool is taken, and whether more may be taken. Pure.

Bytes are *reserved* before they are written and *used* afterwards, so that several writers together stay within the
budget. The figures are kept, not measured: the spool is scanned once, when it is opened.
"""

from dataclasses import dataclass
from enum import Enum

from exportd.model.job import JobId
from exportd.settings.schema import LiveSettings


class ReservationVerdict(Enum):
    """Whether a reservation may be made."""

    NOW = "now"
    LATER = "later"
    """Other jobs have to give up space first."""
    NEVER = "never"
    """Not even an otherwise empty spool could hold this job."""


@dataclass(slots=True)
class _Share:
    used_bytes: int = 0
    reserved_bytes: int = 0


class SpoolUsage:
    """The shares of the jobs in the spool, within the budget and above the floor of free disk space of the settings."""

    def __init__(self, settings: LiveSettings) -> None:
        self._settings = settings
        self._shares: dict[JobId, _Share] = {}

    @property
    def budget_bytes(self) -> int:
        return self._settings().spool.budget

    @property
    def free_space_floor_bytes(self) -> int:
        return self._settings().spool.free_space_floor

    @property
    def used_bytes(self) -> int:
        return sum(share.used_bytes for share in self._shares.values())

    @property
    def reserved_bytes(self) -> int:
        return sum(share.reserved_bytes for share in self._shares.values())

    def judge(self, job: JobId, size_bytes: int, *, free_bytes: int) -> ReservationVerdict:
        """Whether ``size_bytes`` more may be written for a job while the disk has ``free_bytes`` free."""
        share = self._shares.get(job, _Share())
        if share.used_bytes + size_bytes > self.budget_bytes:
            return ReservationVerdict.NEVER
        if self.used_bytes + self.reserved_bytes + size_bytes > self.budget_bytes:
            return ReservationVerdict.LATER
        # What is reserved is not written yet, so the disk still calls it free.
        if free_bytes - self.reserved_bytes - size_bytes < self.free_space_floor_bytes:
            return ReservationVerdict.LATER
        return ReservationVerdict.NOW

    def reserve(self, job: JobId, size_bytes: int) -> None:
        self._shares.setdefault(job, _Share()).reserved_bytes += size_bytes

    def settle(self, job: JobId, *, reserved_bytes: int, used_bytes: int) -> None:
        """A reservation was written (``used_bytes``, which may be less or more than it) or given up (0)."""
        share = self._shares.setdefault(job, _Share())
        share.reserved_bytes = max(share.reserved_bytes - reserved_bytes, 0)
        share.used_bytes += used_bytes

    def release(self, job: JobId, size_bytes: int) -> None:
        """Files of a job were removed."""
        share = self._shares.setdefault(job, _Share())
        share.used_bytes = max(share.used_bytes - size_bytes, 0)

    def forget(self, job: JobId) -> None:
        """All files of a job were removed."""
        share = self._shares.pop(job, None)
        if share is not None and share.reserved_bytes:
            self._shares[job] = _Share(reserved_bytes=share.reserved_bytes)
