"""Clients that follow jobs of the real daemon, when it shuts down and when they disconnect."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from tests.acceptance import statement_blocker
from tests.acceptance.declarations import destination, schedule
from tests.acceptance.sample_application import CATALOG, Application
from tests.fixtures.daemon import Daemon, Site, environment, until


@pytest.fixture
async def gated_site(site: Site, application: Application) -> Site:
    """A daemon that has run its schedule once, and a gate to be closed."""
    site.configure(CATALOG, {"destination": [destination("lake", site.destination())], "schedule": [schedule()]})
    await application.connection.execute(statement_blocker.INSTALL)
    await site.start()
    await site.succeeded(application.connection, await site.first_job(application.connection))
    return site


@asynccontextmanager
async def watching(site: Site, job: UUID) -> AsyncIterator[Process]:
    """``exportd job watch``, which has received the job's state."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "exportd", "job", "watch", str(job), "--config", str(site.config)),
        stdout=PIPE,
        stderr=PIPE,
        env=environment(),
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"publishing, attempt 1\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def outcome(process: Process) -> tuple[int | None, str, str]:
    """Exit code, and what was said since the first line."""
    output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def leaving(daemon: Daemon) -> None:
    daemon.signal(signal.SIGTERM)
    await daemon.wait_for_event("stopping")


async def test_a_job_that_ends_while_the_daemon_leaves_is_followed_to_its_end(gated_site: Site) -> None:
    site, daemon = gated_site, gated_site.daemons[-1]
    keeper = await site.database.connect()
    async with statement_blocker.blocking(keeper, statement_blocker.DELIVERING) as closed:
        job = await site.fire()
        await closed.blocked_backend()
        async with watching(site, job) as watch, watching(site, job) as other, watching(site, job) as vanishing:
            vanishing.kill()
            await leaving(daemon)
            await keeper.execute("SELECT pg_advisory_unlock_all()")
            for process in (watch, other):
                code, output, errors = await outcome(process)
                assert (code, output.splitlines()[-1], errors) == (0, "succeeded", "")
    assert await daemon.ended() == 0
    await site.assert_clean(site.destination())


async def test_a_job_that_is_put_back_goes_on_and_who_followed_it_is_told(gated_site: Site) -> None:
    site, daemon = gated_site, gated_site.daemons[-1]
    async with statement_blocker.blocking(await site.database.connect(), statement_blocker.DELIVERING) as closed:
        job = await site.fire()
        await closed.blocked_backend()
        async with watching(site, job) as watch:
            await leaving(daemon)
            daemon.signal(signal.SIGTERM)
            code, _, errors = await outcome(watch)
        assert code == 3
        assert errors.startswith("exportd: The daemon ended the stream; the job")
        assert len(errors.splitlines()) == 1
        assert await daemon.ended() == 0
        assert not daemon.events_named("request cut off")
        await closed.terminate_blocked()
    await site.assert_clean(site.destination())


async def test_the_sessions_that_a_job_waits_for_are_named_while_it_waits(site: Site, application: Application) -> None:
    """Capture has to be mended, and a writer of the table keeps its transaction open."""
    site.configure(CATALOG, {"destination": [destination("lake", site.destination())], "schedule": [schedule()]})
    daemon = await site.start()
    await site.succeeded(application.connection, await site.first_job(application.connection))
    assert "waits since" not in (await site.quickly("status")).stdout
    writer = await site.database.connect()
    await writer.execute("SET application_name = 'a long writer'")
    await application.connection.execute("DROP TRIGGER exportd_accounts_insert ON public.accounts")
    async with writer.transaction():
        await writer.execute("INSERT INTO public.countries VALUES ('IT', 'Italia')")
        await writer.execute("UPDATE public.accounts SET note = 'x' WHERE id = 1")
        job = await site.fire()
        await daemon.wait_for_event("waiting for a lock")
        words = f"session {writer.get_server_pid()} 'a long writer' of postgres (idle in transaction), since "

        async def says(command: str, sentence: str) -> None:
            """The command says it while the job waits; between two attempts the job waits for nothing."""

            async def look() -> bool:
                text = " ".join((await site.quickly(*command.split())).stdout.split())
                return sentence in text and words in text and "The job waits for a lock while installing" in text

            await until(look, what=f"{sentence!r} from {command}")

        await asyncio.gather(
            says(f"job show {job}", "waits for"),
            says("status", f"Job {job} waits since"),
            says("check", f"warn job {job} of org-1: The job waits"),
        )
    await site.succeeded(application.connection, job)
    assert "waits for" not in (await site.quickly("job", "show", str(job))).stdout
