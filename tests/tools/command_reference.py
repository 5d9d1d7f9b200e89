"""What is made from the signatures of the command line: docs/commands.md, and the table of ``exportd __complete``.

A test compares the files in the repository with what this makes.
"""

import inspect
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args, get_origin

from cyclopts import App

from exportd.cli.completion import Offer
from exportd.cli.main import app
from exportd.cli.output import Exit

if TYPE_CHECKING:
    from cyclopts.argument import Argument

_INTRODUCTION = """\
# Commands

`exportd COMMAND --help` says the same in a terminal. `exportd --version` prints the version.

Commands with `--socket` ask the daemon on its Unix socket; a user who may open it needs neither the configuration nor
the database. Where no daemon runs, `schedule list`, `run` and `next`, `job list` and `show`, `destination list`,
`entity`, `capture` and `download` use the database directly, and say so on standard error. Commands without `--socket`
work with the files, the configuration or the database themselves, and need no running daemon.

This page is made from the command line by `make docs`; do not edit it by hand.
"""

EXIT_CODES: Mapping[Exit, str] = MappingProxyType(
    {
        Exit.DONE: "Done.",
        Exit.FAILED: "It cannot work until a person changes something; the sentence says what.",
        Exit.USAGE: "The configuration, the catalog or the arguments are wrong.",
        Exit.TRY_AGAIN: "Something was out of reach or busy: try again.",
        Exit.BUG: "A bug of exportd: please report it with the traceback.",
        Exit.INTERRUPTED: "Interrupted by Ctrl-C.",
    }
)

_MIN_SHARERS = 4
"""An option that is the same in so many commands is described once, at the top of the page."""


