"""What a reload would change: two configurations and their catalogs compared, in words and as JSON.

Every key has an effect. Most are looked up when they are used, and a new value holds from then on; a few are built into
what runs, and a new value waits for a restart.
"""

import json
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from exportd.model.entity import Entity, EntityCode
from exportd.settings.schema import Settings
from exportd.settings.secrets import mask_secrets
from exportd.settings.section import Section


class Effect(StrEnum):
    """When a new value holds."""

    AT_ONCE = "AT_ONCE"
    """From the reload on; a job that runs ends as it began."""
    RESTART = "RESTART"
    """After the daemon's next start."""
    BY_PLACE = "BY_PLACE"
    """A DSN: another user or password at once; another server or database after a restart."""


EFFECTS: Mapping[str, Effect] = {
    "database.dsn": Effect.BY_PLACE,
    "database.dsn_file": Effect.AT_ONCE,
    "database.lock_timeout_s": Effect.AT_ONCE,
    "database.pool_size": Effect.RESTART,
    "catalog.file": Effect.AT_ONCE,
    "spool.directory": Effect.RESTART,
    "spool.budget": Effect.AT_ONCE,
    "spool.free_space_floor": Effect.AT_ONCE,
    "spool.retention_hours": Effect.AT_ONCE,
    "limits.jobs": Effect.AT_ONCE,
    "limits.streams": Effect.AT_ONCE,
    "limits.stream_threshold": Effect.AT_ONCE,
    "limits.part_size": Effect.AT_ONCE,
    "limits.bytes_in_flight": Effect.RESTART,
    "limits.job_attempts": Effect.AT_ONCE,
    "limits.delivery_timeout_s": Effect.AT_ONCE,
    "limits.shutdown_grace_s": Effect.AT_ONCE,
    "capture.doorbell": Effect.AT_ONCE,
    "capture.poll_interval_s": Effect.AT_ONCE,
    "capture.prune_interval_s": Effect.AT_ONCE,
    "capture.horizon_hours": Effect.AT_ONCE,
    "capture.keep_hours": Effect.AT_ONCE,
    "control.socket": Effect.RESTART,
    "control.group": Effect.RESTART,
    "control.operators": Effect.AT_ONCE,
    "control.admins": Effect.AT_ONCE,
    "control.listen": Effect.RESTART,
    "control.hosts": Effect.RESTART,
    "control.tls_certificate": Effect.RESTART,
    "control.tls_key": Effect.RESTART,
    "control.public_url": Effect.AT_ONCE,
    "control.signing_key_file": Effect.AT_ONCE,
    "log.level": Effect.AT_ONCE,
    "log.format": Effect.AT_ONCE,
    "s3.region": Effect.AT_ONCE,
    "s3.endpoint": Effect.AT_ONCE,
    "s3.sts_endpoint": Effect.AT_ONCE,
    "s3.profile": Effect.AT_ONCE,
    "s3.ca_file": Effect.AT_ONCE,
    "gcs.endpoint": Effect.AT_ONCE,
    "gcs.token_file": Effect.AT_ONCE,
    "gcs.token_url": Effect.AT_ONCE,
    "gcs.token_command": Effect.AT_ONCE,
    "gcs.aws": Effect.AT_ONCE,
}
"""Of each key of a table. Destinations and schedules, which come in lists, always change at once."""

_HOST_OPTIONS = ("host", "port", "dbname", "database")


class Kind(StrEnum):
    """What became of a thing."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    NEEDS_RESTART = "needsRestart"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is different. ``subject`` is a key, or what it is: ``schedule hourly of org-acme``."""

    kind: Kind
    subject: str
    details: str = ""

    def __str__(self) -> str:
        words = "changed, but needs a restart" if self.kind is Kind.NEEDS_RESTART else self.kind.value
        return f"{self.subject}: {words}{f' ({self.details})' if self.details else ''}"


@dataclass(frozen=True, slots=True)
class Difference:
    """Everything that is different; it holds no secret."""

    changes: tuple[Change, ...] = ()

    def of(self, kind: Kind) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.kind is kind)

    def to_json(self) -> dict[str, list[dict[str, str]]]:
        """By kind: ``{"added": [{"subject": …, "details": …}], …}``."""
        return {
            kind.value: [{"subject": each.subject, "details": each.details} for each in self.of(kind)] for kind in Kind
        }


def compare(
    old: Settings,
    new: Settings,
    *,
    old_entities: Mapping[EntityCode, Entity],
    new_entities: Mapping[EntityCode, Entity],
) -> Difference:
    """What is different in ``new``."""
    return Difference(
        (
            *_keys(old, new),
            *_things("entity", old_entities, new_entities),
            *_things("destination", _by_code(old.destination), _by_code(new.destination)),
            *_things("schedule", _by_code(old.schedule), _by_code(new.schedule)),
        )
    )


