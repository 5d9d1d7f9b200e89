"""Two daemons on one database, each with a site of its own."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import asyncpg

from tests.fixtures.daemon import Daemon, Site


def twin_of(site: Site, folder: Path) -> Site:
    """Another daemon's site with the same configuration: its spool and its socket are its own."""
    folder.mkdir()
    for path in (site.config, site.catalog):
        shutil.copy(path, folder / path.name)
    return Site(folder, site.database, site.dsn)


async def holder_of(
    job: UUID, connection: "asyncpg.Connection[asyncpg.Record]", daemons: Sequence[Daemon]
) -> int | None:
    """Which of the daemons runs a job, if one does."""
    holder = await connection.fetchval("SELECT lease_holder FROM exportd.job WHERE id = $1", job)
    return None if holder is None else [daemon.process.pid for daemon in daemons].index(int(holder.rpartition(":")[2]))
