"""What a check says to people, and to programs. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any

from exportd.destinations.checks.finding import CheckResult, PermissionState
from exportd.destinations.checks.grants import Grant
from exportd.destinations.checks.permission import PURPOSES, Kind, Permission, action_of

_WORDS = {
    PermissionState.THERE: "ok",
    PermissionState.MISSING: "missing",
    PermissionState.OUT_OF_REACH: "away",
    PermissionState.NOT_TRIED: "not tried",
}


def lines(result: CheckResult, grants: Sequence[Grant], *, kind: Kind) -> Iterator[str]:
    """What a person reads; ``grants`` only when something is missing."""
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
    """The same for programs; ``grants`` whether or not something is missing."""
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
