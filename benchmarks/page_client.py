"""A browser at the console, as far as the daemon notices; and several that follow what goes on, as a process.

    python -m benchmarks.page_client SOCKET SECONDS OVERVIEWS JOBS

So many browsers are at the overview, and so many at the page of the job that runs. Each has a stream of events, and
loads its page again at each event, as the console's script does. Prints how many pages were loaded after events.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.api_client import UnixConnection

_LOOK_AGAIN_S = 0.05


class PageClient:
    """Loads pages, with a session of its own. Raises RuntimeError for another answer than 200."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._connection = UnixConnection(socket)
        self._cookie = ""

    def sign_in(self) -> None:
        """As the user of this process, who is at the socket."""
        self._connection.request("POST", "/console/enter", headers={"content-length": "0"})
        answer = self._connection.getresponse()
        answer.read()
        self._cookie = answer.headers.get("set-cookie", "").partition(";")[0]

    def get(self, path: str, *, accept_encoding: str = "identity") -> bytes:
        """The body, as it comes."""
        return self._connection.get(path, {"cookie": self._cookie, "accept-encoding": accept_encoding})

    def disconnect(self) -> None:
        """Have the next request open a connection: the daemon ends one that is idle for some seconds."""
        self._connection.close()

    def follow(self, stream: str, at_event: Callable[[], object]) -> None:
        """Call ``at_event`` at each event, until the stream ends; its connection is one more."""
        connection = UnixConnection(self._socket)
        try:
            connection.request("GET", stream, headers={"cookie": self._cookie})
            answer = connection.getresponse()
            if answer.status != 200:
                raise RuntimeError(f"{stream}: {answer.status} {answer.read().decode(errors='replace')}")
            while line := answer.readline():
                if line.startswith(b"data:"):
                    at_event()
        finally:
            connection.close()


class _Watchers:
    """Browsers, each in a thread; ``loads`` counts the pages that they loaded after events."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._lock = threading.Lock()
        self.loads = 0

    def _browser(self) -> PageClient:
        browser = PageClient(self._socket)
        browser.sign_in()
        return browser

    def _load(self, browser: PageClient, path: str) -> None:
        browser.get(path)
        with self._lock:
            self.loads += 1

    def at_overview(self) -> None:
        browser = self._browser()
        while True:
            browser.follow("/console/events", partial(self._load, browser, "/console/"))

    def at_job(self) -> None:
        browser = self._browser()
        while True:
            running = json.loads(browser.get("/v1/jobs?status=RUNNING&pageSize=1"))["data"]
            if not running:
                time.sleep(_LOOK_AGAIN_S)
                continue
            page = f"/console/jobs/{running[0]['id']}"
            browser.follow(f"{page}/events", partial(self._load, browser, page))


def main() -> None:
    """The process."""
    place, seconds, overviews, jobs = sys.argv[1:]
    watchers = _Watchers(Path(place))
    for watch in [watchers.at_overview] * int(overviews) + [watchers.at_job] * int(jobs):
        threading.Thread(target=watch, daemon=True).start()
    time.sleep(float(seconds))
    print(watchers.loads)


if __name__ == "__main__":
    main()
