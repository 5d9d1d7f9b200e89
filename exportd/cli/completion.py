"""Completes arguments in a shell: codes, entities, jobs and organizations that the daemon knows.

A shell runs ``exportd __complete WORDS`` at each Tab, so this module imports neither cyclopts nor the commands, and
implements just enough HTTP. completion.json says which argument takes what; ``make docs`` writes it from the command
line.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

DEFAULT_CONFIG = "/etc/exportd/exportd.toml"
DEFAULT_SOCKET = "/run/exportd/control.sock"

_TABLE = os.path.join(os.path.dirname(__file__), "completion.json")  # noqa: PTH118, PTH120 - pathlib takes 10 ms
_TIMEOUT_S = 2.0
_PAGING_S = 0.15
"""After this time no further page is requested, because a person waits."""

Document = Mapping[str, Any]

_LISTS: Mapping[str, tuple[str, str]] = {
    "destinations": ("/v1/destinations?pageSize=200", "code"),
    "entities": ("/v1/entities", "entity"),
    "jobs": ("/v1/jobs?pageSize=100", "id"),
    "organizations": ("/v1/organizations", ""),
    "schedules": ("/v1/schedules?pageSize=200", "code"),
}
"""For each kind, the list of the API and the field of its items that is offered."""

_OF_ONE_ORGANIZATION = {"destinations", "jobs", "schedules"}


class Offer:
    """The completer of a command's argument: the daemon's objects of ``kind`` are offered for it.

    The shells' scripts ask at each Tab. cyclopts is not used for the answer, because it would import every command.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, context: object) -> tuple[str, ...]:
        return ()


DESTINATIONS, ENTITIES, JOBS, ORGANIZATIONS, SCHEDULES = map(Offer, _LISTS)


def complete(words: Sequence[str]) -> None:
    """Print what may stand at the last of ``words``, one a line, for the scripts of the shells. Never fails."""
    try:
        lines = list(_offered(words))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        lines = []  # no daemon answers, or it answers in other words: then nothing is offered
    sys.stdout.buffer.write("".join(f"{line}\n" for line in ("\x1fbegin", *lines)).encode("utf-8", "replace"))
    sys.stdout.buffer.flush()


def named_socket(config: str) -> str:
    """Where the daemon of a configuration listens. Only ``control.socket`` of the file is read.

    Raises OSError when the file cannot be read, ValueError or RecursionError when it is no TOML.
    """
    import tomllib

    with open(config, "rb") as file:  # noqa: PTH123
        control = tomllib.load(file).get("control")
    named = control.get("socket") if isinstance(control, dict) else None
    if not (isinstance(named, str) and named):
        return DEFAULT_SOCKET
    return os.path.join(os.path.dirname(os.path.abspath(config)), named)  # noqa: PTH100, PTH118, PTH120


def slot(words: Sequence[str], table: Document) -> tuple[str | None, dict[str, str]]:
    """The kind that is offered for the last of ``words``, if any, and the values of the options before it. Pure."""
    words = _joined(words)
    arguments = next((count for count in range(1, len(words)) if " ".join(words[:count]) in table), None)
    if arguments is None:
        return None, {}
    command = table[" ".join(words[:arguments])]
    given: dict[str, str] = {}
    open_option, positions, only_values = "", 0, False
    for word in words[arguments:-1]:
        if word.startswith("-") and not only_values:
            name, equals, value = word.partition("=")
            only_values = word == "--"
            given[name] = value
            open_option = name if name in command["options"] and not equals else ""
        elif open_option:
            given[open_option] = word
            open_option = open_option if open_option in command["several"] else ""
        else:
            positions += 1
    last, equals, _ = words[-1].partition("=")
    if words[-1].startswith("-") and not only_values:
        return (command["options"].get(last) if equals else None), given
    if open_option:
        return command["options"][open_option], given
    kinds: list[str | None] = command["positions"]
    return (kinds[positions] if positions < len(kinds) else command["rest"]), given


def _joined(words: Sequence[str]) -> list[str]:
    """Join words that bash has split: ``--option=value`` comes as three words."""
    joined: list[str] = []
    for word in words:
        behind_option = joined and joined[-1].startswith("-")
        if behind_option and ((word == "=" and "=" not in joined[-1]) or joined[-1].endswith("=")):
            joined[-1] += word
        else:
            joined.append(word)
    return joined or [""]


def _offered(words: Sequence[str]) -> Iterator[str]:
    with open(_TABLE, encoding="utf-8") as file:  # noqa: PTH123
        kind, given = slot(words, json.load(file))
    if kind is None:
        return
    address = _unquoted(given.get("--socket") or "") or os.environ.get("EXPORTD_SOCKET")
    if not address:
        config = _unquoted(given.get("--config") or given.get("-c") or "") or os.environ.get("EXPORTD_CONFIG")
        address = _socket(config or DEFAULT_CONFIG)
    target, field = _LISTS[kind]
    organization = _unquoted(given.get("--organization") or "") or os.environ.get("EXPORTD_ORGANIZATION")
    if organization and kind in _OF_ONE_ORGANIZATION:
        target += f"&organization={_escaped(organization)}"
    seen = set()
    for item in _items(address, target):
        value = item[field] if field else item
        # A value that begins like an option would be taken for one, and control characters are not safe to print.
        if value not in seen and value.isprintable() and not value.startswith("-"):
            seen.add(value)
            yield f"{value}\t{_description(item)}" if field else value


def _socket(config: str) -> str:
    try:
        return named_socket(config)
    except (OSError, ValueError, RecursionError):
        return DEFAULT_SOCKET


def _items(address: str, target: str) -> Iterator[Any]:
    began, token = time.monotonic(), ""
    while True:
        page = _get(address, f"{target}&nextToken={_escaped(token)}" if token else target)
        yield from page["data"]
        token = page.get("nextToken") or ""
        if not token or time.monotonic() - began > _PAGING_S:
            return


def _get(address: str, target: str) -> Any:
    """The daemon's answer. With HTTP/1.0 it ends with the connection."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(_TIMEOUT_S)
        line.connect(address)
        line.sendall(f"GET {target} HTTP/1.0\r\nhost: localhost\r\n\r\n".encode())
        received = bytearray()
        while block := line.recv(65536):
            received += block
    head, _, body = received.partition(b"\r\n\r\n")
    if head.split(maxsplit=2)[1] != b"200":
        raise LookupError
    return json.loads(body)


def _escaped(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogateescape"))


def _unquoted(word: str) -> str:
    """A word as the shell will hand it over, as far as quotes and the home directory go."""
    if not word.strip():
        return word
    import shlex

    try:
        word = "".join(shlex.split(word))
    except ValueError:  # a quote that is open
        return ""
    return os.path.expandvars(os.path.expanduser(word))  # noqa: PTH111


def _description(item: Document) -> str:
    known = (item.get(name) for name in ("organization", "schedule", "status", "label"))
    words = ", ".join(word for word in known if isinstance(word, str))
    return "".join(character if character.isprintable() else "?" for character in words)
