"""How much of the spool is taken, and whether more may be taken. Pure.

Bytes are *reserved* before they are written and *used* afterwards, so that several writers together stay within the
budget. The figures are kept, not measured: the spool is scanned once, when it is opened.
"""

from dataclasses import dataclass
from enum import Enum

from exportd.model.entity import OrganizationId
from exportd.model.job import JobId
from exportd.settings.schema import LiveSettings


class ReservationVerdict(Enum):
    """Whether a reservation may be made."""

    NOW = "now"
    LATER = "later"
    """Other jobs have to give up space first."""
    QUOTA = "quota"
    """Other jobs of the same organization have to give up space first."""
    DISK = "disk"
    """The file system has no room above its floor."""
    NEVER = "never"
    """Not even an otherwise empty spool could hold this job."""


@dataclass(slots=True)
class _Share:
    used_bytes: int = 0
    reserved_bytes: int = 0

    @property
    def taken_bytes(self) -> int:
        return self.used_bytes + self.reserved_bytes

    def add(self, used_bytes: int, reserved_bytes: int) -> None:
        self.used_bytes += used_bytes
        self.reserved_bytes += reserved_bytes


class SpoolUsage:
    """Keeps what each job takes in the spool, within the budget and the floor of free disk space in the settings.

    The jobs of one organization together stay within its quota. For a job without a known organization only the budget
    applies.
    """

    def __init__(self, settings: LiveSettings) -> None:
        self._settings = settings
        self._owners: dict[JobId, OrganizationId] = {}
        self._shares: dict[JobId, _Share] = {}
        # The sums of the shares are kept, because every reservation needs them and a spool has tens of thousands of
        # jobs.
        self._total = _Share()
        self._totals_of: dict[OrganizationId, _Share] = {}

    @property
    def budget_bytes(self) -> int:
        return self._settings().spool.budget

    @property
    def quota_bytes(self) -> int:
        """How much the jobs of one organization may take together."""
        return int(self.budget_bytes * self._settings().quotas.spool_share)

    @property
    def free_space_floor_bytes(self) -> int:
        return self._settings().spool.free_space_floor

    @property
    def used_bytes(self) -> int:
        return self._total.used_bytes

    @property
    def reserved_bytes(self) -> int:
        return self._total.reserved_bytes

    def own(self, job: JobId, organization: OrganizationId) -> None:
        """Count a job as that of an organization, until it is forgotten."""
        known = self._owners.get(job)
        if known == organization:
            return
        share = self._shares.get(job, _Share())
        if known is not None:
            self._count_for(known, -share.used_bytes, -share.reserved_bytes)
        self._owners[job] = organization
        self._count_for(organization, share.used_bytes, share.reserved_bytes)

    def owner(self, job: JobId) -> OrganizationId | None:
        """The organization of a job; None when it is not known."""
        return self._owners.get(job)

    def taken_bytes(self, job: JobId) -> int:
        """The bytes that a job has used and reserved."""
        return self._shares.get(job, _Share()).taken_bytes

    def taken_bytes_of(self, organization: OrganizationId) -> int:
        """The bytes that the jobs of an organization have used and reserved."""
        return self._totals_of.get(organization, _Share()).taken_bytes

    def judge(self, job: JobId, size_bytes: int, *, free_bytes: int) -> ReservationVerdict:
        """Whether ``size_bytes`` more may be written for a job while the disk has ``free_bytes`` free."""
        share = self._shares.get(job, _Share())
        if share.used_bytes + size_bytes > self.budget_bytes:
            return ReservationVerdict.NEVER
        if self.used_bytes + self.reserved_bytes + size_bytes > self.budget_bytes:
            return ReservationVerdict.LATER
        if self._exceeds_quota(job, share, size_bytes):
            return ReservationVerdict.QUOTA
        # Reserved bytes are not written yet, so the disk still counts them as free.
        if free_bytes - self.reserved_bytes - size_bytes < self.free_space_floor_bytes:
            return ReservationVerdict.DISK
        return ReservationVerdict.NOW

    def _exceeds_quota(self, job: JobId, share: _Share, size_bytes: int) -> bool:
        organization = self._owners.get(job)
        if organization is None:
            return False
        taken_bytes = self.taken_bytes_of(organization)
        # If it is the only job of its organization, there is nothing to wait for.
        return taken_bytes > share.taken_bytes and taken_bytes + size_bytes > self.quota_bytes

    def reserve(self, job: JobId, size_bytes: int) -> None:
        self._change(job, reserved_bytes=size_bytes)

    def settle(self, job: JobId, *, reserved_bytes: int, used_bytes: int) -> None:
        """A reservation was written (``used_bytes``, which may be less or more than it) or given up (0)."""
        share = self._shares.get(job, _Share())
        self._change(job, used_bytes=used_bytes, reserved_bytes=-min(reserved_bytes, share.reserved_bytes))

    def release(self, job: JobId, size_bytes: int) -> None:
        """Files of a job were removed."""
        self._change(job, used_bytes=-min(size_bytes, self._shares.get(job, _Share()).used_bytes))

    def forget(self, job: JobId) -> None:
        """All files of a job were removed. Its reservations stay, without a known organization."""
        share = self._shares.get(job, _Share())
        self._change(job, used_bytes=-share.used_bytes)
        owner = self._owners.pop(job, None)
        if owner is not None:
            self._count_for(owner, 0, -share.reserved_bytes)
        if not share.reserved_bytes:
            self._shares.pop(job, None)

    def _change(self, job: JobId, *, used_bytes: int = 0, reserved_bytes: int = 0) -> None:
        """The only place where a share changes."""
        self._shares.setdefault(job, _Share()).add(used_bytes, reserved_bytes)
        self._total.add(used_bytes, reserved_bytes)
        if (owner := self._owners.get(job)) is not None:
            self._count_for(owner, used_bytes, reserved_bytes)

    def _count_for(self, organization: OrganizationId, used_bytes: int, reserved_bytes: int) -> None:
        total = self._totals_of.setdefault(organization, _Share())
        total.add(used_bytes, reserved_bytes)
        if not total.taken_bytes:
            del self._totals_of[organization]
