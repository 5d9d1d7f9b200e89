"""Compares what the daemons of a database declare: one sentence per other daemon and subject that differs. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from exportd.fleet.table import DaemonRecord, DeclaredDifference

_MAX_NAMED = 5
"""How many differing things a sentence names."""

UNKNOWN = ""
"""Stands for an entity whose fields a daemon does not know, because its table is out of order."""

_ADVICE = "Give all daemons the same configuration and catalog, and reload them."


class Subject(StrEnum):
    """What two daemons disagree about."""

    SETTINGS = "SETTINGS"
    CATALOG = "CATALOG"
    DESTINATIONS = "DESTINATIONS"
    SCHEDULES = "SCHEDULES"


_SUBJECTS = {"destination": Subject.DESTINATIONS, "schedule": Subject.SCHEDULES}
"""The subject of each kind of declared thing."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """With the daemon of ``spool_id``. ``differing`` is everything that differs; the sentence names the first few."""

    spool_id: UUID
    host: str
    subject: Subject
    differing: tuple[str, ...]
    sentence: str


def disagreements(
    spool_id: UUID, daemons: Sequence[DaemonRecord], differences: Iterable[DeclaredDifference]
) -> tuple[Disagreement, ...]:
    """How the daemon ``spool_id`` differs from every other running one, and what stopped ones keep in effect.

    ``differences`` are those between this daemon and the others.
    """
    own = next((daemon for daemon in daemons if daemon.spool_id == spool_id), None)
    if own is None:
        return ()
    by_daemon: dict[UUID, list[DeclaredDifference]] = {}
    for difference in differences:
        by_daemon.setdefault(difference.spool_id, []).append(difference)
    return tuple(
        found
        for other in daemons
        if other.spool_id != spool_id and other.declared_at is not None
        for found in _with(own, other, _name(other, daemons), by_daemon.get(other.spool_id, []))
    )


def _with(
    own: DaemonRecord, other: DaemonRecord, name: str, differences: Sequence[DeclaredDifference]
) -> Iterator[Disagreement]:
    if not other.running:
        yield from _kept(other, name, differences)
        return
    settings = [
        f"{key} is {other.settings[key]} there and {value} here"
        for key, value in own.settings.items()
        if other.settings.get(key, value) != value
    ]
    if settings:
        sentence = f"{name} has other settings than this daemon: {', '.join(settings)}. {_ADVICE}"
        yield Disagreement(other.spool_id, other.host, Subject.SETTINGS, tuple(settings), sentence)
    only_there, only_here, otherwise = _entities(own.entities, other.entities)
    if only_there or only_here or otherwise:
        differing, words = _listed(only_there, only_here, otherwise)
        sentence = f"{name} has another catalog than this daemon: {words}. {_ADVICE}"
        yield Disagreement(other.spool_id, other.host, Subject.CATALOG, differing, sentence)
    for kind, subject in _SUBJECTS.items():
        found = [difference for difference in differences if difference.kind == kind]
        if found:
            differing, words = _listed(
                [_named(difference) for difference in found if difference.is_there and not difference.is_here],
                [_named(difference) for difference in found if difference.is_here and not difference.is_there],
                [_named(difference) for difference in found if difference.is_here and difference.is_there],
            )
            sentence = f"{name} declares other {kind}s than this daemon: {words}. {_ADVICE}"
            yield Disagreement(other.spool_id, other.host, subject, differing, sentence)


def _kept(other: DaemonRecord, name: str, differences: Sequence[DeclaredDifference]) -> Iterator[Disagreement]:
    """What is declared only by a daemon that does not run."""
    for kind, subject in _SUBJECTS.items():
        found = tuple(
            _named(difference) for difference in differences if difference.kind == kind and not difference.is_here
        )
        if found:
            sentence = (
                f"{name} does not run. The {kind}s that only it declares stay in effect for a day: {_some(found)}."
                f" If it is not to come back, remove them at once: exportd daemon forget {other.spool_id}"
            )
            yield Disagreement(other.spool_id, other.host, subject, found, sentence)


def _entities(here: Mapping[str, str], there: Mapping[str, str]) -> tuple[list[str], list[str], list[str]]:
    """Only there, only here, in both and not the same. An entity that is unknown to one of them is no difference."""
    return (
        [code for code in there if code not in here],
        [code for code in here if code not in there],
        [
            code
            for code, declared in here.items()
            if UNKNOWN not in {declared, there.get(code)} and there.get(code, declared) != declared
        ],
    )


def _listed(
    only_there: Sequence[str], only_here: Sequence[str], otherwise: Sequence[str]
) -> tuple[tuple[str, ...], str]:
    """All names, each with how it differs; and the words for a sentence, which name a few of every group."""
    groups = {"only there": only_there, "only here": only_here, "not the same": otherwise}
    differing = tuple(f"{what}: {name}" for what, names in groups.items() for name in names)
    return differing, "; ".join(f"{what}: {_some(names)}" for what, names in groups.items() if names)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


def _named(difference: DeclaredDifference) -> str:
    return f"{difference.code} of {difference.organization}"


def _name(other: DaemonRecord, daemons: Iterable[DaemonRecord]) -> str:
    """Its host; its process too where several daemons run on that host."""
    alone = sum(daemon.host == other.host for daemon in daemons) == 1
    return f"The daemon on {other.host}" if alone else f"The daemon on {other.host} (process {other.pid})"
