"""``exportd pause``, ``resume`` and ``log-level``: the daemon as a whole."""

from typing import Any, Literal

from exportd.cli.daemon_address import DaemonAddress
from exportd.cli.output import AsJson, print_json, print_line
from exportd.cli.pauses import pause_in, pause_words

_HERE = DaemonAddress()

LogLevel = Literal["debug", "info", "warning", "error"]


def pause(*, json: AsJson = False, at: DaemonAddress = _HERE) -> None:
    """Begin no further job, on all daemons of the database; those that run go on. No change is lost."""
    _say_paused(at.client().request("POST", "/v1/pause"), as_json=json)


def resume(*, json: AsJson = False, at: DaemonAddress = _HERE) -> None:
    """Go on after a pause."""
    _say_paused(at.client().request("POST", "/v1/resume"), as_json=json)


def log_level(level: LogLevel | None = None, /, *, json: AsJson = False, at: DaemonAddress = _HERE) -> None:
    """Say how much the daemon logs, or change it until the daemon is started again."""
    client = at.client()
    answer = client.request("PUT", "/v1/log-level", body={"level": level}) if level else None
    answer = answer or client.request("GET", "/v1/log-level")
    if json:
        print_json(answer)
    else:
        print_line(answer["level"])


def _say_paused(answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        print_line(pause_words(pause_in(answer)) or "not paused")
