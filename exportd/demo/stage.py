"""Where the demo plays: a directory with the configuration, the real daemon as a process, and the screen."""

import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import anyio
import anyio.to_thread
from rich.console import Console
from rich.live import Live
from rich.table import Table

from exportd.catalog import document
from exportd.catalog.document import Catalog
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import PermanentError, Reason, SettingsError
from exportd.model.job import EntityProgress

SCHEDULE = "everything"
"""The code of each organization's schedule."""

Process = subprocess.Popen[bytes]

_MARKER = ".exportd-demo"


@dataclass(frozen=True, slots=True)
class Stage:
    """The demo's files. Everything lies below ``directory``, which is absolute; ``dsn`` names the database."""

    directory: Path
    dsn: str

    @property
    def config(self) -> Path:
        return self.directory / "exportd.toml"

    @property
    def exports(self) -> Path:
        return self.directory / "exports"

    @property
    def log(self) -> Path:
        return self.directory / "daemon.log"

    def rebuilt(self, organization: OrganizationId) -> Path:
        """The DuckDB file with the organization's rebuilt tables."""
        return self.directory / "rebuilt" / f"{organization}.duckdb"

    def configure(self, organizations: Sequence[OrganizationId]) -> Catalog:
        """Write the daemon's configuration and catalog; the last organization exports JSONL, the others CSV."""
        catalog = self.directory / "entities.toml"
        shutil.copyfile(_shipped_catalog(), catalog)
        sections = [
            f'[database]\ndsn = "{self.dsn}"\n',
            '[catalog]\nfile = "entities.toml"\n',
            '[spool]\ndirectory = "spool"\n',
            '[control]\nsocket = "control.sock"\n',
            f"[limits]\njobs = {len(organizations)}\n",
            '[log]\nformat = "console"\n',
        ]
        for organization in organizations:
            file_format = "JSONL" if organization == organizations[-1] else "CSV"
            sections.append(
                f'[[destination]]\ncode = "warehouse"\norganization = "{organization}"\ndirectory = "exports"\n\n'
                f'[[schedule]]\ncode = "{SCHEDULE}"\norganization = "{organization}"\nentities = "ALL"\n'
                f'format = "{file_format}"\ndestinations = ["warehouse"]\nunit = "MINUTE"\nperiod = 15\n'
            )
        self.config.write_text("\n".join(sections), encoding="utf-8")
        return document.load(catalog)


def clear(directory: Path) -> Path:
    """Remove what an earlier demo left in a directory, and create it if it is not there; its absolute path.

    Raises SettingsError when the directory holds anything else.
    """
    directory = directory.absolute()
    if directory.exists() and any(directory.iterdir()):
        if not (directory / _MARKER).exists():
            raise SettingsError.of("is not empty and not of an earlier demo; give another --dir", where=str(directory))
        for name in ("postgres", "exports", "spool", "rebuilt"):
            shutil.rmtree(directory / name, ignore_errors=True)
    for name in ("exports", "rebuilt"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    (directory / _MARKER).touch()
    return directory


def require_running(stage: Stage, daemon: Process) -> None:
    """Raise PermanentError with the last lines of its log when the daemon has ended."""
    if daemon.poll() is not None:
        lines = stage.log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
        raise PermanentError("The daemon ended: " + "\n".join(lines), reason=Reason.BUG)


@asynccontextmanager
async def running_daemon(stage: Stage) -> AsyncIterator[Process]:
    """Run the daemon as a process during the block; SIGTERM ends it."""
    with stage.log.open("wb") as log:
        async with _running("run", "--config", str(stage.config), output=log) as process:
            yield process


def running_console(stage: Stage) -> AbstractAsyncContextManager[object]:
    """Run ``exportd console`` during the block; it prints the address of the daemon's pages."""
    return _running("console", "--no-browser", "--config", str(stage.config))


@asynccontextmanager
async def _running(*arguments: str, output: IO[bytes] | None = None) -> AsyncIterator[Process]:
    process = subprocess.Popen(  # noqa: ASYNC220 - returns at once; waited for in a thread
        [sys.executable, "-m", "exportd", *arguments], stdout=output, stderr=output
    )
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            process.terminate()
            await anyio.to_thread.run_sync(process.wait)


class Screen:
    """Prints the demo's output, all of it: a live table on a terminal, plain lines anywhere else."""

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

    @contextmanager
    def drawing(self) -> Iterator[Callable[[Mapping[EntityCode, EntityProgress]], None]]:
        """Within the block, what it yields shows figures by entity live; without a terminal it shows nothing."""
        if not self.live:
            yield lambda _: None
            return
        started = time.monotonic()
        with Live(console=self._console, refresh_per_second=8, transient=True) as live:
            yield lambda figures: live.update(_figures(figures, time.monotonic() - started))


def _shipped_catalog() -> Path:
    """The catalog beside this module in an installed package, in config/ in a checkout."""
    here = Path(__file__).parent
    installed = here / "entities.toml"
    return installed if installed.exists() else here.parent.parent / "config" / "entities.toml"


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
