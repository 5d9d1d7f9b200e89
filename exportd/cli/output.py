"""What commands print: tables for people, JSON for programs."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from cyclopts import Parameter

AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON instead of a table.")]

_WIDTH_WITHOUT_TERMINAL = 220
"""Wide enough that no cell is folded: what reads a pipe goes by lines."""

_ORGANIZATION = "ORGANIZATION"
_JOB_COLUMNS = {"JOB", "RUNNING JOB"}
_FIRST_TO_GO = ("FILES", "DELETED", "FORMAT", "ORIGIN", "VERSION", "LAST DUE", "CREATED", "SIZE", "ENTITIES")
"""Which columns go where a terminal is too narrow for all, the first one first; ``--json`` has everything."""

_GAP = 2
"""Between two columns, where there is room; one where not."""

MIN_ID_LENGTH = 8
"""How much of an id stands in a narrow table, at least. Commands take so much of a job's id for the whole."""


def print_line(text: str = "") -> None:
    sys.stdout.write(f"{text}\n")


def print_json(document: Any) -> None:
    json.dump(document, sys.stdout, indent=2, default=str, ensure_ascii=False)
    sys.stdout.write("\n")


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[str] = (), width: int | None = None
) -> None:
    """A table that fits the terminal; ``numbers`` names the columns that are aligned to the right.

    ``width`` is in columns of text: the terminal's when left out.
    """
    from rich.console import Console
    from rich.table import Table

    texts = [["" if value is None else str(value) for value in row] for row in rows]
    if width is None and sys.stdout.isatty():
        width = Console().width
    shown, cells = (list(columns), texts) if width is None else fitted(columns, texts, width=width)
    gap = _GAP if width is None or _width(shown, cells) <= width else 1
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    for column in shown:
        # The first column is what a person copies into the next command.
        whole = column == shown[0]
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold", no_wrap=whole)
    for row in cells:
        table.add_row(*row)
    Console(width=width or _WIDTH_WITHOUT_TERMINAL).print(table)


def fitted(columns: Sequence[str], rows: Sequence[Sequence[str]], *, width: int) -> tuple[list[str], list[list[str]]]:
    """A table's columns and rows as far as ``width`` has room for them; pure.

    A column of the one organization says nothing and goes. Then ids of jobs are shortened, so that they stay different
    from each other, and then columns go that matter least.
    """
    names, cells = list(columns), [list(row) for row in rows]
    if _ORGANIZATION in names and len({row[names.index(_ORGANIZATION)] for row in cells}) == 1:
        _remove(names, cells, _ORGANIZATION)
    if _width(names, cells) > width:
        for place, name in enumerate(names):
            if name in _JOB_COLUMNS:
                short = shortened([row[place] for row in cells])
                for row in cells:
                    row[place] = short[row[place]]
    for name in _FIRST_TO_GO:
        if _width(names, cells) > width and name in names:
            _remove(names, cells, name)
    return names, cells


def shortened(ids: Iterable[str]) -> dict[str, str]:
    """By id, its beginning of at least 8 characters, as long as no other of the ids begins with the same."""
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
    """How wide the table is with nothing folded; ids and codes are of one cell a character."""
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
    """Names and values below each other; those without a value are left out."""
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
