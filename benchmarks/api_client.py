"""A client of the control API in a process of its own: sends requests one by one and reports how long each took.

    python -m benchmarks.api_client SOCKET SECONDS kept|new PATH…

Prints the milliseconds of each answer as a JSON array. ``kept`` keeps its connection, ``new`` opens one each time.
"""

import json
import socket
import sys
import time
from collections.abc import Mapping
from http.client import HTTPConnection
from itertools import cycle
from pathlib import Path

_TIMEOUT_S = 60.0


class UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Called by the base class when it needs a connection."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(str(self._path))

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> bytes:
        """The body. Raises RuntimeError for another answer than 200."""
        self.request("GET", path, headers=headers or {})
        answer = self.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {body.decode(errors='replace')}")
        return body


def main() -> None:
    """The process."""
    place, seconds, way, *paths = sys.argv[1:]
    connection = UnixConnection(Path(place))
    end = time.perf_counter() + float(seconds)
    took: list[float] = []
    for path in cycle(paths):
        start = time.perf_counter()
        if start >= end:
            break
        connection.get(path)
        if way == "new":
            connection.close()
        took.append(round((time.perf_counter() - start) * 1000, 3))
    print(json.dumps(took))


if __name__ == "__main__":
    main()
