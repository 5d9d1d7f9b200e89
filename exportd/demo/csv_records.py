"""Reads CSV as Postgres writes it, keeping apart what the standard library's reader does not: NULL is an empty cell
without quotes, an empty text is ``""``. Pure.
"""

from collections.abc import Iterable, Iterator


def records(lines: Iterable[str]) -> Iterator[list[str | None]]:
    """The records of a file's lines, each of which ends with LF (a record with a line break in it is several).

    Raises ValueError for what COPY would not have written.
    """
    remaining = iter(lines)
    for first in remaining:
        line = first
        while line.count('"') % 2:
            more = next(remaining, None)
            if more is None:
                raise ValueError(f"the file ends inside of a quoted cell: {_excerpt(line)}")
            line += more
        if not line.endswith("\n"):
            raise ValueError(f"the last line is not ended: {_excerpt(line)}")
        yield _quoted(line[:-1]) if '"' in line else [cell or None for cell in line[:-1].split(",")]


def _quoted(record: str) -> list[str | None]:
    """The cells of a record, by what stands outside and inside of its quotes, which take turns."""
    cells: list[str | None] = []
    pieces = record.split('"')
    last = len(pieces) - 1
    quoted: str | None = None
    for index in range(0, last + 1, 2):
        outside = pieces[index]
        if not outside and quoted is not None and index < last:
            quoted = '"'.join((quoted, pieces[index + 1]))
            continue
        plain = outside.split(",")
        if quoted is not None:
            if plain.pop(0):
                raise ValueError(f"text follows a quoted cell: {_excerpt(record)}")
            cells.append(quoted)
        if index < last:
            if not plain or plain.pop():
                raise ValueError(f"a quote stands inside of a plain cell: {_excerpt(record)}")
            quoted = pieces[index + 1]
        cells += [cell or None for cell in plain]
    return cells


def _excerpt(text: str) -> str:
    return repr(text[:100])
