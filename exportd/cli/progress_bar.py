"""A progress bar for a person at a terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from exportd.cli.output import on_terminal
from exportd.consumer.inventory_reader import ReadProgress

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


@contextmanager
def progress_bar(doing: str) -> Iterator[ReadProgress]:
    """A bar of bytes on a terminal; nothing anywhere else. It is drawn on standard error."""
    if not sys.stderr.isatty():
        yield ReadProgress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn(on_terminal(doing), markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _ShownProgress(bars)


class _ShownProgress(ReadProgress):
    def __init__(self, bar: "Bar") -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None)

    def begin(self, size_bytes: int) -> None:
        self._bar.update(self._task, total=size_bytes)

    def advance(self, size_bytes: int) -> None:
        self._bar.advance(self._task, size_bytes)
