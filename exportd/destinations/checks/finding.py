"""What a check has found. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from exportd.destinations.checks.permission import Permission


class PermissionState(StrEnum):
    """Whether a permission is there."""

    THERE = "THERE"
    MISSING = "MISSING"
    """It was refused, or did not do what it should."""
    OUT_OF_REACH = "OUT_OF_REACH"
    """There was no answer, or none that decides."""
    NOT_TRIED = "NOT_TRIED"
    """Something that is needed for it did not work."""


class CheckVerdict(StrEnum):
    """The result of a check."""

    GOOD = "GOOD"
    """All that is required is there."""
    LACKING = "LACKING"
    """A person has to grant or change something."""
    OUT_OF_REACH = "OUT_OF_REACH"
    """Try again."""


@dataclass(frozen=True, slots=True)
class PermissionFinding:
    """``sentence`` is what the store says where it refuses."""

    state: PermissionState
    sentence: str = ""


NOT_TRIED = PermissionFinding(PermissionState.NOT_TRIED)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """``findings`` has every permission that the store knows, in their order.

    ``setting`` is the line of the configuration with which it would work, ``bytes_per_s`` how fast pieces went up one
    after the other, ``left_over`` what could not be removed again.
    """

    findings: Mapping[Permission, PermissionFinding]
    setting: str = ""
    bytes_per_s: float | None = None
    left_over: tuple[str, ...] = ()

    @property
    def verdict(self) -> CheckVerdict:
        if any(finding.is_required and self.state(finding) is PermissionState.MISSING for finding in self.findings):
            return CheckVerdict.LACKING
        if any(self.state(finding) is PermissionState.OUT_OF_REACH for finding in self.findings):
            return CheckVerdict.OUT_OF_REACH
        return CheckVerdict.GOOD

    @property
    def lacking(self) -> tuple[Permission, ...]:
        """What is missing, required or not."""
        return tuple(finding for finding in self.findings if self.state(finding) is PermissionState.MISSING)

    def state(self, permission: Permission) -> PermissionState:
        return self.findings[permission].state
