"""Asks a person at a terminal for a schedule, step by step, and shows when it would run before it is saved."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from exportd.cli.daemon_client import OrganizationClient
from exportd.cli.output import DeclinedError, moment, on_terminal
from exportd.cli.socket_client import Document
from exportd.model.errors import SettingsError
from exportd.model.schedule import API_RULE, rule_from
from exportd.schedules.calendar import check_rule, rule_words, upcoming

_RUNS_SHOWN = 5

_console = Console(highlight=False)


def ask(given: Document, client: OrganizationClient, config: Path) -> Document:
    """Ask for everything that ``given`` lacks. Returns the whole document. Raises DeclinedError when the person does
    not want to save it.
    """
    body = dict(given)
    if "code" not in body:
        body["code"] = _answer("Code, a short name")
    if "operationalDataTypes" not in body:
        body["operationalDataTypes"] = _entities(config)
    if "destinationIds" not in body:
        body["destinationIds"] = _destinations(client)
    if "exportFileFormat" not in body:
        body["exportFileFormat"] = _choice("Format of the files", ("CSV", "JSONL"))
    if "cronExpression" not in body and not {"scheduleType", "period"} <= body.keys():
        body = {**{name: value for name, value in body.items() if name not in _RULE}, **_rule()}
    _confirm(body)
    return body


_RULE = {"scheduleType", "period", "offset", "cronExpression"}


def _entities(config: Path) -> list[str]:
    known = _catalog(config)
    if known:
        _say(f"Entities: {', '.join(known)}")
    hint = "with commas between them" + ("; ALL for each of these" if known else "")
    while True:
        found = _words(_answer(f"Which entities, {hint}"))
        if found == ["ALL"] and known:
            return list(known)
        unknown = [name for name in found if known and name not in known]
        if not unknown:
            return found
        _say(f"The catalog has no {', '.join(unknown)}.")


def _destinations(client: OrganizationClient) -> list[str]:
    ids = {destination["code"]: destination["id"] for destination in client.listed("destinations")}
    if not ids:
        _say("There is no destination yet: the files are kept for download.")
        return []
    _say(f"Destinations: {', '.join(ids)}")
    while True:
        found = _words(_answer("Which destinations, with commas between them; empty for download only", empty=True))
        unknown = [code for code in found if code not in ids]
        if not unknown:
            return [ids[code] for code in found]
        _say(f"There is no {', '.join(unknown)}.")


def _rule() -> Document:
    """Ask for a rule until it is valid, and print what is wrong with an invalid one."""
    while True:
        unit = _choice("How often: every some …, or by a cron expression", ("MINUTE", "HOUR", "DAY", "CRON"))
        if unit == "CRON":
            fields: Document = {"cronExpression": _answer("Cron expression, five fields, in UTC")}
        else:
            fields = {"scheduleType": unit, "period": _number(f"Every how many {unit.lower()}s", 1)}
            words = {"HOUR": "Minutes into the hour, 0 for none", "DAY": "Hours into the day, 0 for none"}
            if unit in words and (offset := _number(words[unit], 0)):
                fields["offset"] = offset
        problems = check_rule(rule_from(fields, API_RULE))
        if not problems:
            return fields
        for problem in problems:
            _say(problem)


def _confirm(body: Document) -> None:
    rule = rule_from(body, API_RULE)
    _say("")
    _say(f"{body['code']}: {rule_words(rule)}, {len(body['operationalDataTypes'])} entities. Its next runs:")
    for due in upcoming(rule, datetime.now(UTC), _RUNS_SHOWN):
        _say(f"  {moment(due)}")
    if _choice("Save it", ("yes", "no")) == "no":
        raise DeclinedError("Nothing was saved.")


def _catalog(config: Path) -> Sequence[str]:
    """The entities, if this user may read the configuration. Otherwise none, and the daemon checks the answers."""
    from exportd.cli.configuration import load

    try:
        return tuple(load(config)[1].entities)
    except SettingsError:
        return ()


def _number(question: str, default: int) -> int:
    return int(_asked(f"{question} [{default}]", lambda text: not text or text.isdecimal(), "a number") or default)


def _choice(question: str, options: Sequence[str]) -> str:
    spelled = {option.lower(): option for option in options}
    words = f"one of {', '.join(options)}"
    answer = _asked(
        f"{question} ({', '.join(options)}) [{options[0]}]", lambda text: not text or text.lower() in spelled, words
    )
    return spelled[answer.lower()] if answer else options[0]


def _answer(question: str, *, empty: bool = False) -> str:
    return _asked(question, lambda text: bool(text) or empty, "an answer")


def _asked(question: str, is_good: Callable[[str], bool], expected: str) -> str:
    while True:
        text = _read(question)
        if is_good(text):
            return text
        _say(f"This has to be {expected}.")


def _read(question: str) -> str:
    try:
        return _console.input(f"{on_terminal(question)}: ", markup=False).strip()
    except EOFError:
        raise DeclinedError("Nothing was saved.") from None


def _words(text: str) -> list[str]:
    return [word for word in map(str.strip, text.split(",")) if word]


def _say(text: str) -> None:
    _console.print(on_terminal(text, keep="\n"), markup=False)
