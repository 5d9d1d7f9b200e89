"""The body of a request, which tells while it is being taken. Pure."""

import io
from collections.abc import Callable


class WatchedBody(io.BytesIO):
    """``on_read`` is called whenever a bit of it is asked for, which is when the bit before has left.

    The HTTP library's own timeouts begin when all of a body has left: it would wait for ever for a store that stops
    taking it. It reads what is a BytesIO in the event loop.
    """

    on_read: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._data = data

    def read(self, size: int | None = -1, /) -> bytes:
        self.on_read()
        return super().read(size)

    def getbuffer(self) -> memoryview:
        """A view of the data as they are. The HTTP library looks at their length so; BytesIO would copy them first."""
        return memoryview(self._data)
