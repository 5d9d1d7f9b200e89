"""What commands print, and how they end: tables for people, JSON for programs, exit codes, one sentence for an error.

No other module of the command line writes.

Names, codes and messages were written by others. Here they become text that a terminal only shows: no markup, no escape
sequences, no line breaks, and no characters that the terminal's encoding lacks.
"""

import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import IntEnum
from textwrap import indent
from typing import Annotated, Any

from cyclopts import Parameter

from exportd.model.errors import ExportdError, PermanentError, SettingsError, TransientError
from exportd.model.foreign_text import shown, shown_json

AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON instead of a table.")]

_LAYOUT = "\n\t"

_WIDTH_WITHOUT_TERMINAL = 220
"""Wide enough that no cell is folded, because programs that read a pipe work by lines."""

_ORGANIZATION = "ORGANIZATION"
_JOB_COLUMNS = {"JOB", "RUNNING JOB"}
_FIRST_TO_GO = ("FILES", "DELETED", "FORMAT", "ORIGIN", "VERSION", "LAST DUE", "CREATED", "SIZE", "ENTITIES")
"""The columns that are left out when a terminal is too narrow, the first one first. ``--json`` has all."""

_GAP = 2
"""The space between two columns; one character if there is no room."""

_MIN_PATH_WIDTH = 16

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

MIN_ID_LENGTH = 8
"""The fewest characters of an id in a narrow table. Commands accept that many for the whole id of a job."""


def print_line(text: str = "") -> None:
    """One line: line breaks in it are escaped like everything that is not printable."""
    sys.stdout.write(f"{on_terminal(text)}\n")


def print_script(text: str) -> None:
    """Print lines for programs, such as SQL, unchanged; on a terminal, only printable characters."""
    sys.stdout.write(f"{on_terminal(text, keep=_LAYOUT) if sys.stdout.isatty() else _encodable(text)}\n")


def print_error(sentence: str) -> None:
    """Print a sentence on standard error. Further lines are indented, so that none looks like a message of exportd."""
    first, *further = shown(sentence, encoding=sys.stderr.encoding, keep=_LAYOUT).split("\n")
    sys.stderr.write("\n  ".join((f"exportd: {first}", *further)) + "\n")


def print_bug(traceback: str) -> None:
    """Print a bug of exportd on standard error, and what to do about it."""
    sys.stderr.write(indent(shown(traceback, encoding=sys.stderr.encoding, keep=_LAYOUT), "  "))
    print_error("this is a bug; please report it with the lines above")


def print_json(document: Any, *, lines: bool = True) -> None:
    """Print a document on several lines or on one, with escapes for unprintable characters."""
    text = json.dumps(document, indent=2 if lines else None, default=str, ensure_ascii=False)
    sys.stdout.write(f"{shown_json(text, encoding=sys.stdout.encoding)}\n")


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[str] = (), width: int | None = None
) -> None:
    """Print a table that fits the terminal. ``numbers`` names the columns that are aligned to the right.

    ``width`` is in columns of text: the terminal's when left out.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    texts = [["" if value is None else on_terminal(str(value)) for value in row] for row in rows]
    if width is None and sys.stdout.isatty():
        width = Console().width
    names, cells = (list(columns), texts) if width is None else fitted(columns, texts, width=width)
    gap = _GAP if width is None or _width(names, cells) <= width else 1
    room = None if width is None else width - gap * (len(names) - 1)
    widths = [None] * len(names) if room is None else column_widths(names, cells, room)
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    for column, wide in zip(names, widths, strict=True):
        # The first column is what a person copies into the next command.
        table.add_column(
            column,
            justify="right" if column in numbers else "left",
            overflow="fold",
            no_wrap=column == names[0],
            width=wide,
        )
    for row in cells:
        # As Text, because a string would be read as markup.
        table.add_row(*(Text(cell) for cell in row))
    Console(width=width or _WIDTH_WITHOUT_TERMINAL, highlight=False).print(table)


def print_list(
    documents: Collection[Mapping[str, Any]],
    columns: Mapping[str, Callable[[Mapping[str, Any]], object]],
    *,
    numbers: Sequence[str] = (),
    as_json: bool,
) -> None:
    """What the daemon listed: for a program the documents, for a person what each of the ``columns`` says of one."""
    if as_json:
        print_json(documents)
    else:
        rows = [tuple(cell(document) for cell in columns.values()) for document in documents]
        print_table(list(columns), rows, numbers=numbers)


def on_terminal(text: str, *, keep: str = "") -> str:
    """Foreign text in the form in which standard output can show it on one line. The characters in ``keep`` stay."""
    return shown(text, encoding=sys.stdout.encoding, keep=keep)


def _encodable(text: str) -> str:
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, errors="backslashreplace").decode(encoding)


def fitted(columns: Sequence[str], rows: Sequence[Sequence[str]], *, width: int) -> tuple[list[str], list[list[str]]]:
    """The columns and rows of a table that fit into ``width``. Pure.

    A column with only one organization is left out. Then ids of jobs are shortened so far that they stay different from
    each other, and likewise organizations that are UUIDs. Then the least important columns are left out.
    """
    names, cells = list(columns), [list(row) for row in rows]
    if _ORGANIZATION in names and len({row[names.index(_ORGANIZATION)] for row in cells}) == 1:
        _remove(names, cells, _ORGANIZATION)
    for place, name in enumerate(names):
        ids = [row[place] for row in cells]
        is_id = name in _JOB_COLUMNS or (name == _ORGANIZATION and all(map(_UUID.fullmatch, ids)))
        if is_id and _width(names, cells) > width:
            short = shortened(ids)
            for row in cells:
                row[place] = short[row[place]]
    for name in _FIRST_TO_GO:
        if _width(names, cells) > width and name in names:
            _remove(names, cells, name)
    return names, cells


def column_widths(names: Sequence[str], cells: Sequence[Sequence[str]], room: int) -> list[int | None]:
    """The width of each column, so that all together take no more than ``room``. Pure.

    Cells are folded between words, and paths anywhere. If that is not enough, all widths are None, and rich decides.
    """
    columns = list(zip(names, *cells, strict=True))
    widths = [max(map(len, column)) for column in columns]
    least = [max(_unbroken(word) for cell in column for word in cell.split() or [""]) for column in columns]
    if sum(least) > room:
        return [None] * len(names)
    while sum(widths) > room:
        spare = [wide - narrow for wide, narrow in zip(widths, least, strict=True)]
        widths[spare.index(max(spare))] -= 1
    return list(widths)


def _unbroken(word: str) -> int:
    return min(len(word), _MIN_PATH_WIDTH) if "/" in word else len(word)


def shortened(ids: Iterable[str]) -> dict[str, str]:
    """The beginning of each id, of at least 8 characters, that no other id has."""
    known = set(ids)
    for length in range(MIN_ID_LENGTH, 36):
        if len({text[:length] for text in known}) == len(known):
            return {text: text[:length] for text in known}
    return {text: text for text in known}


def _remove(names: list[str], cells: list[list[str]], name: str) -> None:
    place = names.index(name)
    for row in [names, *cells]:
        del row[place]


def _width(names: Sequence[str], cells: Sequence[Sequence[str]]) -> int:
    """The width of the table without folding. Each character of ids and codes takes one cell."""
    return sum(max(map(len, column)) for column in zip(names, *cells, strict=True)) + _GAP * (len(names) - 1)


def moment(value: datetime | None) -> str:
    """A time as people read it, in UTC, to the second."""
    return "" if value is None else value.strftime("%Y-%m-%d %H:%M:%SZ")


def instant(text: str | None) -> str:
    """A time as the API writes it, as people read it."""
    return "" if text is None else moment(datetime.fromisoformat(text).astimezone(UTC))


def duration(seconds: float) -> str:
    """A length of time in its two largest units: ``3 d 4 h``, ``5 min 6 s``."""
    units = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
    rest = int(seconds)
    words: list[str] = []
    for length, unit in units:
        count, rest = divmod(rest, length)
        if count or words:
            words.append(f"{count} {unit}")
    return " ".join(word for word in words[:2] if not word.startswith("0 ")) or "0 s"


def print_answer(answer: Any, sentence: str, *, as_json: bool) -> None:
    """What the daemon answered for a program, the sentence for a person."""
    if as_json:
        print_json(answer)
    else:
        print_line(sentence)


def print_fields(fields: Mapping[str, object]) -> None:
    """Print names and values below each other. Those without a value are left out."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        if value not in {None, ""}:
            print_line(f"{name.ljust(width)}  {value}")


