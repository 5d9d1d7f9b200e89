"""How pages write times, sizes, counts and states. Pure."""

from datetime import UTC, datetime

from exportd.model.reason import FullReason

STATES = {
    "PENDING": ("○", "Waiting"),
    "RUNNING": ("◐", "Running"),
    "SUCCEEDED": ("✓", "Succeeded"),
    "FAILED": ("✕", "Failed"),
}
"""A job's state by sign and word: colour alone says nothing."""

PHASES = {"EXTRACTING": "Reading", "SEALED": "Files complete", "PUBLISHING": "Delivering"}

CAPTURE = {
    "WHOLE": "✓ whole",
    "DAMAGED": "✕ not whole: triggers are missing or others",
    "NONE": "○ none yet: its first run installs it",
    None: "✕ its table is not there",
}
"""The state of an entity's capture by sign and word."""

WHY_FULL = {
    FullReason.FIRST_RUN: "It is the first run.",
    FullReason.ENTITY_ADDED: "The entity was added to the schedule.",
    FullReason.DESTINATION_ADDED: "A destination was added or moved.",
    FullReason.AD_HOC: "An ad hoc export has no run before it.",
    FullReason.CATALOG_CHANGED: "The catalog says something else about the entity.",
    FullReason.CLUSTER_CHANGED: "It is another database server.",
    FullReason.TIMELINE_CHANGED: "The database was restored, or another server took over.",
    FullReason.SNAPSHOT_WENT_BACK: "The database is older than at the run before.",
    FullReason.DATABASE_PUT_BACK: "The database was put back to an earlier state.",
    FullReason.CAPTURE_CHANGED: "The triggers that record changes were missing or have been replaced.",
    FullReason.PARTITIONS_CHANGED: "A partition came or went with its rows.",
    FullReason.COLUMNS_CHANGED: "The table's columns have changed.",
    FullReason.TABLE_UNLOGGED: "The table is unlogged: a crash empties it.",
    FullReason.CHANGES_UNKNOWN: "Some changes could not be recorded row by row.",
    FullReason.IMAGES_UNREADABLE: "Records of deleted rows cannot be read any more.",
    FullReason.HORIZON_PASSED: "The run before is too long ago: its changes have been removed from the log.",
    FullReason.REQUESTED: "A person asked for it.",
    FullReason.LOG_PRUNED: "The changes since then have been removed from the log.",
}

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def instant(value: datetime | None) -> str:
    """A time in UTC, to the second."""
    return "" if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def relative(value: datetime, now: datetime) -> str:
    """How far a time is from ``now``, in the largest unit that fits."""
    seconds = (value - now).total_seconds()
    words = duration(abs(seconds))
    return "now" if words == "0 s" else f"in {words}" if seconds > 0 else f"{words} ago"


def duration(seconds: float) -> str:
    """The two largest units, such as ``2 h 5 min``."""
    left, parts = round(seconds), []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, left = divmod(left, length)
        if number:
            parts.append(f"{number} {unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"


def size(size_bytes: int) -> str:
    """Three digits and a unit of a thousand."""
    value, unit = float(size_bytes), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = f"{value:.0f}" if unit == 0 or value >= 99.95 else f"{value:.3g}"
    return f"{digits} {_UNITS[unit]}"


def count(number: int) -> str:
    """With a thin space between thousands."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def why_full(reason: str | None) -> str:
    """Why an entity was exported completely, as a sentence; the code itself where there is none for it."""
    if reason is None:
        return ""
    return WHY_FULL[FullReason(reason)] if reason in set(FullReason) else reason
