"""What a person watching the demo sees: a live table on a terminal, plain lines anywhere else."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import anyio
from rich.console import Console
from rich.live import Live
from rich.table import Table

from exportd.model.entity import EntityCode
from exportd.model.job import EntityProgress

_REFRESH_S = 0.15


class RunningWork(Protocol):
    """Work that goes on: figures by entity until it is finished."""

    async def figures(self) -> Mapping[EntityCode, EntityProgress]: ...

    async def finished(self) -> bool: ...


class Screen:
    """Prints the demo's output, all of it."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stdout, highlight=False)
        self._started = time.monotonic()

    @property
    def live(self) -> bool:
        return self._console.is_terminal

    def chapter(self, title: str) -> None:
        elapsed = time.monotonic() - self._started
        self._console.print(
            f"\n[bold]{title}[/bold]  [dim]({elapsed:.1f} s)[/dim]" if self.live else f"\n{title}", soft_wrap=True
        )

    def line(self, text: str = "") -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """The first column is text, the others are numbers."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for number, column in enumerate(columns):
            table.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
        for row in rows:
            table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row))
        self._console.print(table, soft_wrap=not self.live)

    async def follow(self, work: RunningWork) -> None:
        """Show the figures live until the work is finished; without a terminal, wait only."""
        with self._drawing() as draw:
            while not await work.finished():
                if draw is not None:
                    draw(await work.figures())
                await anyio.sleep(_REFRESH_S)
            if draw is not None:
                draw(await work.figures())

    @contextmanager
    def _drawing(self) -> Iterator[Callable[[Mapping[EntityCode, EntityProgress]], None] | None]:
        if not self.live:
            yield None
            return
        started = time.monotonic()
        with Live(console=self._console, refresh_per_second=8, transient=True) as live:
            yield lambda figures: live.update(_figures(figures, time.monotonic() - started))


def _figures(figures: Mapping[EntityCode, EntityProgress], elapsed_s: float) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("ENTITY")
    for column in ("ROWS", "DELETED", "FILES", "COMPRESSED"):
        table.add_column(column, justify="right")
    for entity, figure in figures.items():
        table.add_row(
            entity, f"{figure.rows:,}", f"{figure.deleted_rows:,}", str(figure.files), f"{figure.size_bytes:,}"
        )
    rows = sum(figure.rows for figure in figures.values())
    content_bytes = sum(figure.content_bytes for figure in figures.values())
    rate = content_bytes / 1e6 / max(elapsed_s, 0.001)
    table.add_row("[bold]all[/bold]", f"[bold]{rows:,}[/bold]", "", "", f"{rate:.0f} MB/s")
    return table
