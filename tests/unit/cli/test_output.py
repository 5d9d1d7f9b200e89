"""What commands print of names that others gave: every way of printing, every kind of name, every encoding."""

import io
import json
import sys
from collections.abc import Callable

import pytest

from exportd.cli import output
from exportd.cli.output import reported
from exportd.cli.progress import ProgressEvent, event_line
from exportd.model.errors import PermanentError, Reason
from tests.unit.model.test_foreign_text import HOSTILE

PRINTERS: dict[str, Callable[[str], None]] = {
    "line": output.print_line,
    "cell": lambda name: output.print_table(("CODE", "NAME"), [(name, name), ("code", None)]),
    "field": lambda name: output.print_fields({"name": name, "code": None}),
    "answer": lambda name: output.print_answer({}, f"deleted {name}", as_json=False),
    "event": lambda name: output.print_line(event_line(ProgressEvent("end", {"message": name, "reason": name}))),
}


class Terminal(io.TextIOWrapper):
    """Standard output of an encoding; strict, as Python's is."""

    def __init__(self, encoding: str, *, is_terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, newline="\n")
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    @property
    def text(self) -> str:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode(self.encoding)


def unfolded(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("printer", PRINTERS.values(), ids=PRINTERS)
def test_a_name_is_text_on_every_terminal(
    monkeypatch: pytest.MonkeyPatch, printer: Callable[[str], None], name: str, encoding: str
) -> None:
    for is_terminal in (False, True):
        out = Terminal(encoding, is_terminal=False)  # a table's own styles are escapes on a terminal
        if printer is not PRINTERS["cell"]:
            out = Terminal(encoding, is_terminal=is_terminal)
        monkeypatch.setattr(sys, "stdout", out)
        printer(name)
        lines = out.text.removesuffix("\n").split("\n")
        assert all(line.isprintable() for line in lines)
        assert unfolded(output.on_terminal(name)) in unfolded(out.text)
        if printer is not PRINTERS["cell"]:
            assert len(lines) == 1


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_program_reads_the_name_itself(monkeypatch: pytest.MonkeyPatch, name: str, encoding: str) -> None:
    out = Terminal(encoding, is_terminal=True)
    monkeypatch.setattr(sys, "stdout", out)
    output.print_json({"name": name})
    assert json.loads(out.text) == {"name": name}
    assert all(line.isprintable() for line in out.text.split("\n"))


def test_a_script_is_exact_for_a_program_and_printable_for_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "SELECT 1; -- \x1b[2J\u202e\n\tSELECT '☃';"
    for is_terminal, expected in ((False, script), (True, "SELECT 1; -- \\x1b[2J\\u202e\n\tSELECT '☃';")):
        out = Terminal("utf-8", is_terminal=is_terminal)
        monkeypatch.setattr(sys, "stdout", out)
        output.print_script(script)
        assert out.text == f"{expected}\n"


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("error", [RuntimeError, lambda text: PermanentError(text, reason=Reason.NOT_FOUND)])
def test_an_error_forges_no_line_of_ours(
    capsys: pytest.CaptureFixture[str], name: str, error: Callable[[str], Exception]
) -> None:
    with pytest.raises(SystemExit), reported():
        raise error(f"There is no {name}.")
    printed = capsys.readouterr().err
    assert all(character.isprintable() or character in "\n\t" for character in printed)
    assert "\nexportd: two" not in printed
