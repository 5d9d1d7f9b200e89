"""Serves the address for monitoring, inside the daemon's task group."""

import anyio
import structlog
from anyio.abc import TaskStatus
from starlette.types import ASGIApp

from exportd.api.transport.server import EmbeddedServer, stop_when_cancelled, tcp_socket

_logger = structlog.get_logger()


class MetricsServer:
    """Listens at ``listen`` (``host:port``) without TLS; with an empty ``listen`` nowhere."""

    def __init__(self, application: ASGIApp, *, listen: str) -> None:
        self._application = application
        self._listen = listen
        self.address: tuple[str, int] | None = None
        """Where it listens, once it does: host and port."""

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; requests that run then may end. Raises SettingsError when the address is taken."""
        if not self._listen:
            task_status.started()
            return
        with tcp_socket(self._listen, setting="metrics.listen") as listening:
            self.address = listening.getsockname()[:2]
            server = EmbeddedServer(self._application)
            async with anyio.create_task_group() as group:
                group.start_soon(stop_when_cancelled, [server], name="end of the metrics")
                # Cancelled in the middle, uvicorn would leave its connections behind: it ends by itself.
                with anyio.CancelScope(shield=True):
                    async with anyio.create_task_group() as serving:
                        serving.start_soon(server.serve, [listening], name="metrics")
                        await server.listening.wait()
                        _logger.info("metrics ready", address=f"{self.address[0]}:{self.address[1]}")
                        task_status.started()
