"""A Postgres server of our own, for the demo and the tests: one folder, one socket, no network.

It ends with the program that started it, however that ends, and runs as an unprivileged account when we are root (see
``server_process``).
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeVar
from urllib.parse import quote

import anyio
import anyio.to_thread
import asyncpg

from exportd.database import quoting
from exportd.model.errors import SettingsError
from exportd.postgres.binaries import major_version, usable_binaries
from exportd.postgres.server_process import Account, ServerProcess, environment

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 20.0
_PORT = 5432  # names the socket only; nothing listens on the network
_MAX_SOCKET_BYTES = 107

_T = TypeVar("_T")


class PostgresServer:
    """A server that can be started, stopped, killed and started again; ``close`` removes its temporary folder.

    ``directory`` keeps the data between runs; without it the data is temporary. ``binaries`` is the folder of
    ``postgres`` and ``initdb``, by default the newest that can be used. ``settings`` are the server's, such as
    ``{"fsync": "off"}``. As an async context manager it is started and closed. Raises SettingsError when the machine
    lacks something.
    """

    def __init__(
        self,
        *,
        binaries: Path | None = None,
        directory: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._wanted_binaries = binaries
        self._directory = directory
        self._settings = dict(settings or {})
        self._account = Account.for_server()
        self._binaries: Path | None = None
        self._version: int | None = None
        self._temporary: Path | None = None
        self._process: ServerProcess | None = None

    @property
    def binaries(self) -> Path:
        """The folder of the server's programs; ``psql`` and ``pg_dump`` are usually there too."""
        return _started(self._binaries)

    @property
    def version(self) -> int:
        """The major version, such as 18."""
        return _started(self._version)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self._home / "postgres.log"

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        """How to connect, also for psql. The role ``postgres`` is a superuser; no password is needed."""
        socket = quote(str(self._socket_directory), safe="")
        user, database = quote(user, safe=""), quote(database, safe="")
        return f"postgresql://{user}@/{database}?host={socket}&port={_PORT}"

    async def start(self) -> None:
        """Makes the database cluster if there is none, starts the server, waits until it answers."""
        await anyio.to_thread.run_sync(self.start_blocking)

    async def stop(self) -> None:
        """Stops the server as a shutdown of the machine would; the data stays. Stopping twice is fine."""
        await anyio.to_thread.run_sync(self.stop_blocking)

    async def close(self) -> None:
        """Stops the server and removes its temporary folder. Closing twice is fine."""
        await anyio.to_thread.run_sync(self.close_blocking)

    async def kill(self) -> None:
        """Ends the server at once, as a crash would; the next start recovers."""
        await anyio.to_thread.run_sync(self._end, "QUIT")

    async def create_database(self, name: str, template: str | None = None) -> str:
        """Creates a database, a copy of ``template`` if given, and returns its DSN."""
        # Copied as files, not through the WAL: several times faster for a database as small as a template.
        statement = f"CREATE DATABASE {quoting.identifier(name)} STRATEGY file_copy"
        if template is not None:
            statement += f" TEMPLATE {quoting.identifier(template)}"
        await self._execute(statement)
        return self.dsn(name)

    async def drop_database(self, name: str) -> None:
        """Drops a database if it exists, cutting the connections to it."""
        await self._execute(f"DROP DATABASE IF EXISTS {quoting.identifier(name)} WITH (FORCE)")

    async def __aenter__(self) -> "PostgresServer":
        try:
            await self.start()
        except BaseException:
            await self._close_shielded()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close_shielded()

    def start_blocking(self) -> None:
        """``start`` for callers without an event loop."""
        if self.running:
            return
        first = self._temporary is None
        try:
            self._prepare_folders()
            if not (self._data / "PG_VERSION").exists():
                self._create_cluster()
            before = self._pid_file_text()
            self._process = self._spawn()
            self._wait_until_ready(self._process, before)
        except BaseException:
            self._end("QUIT")
            if first:
                self.close_blocking()
            raise

    def stop_blocking(self) -> None:
        """``stop`` for callers without an event loop."""
        self._end("INT")

    def close_blocking(self) -> None:
        """``close`` for callers without an event loop."""
        self._end("INT" if self._directory else "QUIT")  # data that goes away needs no orderly end
        temporary, self._temporary = self._temporary, None
        self._binaries = None  # they may be copies in it
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)

    @property
    def _socket_directory(self) -> Path:
        return _started(self._temporary)

    @property
    def _home(self) -> Path:
        return self._directory or self._socket_directory

    @property
    def _data(self) -> Path:
        return self._home / "data"

    async def _close_shielded(self) -> None:
        with anyio.move_on_after(2 * _STOP_TIMEOUT_S, shield=True):
            await self.close()

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.dsn())
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def _prepare_folders(self) -> None:
        """The folder of the socket, ours alone, and (there or where it is to be kept) that of the data."""
        if self._temporary is None:
            self._temporary = _make_temporary_folder()
            self._account.give(self._temporary)
        if self._binaries is None:
            self._binaries = usable_binaries(self._wanted_binaries, self._account, copy_to=self._temporary / "install")
            self._version = major_version(self._binaries)
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            if not self._data.exists():
                self._data.mkdir(mode=0o700)
                self._account.give(self._data)
        except OSError as error:
            raise SettingsError.of(f"the folder {self._data} cannot be made: {error.strerror}") from error

    def _create_cluster(self) -> None:
        command = [str(self.binaries / "initdb"), "-D", str(self._data), "-U", "postgres", "-A", "trust"]
        command += ["-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"]
        outcome = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._socket_directory,
            env=environment(self._socket_directory),
            start_new_session=True,
            timeout=_START_TIMEOUT_S,
            **self._account.popen_arguments(),
        )
        if outcome.returncode:
            output = outcome.stdout.decode(errors="replace").strip()
            raise SettingsError.of(f"initdb could not make a database cluster in {self._data}: {output}")

    def _spawn(self) -> ServerProcess:
        settings = {
            "listen_addresses": "",
            "port": str(_PORT),
            "unix_socket_directories": str(self._socket_directory),
            **self._settings,
        }
        command = [str(self.binaries / "postgres"), "-D", str(self._data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        return ServerProcess(command, account=self._account, folder=self._socket_directory, log=self.log)

    def _wait_until_ready(self, process: ServerProcess, before: str) -> None:
        # The server writes its state into the last line of its pid file; pg_ctl waits in the same way. An unchanged
        # file belongs to a server that crashed before.
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if not process.running:
                raise SettingsError.of(f"the Postgres server did not start: {self._log_tail()}")
            text = self._pid_file_text()
            if text != before and text.rstrip().endswith("ready"):
                return
            time.sleep(0.01)
        log_tail = self._log_tail()
        raise SettingsError.of(f"the Postgres server was not ready in {_START_TIMEOUT_S:.0f} s: {log_tail}")

    def _pid_file_text(self) -> str:
        with suppress(FileNotFoundError):
            return (self._data / "postmaster.pid").read_text(encoding="utf-8")
        return ""

    def _log_tail(self) -> str:
        return " ".join(self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:])

    def _end(self, signal_name: Literal["INT", "QUIT"]) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.end(signal_name)


def _started(value: _T | None) -> _T:
    if value is None:
        raise RuntimeError("the server has not been started")
    return value


def _make_temporary_folder() -> Path:
    """A new folder whose name is short enough for a socket in it, wherever TMPDIR points."""
    folder = tempfile.mkdtemp(prefix="exportd-pg-")
    if len(os.fsencode(f"{folder}/.s.PGSQL.{_PORT}.lock")) > _MAX_SOCKET_BYTES:
        Path(folder).rmdir()
        folder = tempfile.mkdtemp(prefix="exportd-pg-", dir="/tmp")
    return Path(folder)
