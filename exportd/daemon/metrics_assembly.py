"""Builds what the address for monitoring answers with, from the parts of a daemon. Nothing listens yet."""

import os

import anyio.to_thread

from exportd.api.monitoring import Monitoring, Readiness
from exportd.api.transport.metrics_server import MetricsServer
from exportd.daemon.assembly import Components
from exportd.daemon.control_assembly import ControlApi
from exportd.database.translator import translated

_PROBE_TIMEOUT_S = 2.0


def metrics_server(components: Components, control: ControlApi) -> MetricsServer:
    """The server of ``metrics.listen``; it answers with the same metrics as the control API."""

    async def database() -> bool:
        with translated("looking whether the database answers"):
            async with components.control_pool.acquire(timeout=_PROBE_TIMEOUT_S) as connection:
                await connection.execute("SELECT", timeout=_PROBE_TIMEOUT_S)
        return True

    async def listener() -> bool:
        return components.listener.listening

    async def spool() -> bool:
        await components.spool.free_bytes()  # fails when the directory is gone
        return await anyio.to_thread.run_sync(os.access, components.spool.directory, os.W_OK | os.X_OK)

    settings = components.current.settings().metrics
    readiness = Readiness({"database": database, "listener": listener, "spool": spool}, components.clock)
    monitoring = Monitoring(lambda: control.collaborators.status.exposition, readiness, hosts=settings.hosts)
    return MetricsServer(monitoring, listen=settings.listen)
