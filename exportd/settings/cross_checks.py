"""Checks between keys: rules, duplicate codes, references between destinations, schedules and entities.

The checks look at the raw data and ignore values of the wrong type, whose own problem is reported too: a person sees
every problem at once.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from exportd.model.errors import Problem
from exportd.model.schedule import Cron, Interval, Rule, rule_from
from exportd.settings.control_schema import EVERY_ORGANIZATION
from exportd.settings.document import Document, KeyPath
from exportd.settings.schema import ALL_ENTITIES
from exportd.settings.sentences import did_you_mean

CheckRule = Callable[[Rule], list[str]]
"""Returns the problems of a rule, one sentence each; empty for a valid rule."""


class _Destinations:
    """The declared codes of each organization, and the organizations of each code. There may be thousands."""

    def __init__(self, tables: Iterable[Mapping[str, Any]]) -> None:
        self.of: dict[str, set[str]] = defaultdict(set)
        self.owners: dict[str, list[object]] = defaultdict(list)
        for table in tables:
            owner, code = table.get("organization"), table.get("code")
            if isinstance(owner, str) and code is not None:
                self.of[owner].add(str(code))
            if isinstance(code, str) and owner is not None:
                self.owners[code].append(owner)


def check_schedules_and_destinations(document: Document, *, check_rule: CheckRule) -> list[Problem]:
    """All problems between the parts of the document, except those of entities."""
    problems = [*_duplicates(document, "destination"), *_duplicates(document, "schedule")]
    destinations = _Destinations(table for _, table in document.tables("destination"))
    for path, schedule in document.tables("schedule"):
        problems += _rule_problems(document, path, schedule, check_rule)
        problems += _destination_problems(document, path, schedule, destinations)
    return problems


def check_ways_in(document: Document) -> list[Problem]:
    """The problems between the settings of the console's entrances."""
    control = document.data.get("control")
    control = control if isinstance(control, dict) else {}
    problems = []
    if control.get("console") is True and not (control.get("listen") and control.get("tls_certificate")):
        sentence = (
            "without TLS there is no sign-in over TCP, for a secret would pass in the clear: give listen,"
            " tls_certificate and tls_key, or leave console out"
        )
        problems.append(document.problem(("control", "console"), sentence))
    return [*problems, *_proxy_problems(document, control)]


def _proxy_problems(document: Document, control: Mapping[str, Any]) -> Iterator[Problem]:
    if control.get("proxy_header") and not control.get("proxy_user"):
        sentence = "is believed from one user of this machine alone: give proxy_user, as whom the proxy runs"
        yield document.problem(("control", "proxy_header"), sentence)
    for key in ("proxy_user", "user"):
        if control.get(key) and not control.get("proxy_header"):
            sentence = "does nothing without proxy_header, in which the proxy names the person"
            yield document.problem(("control", key), sentence)
    seen = set()
    people = control.get("user")
    for index, person in enumerate(people if isinstance(people, list | tuple) else ()):
        if not isinstance(person, dict):
            continue
        path, name = ("control", "user", index), person.get("name")
        if isinstance(name, str):
            if name in seen:
                yield document.problem((*path, "name"), f"{name} is named twice; remove one")
            seen.add(name)
        if person.get("role") == "admin" and person.get("organization") not in {None, EVERY_ORGANIZATION}:
            sentence = f'an admin sees every organization: give organization = "{EVERY_ORGANIZATION}" or another role'
            yield document.problem((*path, "role"), sentence)


def check_entities(document: Document, entities: Collection[str]) -> list[Problem]:
    """Schedules may name only these entities, each once."""
    problems = []
    for path, schedule in document.tables("schedule"):
        seen = set()
        for place, code in _texts(schedule.get("entities"), (*path, "entities")):
            if code in seen:
                problems.append(document.problem(place, f"{code} is named twice; remove one"))
            elif code == ALL_ENTITIES:
                if schedule["entities"] != ALL_ENTITIES and len(schedule["entities"]) > 1:
                    sentence = 'means every entity; write entities = "ALL" alone, or list the entities'
                    problems.append(document.problem(place, sentence))
            elif code not in entities:
                hint = did_you_mean(code, entities, what="entities of the catalog")
                problems.append(document.problem(place, f"the catalog has no entity {code}; {hint}"))
            seen.add(code)
    return problems


def _rule_problems(
    document: Document, path: KeyPath, schedule: Mapping[str, Any], check_rule: CheckRule
) -> Iterator[Problem]:
    try:
        rule = rule_from(schedule)
    except ValueError as error:
        place = next(((*path, key) for key in ("cron", "period", "unit", "offset") if key in schedule), path)
        yield document.problem(place, str(error), about=path)
        return
    except TypeError:
        return  # the schema says so
    without_offset = check_rule(replace(rule, offset=None) if isinstance(rule, Interval) else rule)
    for sentence in without_offset:
        yield document.problem((*path, "cron" if isinstance(rule, Cron) else "period"), sentence)
    if isinstance(rule, Interval) and rule.offset is not None:
        for sentence in check_rule(rule):
            if sentence not in without_offset:
                yield document.problem((*path, "offset"), sentence)


def _destination_problems(
    document: Document,
    path: KeyPath,
    schedule: Mapping[str, Any],
    destinations: "_Destinations",
) -> Iterator[Problem]:
    organization = schedule.get("organization")
    seen = set()
    for place, code in _texts(schedule.get("destinations"), (*path, "destinations")):
        if code in seen:
            yield document.problem(place, f"{code} is named twice; remove one")
        seen.add(code)
        if not isinstance(organization, str) or code in destinations.of.get(organization, ()):
            continue
        others = destinations.owners.get(code)
        if others:
            sentence = f"destination {code} belongs to organization {others[0]}, the schedule to {organization}"
            hint = f"declare a destination of {organization}"
        else:
            sentence = f"there is no destination {code} of organization {organization}"
            own = sorted(destinations.of.get(organization, ()))
            hint = did_you_mean(code, own, what="destinations of that organization")
        yield document.problem(place, f"{sentence}; {hint}")


def _duplicates(document: Document, kind: str) -> Iterator[Problem]:
    first: dict[tuple[object, object], KeyPath] = {}
    for path, table in document.tables(kind):
        organization, code = table.get("organization"), table.get("code")
        if not isinstance(organization, str) or not isinstance(code, str):
            continue
        earlier = first.setdefault((organization, code), path)
        if earlier != path:
            place = document.where((*earlier, "code"))
            sentence = f"organization {organization} already has a {kind} {code} ({place}); choose another code"
            yield document.problem((*path, "code"), sentence)


def _texts(values: object, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(values, str):
        yield path, values
    elif isinstance(values, list | tuple):
        yield from (((*path, index), value) for index, value in enumerate(values) if isinstance(value, str))
