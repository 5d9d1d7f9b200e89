"""A daemon and its console that the tests of a file share: each opens windows of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exportd.postgres.postgres_server import PostgresServer
from tests.acceptance import statement_blocker
from tests.acceptance.console_browser import console, origin
from tests.acceptance.declarations import destination, schedule
from tests.acceptance.sample_application import CATALOG, Application
from tests.fixtures.control_clients import bare
from tests.fixtures.daemon import Site, site_of
from tests.fixtures.postgres import fresh_empty_database

if TYPE_CHECKING:
    import asyncpg


@dataclass(frozen=True)
class SharedConsole:
    """A daemon whose schedule ``often`` has run once, the job ``done``; ``here`` is the origin of its console."""

    site: Site
    application: Application
    here: str
    done: str

    @property
    def connection(self) -> "asyncpg.Connection[asyncpg.Record]":
        return self.application.connection

    async def invitation(self) -> str:
        """An address that one more browser can open, as ``exportd console`` prints the first."""

        def ask() -> str:
            with bare(self.site.folder / "control.sock") as http:
                answer = http.post("/console/invitations").raise_for_status().json()
                return f"{self.here}/console/open?once={answer['invitation']}"

        return await asyncio.to_thread(ask)

    async def failed_job(self) -> str:
        """The id of a job that failed, for its destination was away."""
        self.site.destination("lake").rename(self.site.folder / "away")
        failed = await self.site.finished(self.connection, await self.site.fire())
        (self.site.folder / "away").rename(self.site.folder / "lake")
        assert failed["state"] == "FAILED"
        return str(failed["id"])


@asynccontextmanager
async def shared_console_on(server: PostgresServer, folder: Path) -> AsyncIterator[SharedConsole]:
    """Until the end of the block."""
    async with fresh_empty_database(server) as database:
        with site_of(database, folder) as site:
            application = Application(await database.connect())
            await application.open()
            lake = destination("lake", site.destination("lake"))
            catalog = CATALOG.replace('"accountId"', '{ name = "accountId", reference = "ACCOUNTS" }')
            site.configure(catalog, {"destination": [lake], "schedule": [schedule(name="Every day")]})
            await application.connection.execute(statement_blocker.INSTALL)
            await site.start()
            done = await site.succeeded(application.connection, await site.first_job(application.connection))
            async with console(site) as address:
                yield SharedConsole(site, application, origin(address), str(done["id"]))
