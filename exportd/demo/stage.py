"""Where the demo plays: a directory with the configuration, and the real daemon as a process."""

import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from exportd.catalog import document
from exportd.catalog.document import Catalog
from exportd.model.entity import OrganizationId
from exportd.model.errors import PermanentError, Reason, SettingsError

SCHEDULE = "everything"
"""The code of each organization's schedule."""

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


class DaemonProcess:
    """The running daemon."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    def require_running(self) -> None:
        """Raise PermanentError with the last lines of its log when the daemon has ended."""
        if self._process.poll() is not None:
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
            raise PermanentError("The daemon ended: " + "\n".join(lines), reason=Reason.BUG)


@asynccontextmanager
async def running_daemon(stage: Stage) -> AsyncIterator[DaemonProcess]:
    """Run the daemon as a process during the block; SIGTERM ends it."""
    with stage.log.open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - returns at once; waited for in a thread
            [sys.executable, "-m", "exportd", "run", "--config", str(stage.config)], stdout=log, stderr=log
        )
        try:
            yield DaemonProcess(process, stage.log)
        finally:
            with anyio.CancelScope(shield=True):
                process.send_signal(signal.SIGTERM)
                await anyio.to_thread.run_sync(process.wait)


@asynccontextmanager
async def running_console(stage: Stage) -> AsyncIterator[None]:
    """Run ``exportd console`` during the block; it prints the address of the daemon's pages."""
    process = subprocess.Popen(  # noqa: ASYNC220 - returns at once; waited for in a thread
        [sys.executable, "-m", "exportd", "console", "--no-browser", "--config", str(stage.config)]
    )
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            process.terminate()
            await anyio.to_thread.run_sync(process.wait)


def _shipped_catalog() -> Path:
    """The catalog beside this module in an installed package, in config/ in a checkout."""
    here = Path(__file__).parent
    installed = here / "entities.toml"
    return installed if installed.exists() else here.parent.parent / "config" / "entities.toml"