def size(size_bytes: int) -> str:
    """A size as people read it, in powers of 1000."""
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def pause_words(pause: Mapping[str, str] | None) -> str:
    """A pause as the API shows it, for people; empty when there is none."""
    return "" if pause is None else f"paused since {instant(pause['since'])} by {pause['by']}"


class Exit(IntEnum):
    """Exit codes, documented in docs/commands.md and stable."""

    DONE = 0
    FAILED = 1
    """It cannot work until something is changed; the sentence says what."""
    USAGE = 2
    """The configuration, the catalog or the arguments are wrong."""
    TRY_AGAIN = 3
    """Something was out of reach or busy."""
    BUG = 70
    """A bug in exportd; a traceback is shown."""
    INTERRUPTED = 130
    """Ctrl-C."""


class DeclinedError(Exception):
    """The person has answered no. That is not an error, so there is no reason code."""


def exit_code(error: BaseException) -> Exit:
    """The exit code of the most serious error in ``error``, which may be a group."""
    match error:
        case BaseExceptionGroup():
            codes = {exit_code(exception) for exception in error.exceptions}
            return next(code for code in (Exit.BUG, Exit.USAGE, Exit.FAILED, Exit.TRY_AGAIN) if code in codes)
        case SettingsError():
            return Exit.USAGE
        case PermanentError() | DeclinedError():
            return Exit.FAILED
        case TransientError():
            return Exit.TRY_AGAIN
        case _:
            return Exit.BUG


@contextmanager
def reported() -> Iterator[None]:
    """Turn errors into a sentence on standard error and an exit code."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
    except BrokenPipeError:
        # The reader (`| head`) has closed the pipe. The interpreter must not report that at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.DONE)
    except Exception as error:
        code = exit_code(error)
        _say(error, code)
        sys.exit(code)


def _say(error: Exception, code: Exit) -> None:
    """Write to standard error. If it is closed, the exit code has to suffice."""
    try:
        if code is Exit.BUG:
            print_bug(traceback.format_exc())
        else:
            for sentence in dict.fromkeys(_sentences(error)):
                print_error(sentence)
        sys.stderr.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # or the interpreter fails at exit


def _sentences(error: BaseException) -> Iterator[str]:
    match error:
        case BaseExceptionGroup():
            for exception in error.exceptions:
                yield from _sentences(exception)
        case SettingsError():
            yield from (str(problem) for problem in error.problems)
        case ExportdError():
            yield f"{error.sentence} [{error.reason}]"
        case _:
            yield str(error)
