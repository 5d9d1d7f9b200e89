"""Each command with each kind of wrong input: an exit code that is documented, a sentence, and no traceback.

The inputs are made from the command line's own tree, so a new command is tried too. An ordinary user types them, in a
folder of their own, on a machine without a daemon.
"""

import inspect
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, get_args
from uuid import UUID

import pytest
from cyclopts import App

from exportd.cli.main import app
from tests.fixtures.command_batch import Ended, run_batch
from tests.tools.command_reference import EXIT_CODES

if TYPE_CHECKING:
    from cyclopts.argument import Argument

USAGE, TRY_AGAIN = {2}, {3}
UNPRIVILEGED_ID = 65534
MUST_NOT_BEGIN = {"demo", "run"}
"""Whose right arguments would begin something."""

KINDS = {
    *("unknown command", "unknown option", "one too many", "missing argument", "no value", "wrong value"),
    *("configuration", "no daemon"),
}

FILES = {
    "no-toml.toml": b"[database\n",
    "no-text.toml": b"\xff\xfe\x00",
    "no-known-key.toml": b"[databse]\ndsn = 1\n",
    "closed.toml": b"",
}


@dataclass(frozen=True)
class Input:
    """A command line, why it is wrong, and how it may end."""

    why: str
    arguments: tuple[str, ...]
    codes: frozenset[int]


def commands(group: App = app, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], "list[Argument]"]]:
    for name in sorted(name for name in group if not name.startswith("-")):
        if group[name].default_command is None:
            yield from commands(group[name], (*words, name))
        else:
            yield (*words, name), [item for item in group[name].assemble_argument_collection() if item.show]


def wrong_inputs() -> Iterator[Input]:
    """Of what commands share, such as ``--config``, each kind of mistake is made once with each command in turn."""
    yield Input("unknown command", ("frobnicate",), frozenset(USAGE))
    tried, files = set[tuple[str, str]](), cycle(("missing.toml", ".", *FILES))
    for words, arguments in commands():
        good = (*words, *_required(arguments))
        yield Input("unknown option", (*good, "--no-such-option"), frozenset(USAGE))
        if not any(argument.field_info.kind is inspect.Parameter.VAR_POSITIONAL for argument in arguments):
            yield Input("one too many", (*good, *["x"] * (1 + len(arguments))), frozenset(USAGE))
        if len(good) > len(words):
            yield Input("missing argument", words, frozenset(USAGE))
        for argument in arguments:
            name = argument.names[0]
            if not _takes_value(argument) or (name, str(argument.hint)) in tried:
                continue
            tried.add((name, str(argument.hint)))
            rest = (*words, *_required([other for other in arguments if other is not argument]))
            yield Input("no value", (*rest, name), frozenset(USAGE))
            if argument.get_choices() or _kinds(argument) & {int, float, UUID}:
                yield Input("wrong value", (*rest, name, "wrong"), frozenset(USAGE))
        if words[0] in MUST_NOT_BEGIN:
            continue
        names = {name for argument in arguments for name in argument.names}
        asks = "--socket" in names
        if "--config" in names:
            codes = USAGE | TRY_AGAIN if asks else USAGE
            yield Input("configuration", (*good, "--config", next(files)), frozenset(codes))
        if asks:
            # Some look into the database instead, and there is no configuration that names it.
            yield Input("no daemon", (*good, "--socket", "nowhere.sock"), frozenset(USAGE | TRY_AGAIN))


def _required(arguments: "list[Argument]") -> Iterator[str]:
    for argument in arguments:
        if argument.required or argument.field_info.kind is inspect.Parameter.VAR_POSITIONAL:
            if argument.field_info.kind is inspect.Parameter.KEYWORD_ONLY:
                yield argument.names[0]
            kinds = _kinds(argument)
            choices = argument.get_choices()
            yield choices[0] if choices else str(UUID(int=0)) if UUID in kinds else "1" if int in kinds else "x"


def _takes_value(argument: "Argument") -> bool:
    """And not any number of them, none too; given by its name."""
    if argument.parameter.consume_multiple or not argument.names[0].startswith("-"):
        return False
    return bool not in _kinds(argument) and argument.field_info.kind is not inspect.Parameter.VAR_POSITIONAL


def _kinds(argument: "Argument") -> set[object]:
    return {argument.hint, *get_args(argument.hint)}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A fresh user's: theirs alone, when the tests run as root; with files that are no configuration."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in FILES.items():
            (folder / file).write_bytes(content)
            (folder / file).chmod(0o644)
        (folder / "closed.toml").chmod(0)
        if os.geteuid() == 0:
            shutil.chown(folder, UNPRIVILEGED_ID)
        yield folder


def test_a_wrong_input_is_named_in_a_sentence(folder: Path) -> None:
    inputs = list(wrong_inputs())
    user = UNPRIVILEGED_ID if os.geteuid() == 0 else 0
    ended = run_batch([wrong.arguments for wrong in inputs], folder, user=user)
    assert {wrong.why for wrong in inputs} == KINDS
    assert [problem for wrong, outcome in zip(inputs, ended, strict=True) for problem in problems(wrong, outcome)] == []
    assert {path.name for path in folder.iterdir()} == set(FILES), "nothing is written"


def problems(wrong: Input, outcome: Ended) -> Iterator[str]:
    line = f"{wrong.why}: exportd {' '.join(wrong.arguments)}"
    if outcome.code not in wrong.codes:
        yield f"{line}: ended with {outcome.code}: {outcome.errors}"
    if "Traceback" in outcome.output + outcome.errors:
        yield f"{line}: {outcome.errors}"
    if outcome.output:
        yield f"{line}: printed {outcome.output}"
    named = wrong.arguments[-1]
    if wrong.why in {"unknown command", "unknown option", "no value", "wrong value"} and named not in outcome.errors:
        yield f"{line}: does not name {named} in one piece: {outcome.errors}"
    if not re.match(r"exportd: \S.{10,}\n|╭─ Error ", outcome.errors):
        yield f"{line}: says {outcome.errors!r}"


def test_the_codes_are_the_documented_ones() -> None:
    assert {code.value for code in EXIT_CODES} >= USAGE | TRY_AGAIN
