"""An answer that goes on: server-sent events, to a client that keeps up."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio
from starlette.responses import StreamingResponse
from starlette.types import Send

PATIENCE_S = 30.0
"""How long a client may take nothing before the line is given up."""


class EventStream(StreamingResponse):
    """``events`` is closed when the client has gone, whenever that is."""

    def __init__(self, events: AsyncGenerator[bytes]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"cache-control": "no-store"})
        self._events = events

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for event in events:
                with anyio.move_on_after(PATIENCE_S) as patience:
                    await send({"type": "http.response.body", "body": event, "more_body": True})
                if patience.cancelled_caught:
                    return
            await send({"type": "http.response.body", "body": b"", "more_body": False})
