"""What a reload would change: two configurations and their catalogs compared, in words and as JSON. Pure.

The schema says of each key whether a new value has to wait for a restart, and whether all daemons of a database have to
have the same.
"""

import json
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydantic.fields import FieldInfo

from exportd.model.entity import Entity, EntityCode
from exportd.model.foreign_text import mask_secrets
from exportd.settings.schema import TABLES, Settings
from exportd.settings.section import Effect, Scope, Section, Setting

_HOST_OPTIONS = ("host", "port", "dbname", "database")


def setting_of(path: str, field: FieldInfo) -> Setting:
    """The effect and the scope that a key declares. Raises TypeError when it declares none."""
    settings = [item for item in field.metadata if isinstance(item, Setting)]
    if len(settings) != 1:
        raise TypeError(f"{path} needs one Setting(effect, scope) in its annotation, but has {len(settings)}")
    return settings[0]


KEYS: Mapping[str, Setting] = {
    path: setting_of(path, field)
    for table, section in TABLES.items()
    for key, field in section.model_fields.items()
    for path in [f"{table}.{key}"]
}
"""The effect and the scope of each key of a table, such as ``limits.jobs``."""


class ChangeKind(StrEnum):
    """The kinds of changes."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    NEEDS_RESTART = "needsRestart"


@dataclass(frozen=True, slots=True)
class Change:
    """One change. ``subject`` is a key, or a thing such as ``schedule hourly of org-acme``."""

    kind: ChangeKind
    subject: str
    details: str = ""

    def __str__(self) -> str:
        words = "changed, but needs a restart" if self.kind is ChangeKind.NEEDS_RESTART else self.kind.value
        return f"{self.subject}: {words}{f' ({self.details})' if self.details else ''}"


@dataclass(frozen=True, slots=True)
class Difference:
    """All changes. They contain no secrets."""

    changes: tuple[Change, ...] = ()

    def of(self, kind: ChangeKind) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.kind is kind)

    def to_json(self) -> dict[str, list[dict[str, str]]]:
        """By kind: ``{"added": [{"subject": …, "details": …}], …}``."""
        return {
            kind.value: [{"subject": change.subject, "details": change.details} for change in self.of(kind)]
            for kind in ChangeKind
        }


def compare(
    old: Settings,
    new: Settings,
    *,
    old_entities: Mapping[EntityCode, Entity],
    new_entities: Mapping[EntityCode, Entity],
) -> Difference:
    """The changes from ``old`` to ``new``."""
    return Difference(
        (
            *_keys(old, new),
            *_things("entity", old_entities, new_entities),
            *_things("destination", _by_code(old.destination), _by_code(new.destination)),
            *_things("schedule", _by_code(old.schedule), _by_code(new.schedule)),
        )
    )


def effective(old: Settings, new: Settings) -> Settings:
    """``new`` as far as it takes effect without a restart. The rest stays as it was."""
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
                kind = ChangeKind.NEEDS_RESTART if _needs_restart(path, was, is_now) else ChangeKind.CHANGED
                yield Change(kind, path, f"{shown(was)} → {shown(is_now)}")


def _sections(old: Settings, new: Settings) -> dict[str, tuple[Section, Section]]:
    return {name: (getattr(old, name), getattr(new, name)) for name in TABLES}


def _needs_restart(path: str, old: object, new: object) -> bool:
    match KEYS[path].effect:
        case Effect.AT_ONCE | Effect.NEXT_JOB:
            return False
        case Effect.RESTART:
            return old != new
        case Effect.LOGIN_AT_ONCE:
            return _place(str(old)) != _place(str(new))


def _place(dsn: str) -> Hashable:
    """The database that a DSN names, without user, password and other options."""
    parts = urlsplit(dsn)
    options = tuple(pair for pair in sorted(parse_qsl(parts.query)) if pair[0] in _HOST_OPTIONS)
    return parts.netloc.rpartition("@")[2], parts.path.strip("/"), options


def _by_code(things: Iterable[Any]) -> dict[str, Any]:
    return {f"{thing.code} of {thing.organization}": thing for thing in things}


def _things(noun: str, old: Mapping[Any, Any], new: Mapping[Any, Any]) -> Iterator[Change]:
    for name, thing in new.items():
        if name not in old:
            yield Change(ChangeKind.ADDED, f"{noun} {name}")
        elif thing != old[name]:
            yield Change(ChangeKind.CHANGED, f"{noun} {name}", _differing(old[name], thing))
    for name in old:
        if name not in new:
            yield Change(ChangeKind.REMOVED, f"{noun} {name}")


def _differing(old: Any, new: Any) -> str:
    """The keys that differ, without their values, which may be long or secret."""
    names = getattr(type(new), "model_fields", None) or type(new).__dataclass_fields__
    differing = [name for name in names if getattr(old, name, None) != getattr(new, name)]
    return ", ".join(differing)


def shown(value: object) -> str:
    """A value of the configuration, for people to read; passwords in it are masked."""
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return mask_secrets(text) or '""'


def agreed(settings: Settings) -> Mapping[str, str]:
    """The values that all daemons of a database should have, by key, for people to read."""
    paths = sorted(path for path, setting in KEYS.items() if setting.scope is Scope.DATABASE)
    return {path: shown(attrgetter(path)(settings)) for path in paths}