@dataclass(frozen=True, slots=True)
class Option:
    """An argument or option as the page shows it: cells of a Markdown table."""

    name: str
    value: str
    default: str
    variable: str
    meaning: str

    def row(self) -> str:
        return f"| {self.name} | {self.value} | {self.default} | {self.variable} | {self.meaning} |"


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its words after ``exportd``, its usage line, what it does, and its arguments and options."""

    words: str
    usage: str
    description: str
    options: tuple[Option, ...]


def render() -> str:
    """The reference as Markdown."""
    commands = list(_commands(app, ""))
    counted = Counter(option for command in commands for option in command.options)
    shared = [option for option, count in counted.items() if count >= _MIN_SHARERS and option.name.startswith("`-")]
    lines = [_INTRODUCTION, "## Exit codes\n", "| code | meaning |", "| --- | --- |"]
    lines += [f"| {code.value} | {EXIT_CODES[code]} |" for code in Exit]
    lines += ["", "## Options of many commands\n", *_table(shared)]
    for command in commands:
        lines += [f"## `exportd {command.words}`\n", f"{command.description}\n", f"```\n{command.usage}\n```\n"]
        own = [option for option in command.options if option not in shared]
        if own:
            lines += _table(own)
        taken = [option.name for option in command.options if option in shared]
        if taken:
            link = "[as above](#options-of-many-commands)"
            lines.append(f"{'And' if own else 'Options:'} {', '.join(taken)}, {link}.\n")
    return "\n".join(lines).rstrip("\n") + "\n"


def completion_table() -> str:
    """What exportd/cli/completion.py offers, as JSON: by the words of a command its arguments, and its options with
    values, each with the kind that is offered for it. Commands for which nothing is offered are left out.
    """
    table = {}
    for words, command in _leaves(app, ""):
        arguments = [argument for argument in command.assemble_argument_collection() if argument.show]
        if not any(isinstance(argument.parameter.completer, Offer) for argument in arguments):
            continue
        valued = [argument for argument in arguments if _kind(argument.hint)[0] is not bool]
        options = [argument for argument in valued if not _is_repeated(argument)]
        table[words] = {
            "positions": [_offer(argument) for argument in options if _is_positional(argument)],
            "rest": next((_offer(argument) for argument in valued if _is_repeated(argument)), None),
            "options": {name: _offer(argument) for argument in options for name in _names(argument) if name[0] == "-"},
            "several": [
                name for argument in options if argument.parameter.consume_multiple for name in _names(argument)
            ],
        }
    return json.dumps(table, indent=1, sort_keys=True) + "\n"


def _offer(argument: "Argument") -> str | None:
    completer = argument.parameter.completer
    return completer.kind if isinstance(completer, Offer) else None


def _leaves(group: App, prefix: str) -> Iterator[tuple[str, App]]:
    for name in sorted(name for name in group if not name.startswith("-")):
        words = f"{prefix} {name}".strip()
        if group[name].default_command is None:
            yield from _leaves(group[name], words)
        else:
            yield words, group[name]


def _commands(group: App, prefix: str) -> Iterator[Command]:
    for words, command in _leaves(group, prefix):
        arguments = [argument for argument in command.assemble_argument_collection() if argument.show]
        yield Command(
            words,
            " ".join(["exportd", words, *_usage(arguments)]),
            _one_line(inspect.getdoc(command.default_command)),
            tuple(_option(argument) for argument in arguments),
        )


def _usage(arguments: "list[Argument]") -> Iterator[str]:
    """The words after the command: positional arguments, options that are required, and the rest."""
    options = False
    for argument in arguments:
        if _is_positional(argument):
            word = _display_name(argument) + ("..." if _is_repeated(argument) else "")
        elif argument.required:
            word = f"{argument.names[0]} {_value(argument)}"
        else:
            options = True
            continue
        yield word if argument.required else f"[{word}]"
    if options:
        yield "[OPTIONS]"


def _option(argument: "Argument") -> Option:
    names = [_display_name(argument)] if _is_positional(argument) else _names(argument)
    variables = argument.parameter.env_var or ()
    return Option(
        name=", ".join(f"`{name}`" for name in names),
        value=_choices(argument),
        default="required" if argument.required else _default(argument),
        variable=", ".join(f"`{variable}`" for variable in variables),
        meaning=_one_line(argument.parameter.help),
    )


def _is_positional(argument: "Argument") -> bool:
    return argument.field_info.kind in {
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    }


def _is_repeated(argument: "Argument") -> bool:
    return argument.field_info.kind is inspect.Parameter.VAR_POSITIONAL


def _names(argument: "Argument") -> list[str]:
    """Without those that cyclopts adds to say no to a flag or to empty a list."""
    return [name for name in argument.names if name not in argument.negatives]


def _display_name(argument: "Argument") -> str:
    return argument.names[0].lstrip("-").replace("-", "_").upper()


def _choices(argument: "Argument") -> str:
    choices = argument.get_choices() or ()
    return " or ".join(f"`{choice}`" for choice in choices) if choices else _value(argument).lower()


def _value(argument: "Argument") -> str:
    kind, several = _kind(argument.hint)
    if kind is bool:
        return "FLAG"
    word = _VALUES.get(kind, "TEXT")
    return f"{word}..." if several else word


_VALUES: Mapping[Any, str] = {int: "NUMBER", float: "NUMBER", Path: "PATH"}


def _kind(hint: Any) -> tuple[Any, bool]:
    """The type without ``| None``, and whether it is a list of it."""
    inner = [argument for argument in get_args(hint) if argument is not type(None)]
    if get_origin(hint) in {list, tuple}:
        return inner[0], True
    if type(None) in get_args(hint) and len(inner) == 1:
        return _kind(inner[0])
    return getattr(hint, "__supertype__", hint), False


def _default(argument: "Argument") -> str:
    default = argument.field_info.default
    if default is None or default is False or default is inspect.Parameter.empty:
        return "–"
    values = default if isinstance(default, list | tuple) else (default,)
    return ", ".join(f"`{value}`" for value in values)


def _table(options: list[Option]) -> list[str]:
    header = ["| argument or option | value | default | environment | meaning |", "| --- | --- | --- | --- | --- |"]
    return [*header, *(option.row() for option in options), ""]


def _one_line(text: str | None) -> str:
    return re.sub(r"\s+", " ", (text or "").replace("``", "`")).strip().replace("|", "\\|")