def effective(old: Settings, new: Settings) -> Settings:
    """``new`` as far as it can hold without a restart; the rest stays as it was."""
    sections: dict[str, Section] = {}
    for name, (before, after) in _sections(old, new).items():
        kept = {
            key: getattr(before, key)
            for key in type(after).model_fields
            if _needs_restart(f"{name}.{key}", getattr(before, key), getattr(after, key))
        }
        sections[name] = after.model_copy(update=kept)
    return new.model_copy(update=sections)


def _keys(old: Settings, new: Settings) -> Iterator[Change]:
    for name, (before, after) in _sections(old, new).items():
        for key in type(after).model_fields:
            path, was, is_now = f"{name}.{key}", getattr(before, key), getattr(after, key)
            if was != is_now:
                kind = Kind.NEEDS_RESTART if _needs_restart(path, was, is_now) else Kind.CHANGED
                yield Change(kind, path, f"{shown(was)} → {shown(is_now)}")


def _sections(old: Settings, new: Settings) -> dict[str, tuple[Section, Section]]:
    pairs = {name: (getattr(old, name), getattr(new, name)) for name in Settings.model_fields}
    return {name: pair for name, pair in pairs.items() if isinstance(pair[0], Section)}


def _needs_restart(path: str, old: object, new: object) -> bool:
    match EFFECTS[path]:
        case Effect.AT_ONCE:
            return False
        case Effect.RESTART:
            return old != new
        case Effect.BY_PLACE:
            return _place(str(old)) != _place(str(new))


def _place(dsn: str) -> Hashable:
    """Which database a DSN names, whoever connects to it and how."""
    parts = urlsplit(dsn)
    options = tuple(pair for pair in sorted(parse_qsl(parts.query)) if pair[0] in _HOST_OPTIONS)
    return parts.netloc.rpartition("@")[2], parts.path.strip("/"), options


def _by_code(things: Iterable[Any]) -> dict[str, Any]:
    return {f"{thing.code} of {thing.organization}": thing for thing in things}


def _things(noun: str, old: Mapping[Any, Any], new: Mapping[Any, Any]) -> Iterator[Change]:
    for name, thing in new.items():
        if name not in old:
            yield Change(Kind.ADDED, f"{noun} {name}")
        elif thing != old[name]:
            yield Change(Kind.CHANGED, f"{noun} {name}", _differing(old[name], thing))
    for name in old:
        if name not in new:
            yield Change(Kind.REMOVED, f"{noun} {name}")


def _differing(old: Any, new: Any) -> str:
    """Which of its keys differ. Their values may be long, or secret: they stay out."""
    names = getattr(type(new), "model_fields", None) or type(new).__dataclass_fields__
    differing = [name for name in names if getattr(old, name, None) != getattr(new, name)]
    return ", ".join(differing)


def shown(value: object) -> str:
    """A value of the configuration, for people to read; passwords in it are masked."""
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return mask_secrets(text) or '""'


# MERGED: Which settings the daemons of one database have to agree on. Pure.
# MERGED:
# MERGED: Whichever daemon takes a job decides by its own settings, and some of them decide for all. What only says how much a
# MERGED: host can do, where its files are and who may come in there may differ.


OF_THE_DATABASE = frozenset(
    {
        "spool.retention_hours",
        "limits.part_size",
        "limits.job_attempts",
        "capture.doorbell",
        "capture.horizon_hours",
        "capture.keep_hours",
        "s3.region",
        "s3.endpoint",
        "gcs.endpoint",
    }
)
"""What an export looks like, where it goes, how long it and the change log are kept, what triggers do."""

OF_THE_HOST = frozenset(
    {
        *("database.dsn", "database.dsn_file", "database.lock_timeout_s", "database.pool_size"),
        "catalog.file",  # its path; what is in it is compared entity by entity
        *("spool.directory", "spool.budget", "spool.free_space_floor"),
        *("limits.jobs", "limits.streams", "limits.stream_threshold", "limits.bytes_in_flight"),
        *("limits.delivery_timeout_s", "limits.shutdown_grace_s"),
        *("capture.poll_interval_s", "capture.prune_interval_s"),
        *("control.socket", "control.group", "control.operators", "control.admins", "control.listen", "control.hosts"),
        *("control.tls_certificate", "control.tls_key", "control.public_url", "control.signing_key_file"),
        *("log.level", "log.format"),
        *("s3.sts_endpoint", "s3.profile", "s3.ca_file"),
        *("gcs.token_file", "gcs.token_url", "gcs.token_command", "gcs.aws"),
    }
)
"""What may differ."""


def agreed(settings: Settings) -> Mapping[str, str]:
    """The values that should be the same everywhere, by key, for people to read."""
    values = {}
    for path in sorted(OF_THE_DATABASE):
        section, _, key = path.partition(".")
        values[path] = shown(getattr(getattr(settings, section), key))
    return values
