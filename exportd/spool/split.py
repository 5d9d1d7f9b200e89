"""Where rows end in COPY's output. Pure.

The data given to these functions starts at the beginning of a row and ends at the end of one: COPY delivers whole
rows. A CSV row ends at a newline outside quotes; COPY doubles a quote inside a quoted value, so "outside" means that an
even number of quotes precedes the newline. A JSONL row ends at any newline.
"""

from collections.abc import Iterator

from exportd.model.schedule import ExportFormat

_QUOTE = b'"'
_NEWLINE = b"\n"
_ALL_BUT_QUOTES_AND_NEWLINES = bytes(sorted(set(range(256)) - set(_QUOTE + _NEWLINE)))


def count_rows(data: bytes, file_format: ExportFormat) -> int:
    """How many rows ``data`` holds."""
    if file_format is ExportFormat.JSONL or _QUOTE not in data:
        return data.count(_NEWLINE)
    # A quoted value without newlines leaves two adjacent quotes. Without those pairs little remains, and whether the
    # number of quotes before a newline is even stays the same. (Three times as fast as splitting the data itself.)
    marks = data.translate(None, _ALL_BUT_QUOTES_AND_NEWLINES).replace(_QUOTE * 2, b"")
    return sum(outside.count(_NEWLINE) for outside in marks.split(_QUOTE)[::2])


def rows_of(data: bytes, file_format: ExportFormat) -> Iterator[bytes]:
    """Each row, with the newline at its end."""
    lines = iter(data.split(_NEWLINE)[:-1])
    for line in lines:
        row, quotes = [line], line.count(_QUOTE)
        while file_format is ExportFormat.CSV and quotes % 2:  # the newline is inside a quoted value
            row.append(next(lines))
            quotes += row[-1].count(_QUOTE)
        yield _NEWLINE.join([*row, b""])


def whole_rows(data: bytes, limit: int, file_format: ExportFormat) -> int:
    """The length of the longest prefix of whole rows that has at most ``limit`` bytes; 0 when not even one fits."""
    end = data.rfind(_NEWLINE, 0, max(limit, 0))
    if file_format is ExportFormat.JSONL or end < 0:
        return end + 1
    quotes = data.count(_QUOTE, 0, end)
    while end >= 0 and quotes % 2:
        # Inside a quoted value: every newline back to the last quote is inside it too.
        before = data.rfind(_NEWLINE, 0, data.rfind(_QUOTE, 0, end))
        quotes -= data.count(_QUOTE, max(before, 0), end)
        end = before
    return end + 1


def first_row(data: bytes, file_format: ExportFormat) -> int:
    """The length of the first row; all of ``data`` when it holds no more than one."""
    end = data.find(_NEWLINE)
    if file_format is ExportFormat.CSV:
        quotes = data.count(_QUOTE, 0, end)
        while end >= 0 and quotes % 2:
            # Inside a quoted value: every newline up to the next quote is inside it too.
            quote = data.find(_QUOTE, end)
            after = data.find(_NEWLINE, quote) if quote >= 0 else -1
            quotes += data.count(_QUOTE, end, after)
            end = after
    return end + 1 if end >= 0 else len(data)
