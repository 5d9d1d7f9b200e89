"""What a check has found, for a person and for a program. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from exportd.destinations.permission import PURPOSES, Grant, Kind, Permission, action_of


class PermissionState(StrEnum):
    """Whether a permission is there."""

    THERE = "THERE"
    MISSING = "MISSING"
    """It was refused, or did not have the expected effect."""
    OUT_OF_REACH = "OUT_OF_REACH"
    """There was no answer, or an answer that does not settle it."""
    NOT_TRIED = "NOT_TRIED"
    """It was not tried, because something that it needs did not work."""


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
    """The state of one permission. ``sentence`` is the answer of the store when it refuses."""

    state: PermissionState
    sentence: str = ""


NOT_TRIED = PermissionFinding(PermissionState.NOT_TRIED)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of a check. ``findings`` has every permission that this kind of store knows, in their order.

    ``setting`` is the line of the configuration with which it would work. ``bytes_per_s`` is the rate at which pieces
    were uploaded one after the other. ``left_over`` names what could not be removed.
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
        """The missing permissions, required or not."""
        return tuple(finding for finding in self.findings if self.state(finding) is PermissionState.MISSING)

    def state(self, permission: Permission) -> PermissionState:
        return self.findings[permission].state


_WORDS = {
    PermissionState.THERE: "ok",
    PermissionState.MISSING: "missing",
    PermissionState.OUT_OF_REACH: "away",
    PermissionState.NOT_TRIED: "not tried",
}


def lines(result: CheckResult, grants: Sequence[Grant], *, kind: Kind) -> Iterator[str]:
    """The result as lines for a person; with ``grants`` only when something is missing."""
    for permission, finding in result.findings.items():
        need = "required" if permission.is_required else "recommended"
        yield f"  {_WORDS[finding.state]:<10} {_title(permission, kind)}, {need}"
        if finding.sentence:
            yield f"{'':<13}{finding.sentence}"
        if finding.state is PermissionState.MISSING:
            yield f"{'':<13}Without it: {PURPOSES[permission].lost}"
    if result.bytes_per_s is not None:
        yield f"  {'rate':<10} {result.bytes_per_s / 1e6:.1f} MB/s, one piece after the other"
    if result.setting:
        yield f"  {'set':<10} {result.setting}: with that it works"
    yield from (f"  {'left over':<10} {left}; remove it by hand" for left in result.left_over)
    if result.lacking:
        for grant in grants:
            yield ""
            yield f"{grant.title}:"
            yield from grant.text.splitlines()


def summary(result: CheckResult, *, kind: Kind) -> Iterator[str]:
    """A sentence for each thing to change, for a check of many things at once."""
    for permission in result.lacking:
        if permission.is_required:
            yield result.findings[permission].sentence
    for permission, finding in result.findings.items():
        if finding.state is PermissionState.OUT_OF_REACH:
            yield f"{_title(permission, kind)}: {finding.sentence}"
    if result.setting:
        yield f"set {result.setting}"


def document(result: CheckResult, grants: Sequence[Grant], *, kind: Kind) -> dict[str, Any]:
    """The result as a document for programs; with ``grants`` in any case."""
    return {
        "verdict": result.verdict,
        "permissions": [
            {
                "permission": permission,
                "action": action_of(permission, kind),
                "required": permission.is_required,
                "state": finding.state,
                "sentence": finding.sentence,
                "purpose": PURPOSES[permission].what,
                "lostWithout": PURPOSES[permission].lost,
            }
            for permission, finding in result.findings.items()
        ],
        "setting": result.setting or None,
        "megabytesPerSecond": None if result.bytes_per_s is None else round(result.bytes_per_s / 1e6, 3),
        "leftOver": list(result.left_over),
        "grants": [{"title": grant.title, "text": grant.text} for grant in grants],
    }


def _title(permission: Permission, kind: Kind) -> str:
    action = action_of(permission, kind)
    return f"{PURPOSES[permission].what} ({action})" if action else PURPOSES[permission].what
