"""What a shell is told at a Tab: which argument it is, and nothing at all when no daemon answers well."""

import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from exportd.cli.completion import complete, slot
from tests.fixtures.daemon import run
from tests.tools.command_reference import completion_table

TABLE = json.loads(completion_table())
BEGIN = "\x1fbegin\n"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("schedule run ", "schedules"),
        ("schedule run nightly ", None),
        ("schedule run --json nigh", "schedules"),
        ("schedule refresh nightly ", "entities"),
        ("schedule refresh --socket here nightly ", "entities"),
        ("schedule refresh --socket ", None),
        ("schedule refresh -- ", "schedules"),
        ("schedule run -- --no", "schedules"),
        ("schedule run --js", None),
        ("schedule backfill nightly --from ", "jobs"),
        ("schedule backfill nightly --from=", "jobs"),
        ("schedule backfill nightly --from = ab", "jobs"),  # as bash separates it
        ("schedule create new --destinations lake ", "destinations"),
        ("schedule create new --destinations lake --entities A B ", "entities"),
        ("schedule create ", None),
        ("export A B ", "entities"),
        ("export A --organization ", "organizations"),
        ("job list --schedule ", "schedules"),
        ("download ", "jobs"),
        ("verify ", None),
        ("schedule ", None),
        ("sched", None),
        ("", None),
        ("what ever", None),
    ],
)
def test_what_is_offered_for_a_word(line: str, kind: str | None) -> None:
    assert slot(line.split(" "), TABLE)[0] == kind


def test_the_options_before_it_say_which_daemon_is_asked() -> None:
    words = ["schedule", "run", "--socket=here", "-c", "x y.toml", "--organization", "org 1", "nightly", ""]
    assert slot(words, TABLE)[1] == {"--socket": "here", "-c": "x y.toml", "--organization": "org 1"}


def test_what_a_shell_could_misread_is_left_out(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    codes = ["plain", "with space", "--help", "two\nlines", "tab\there", "\x1b[31mred", "☃", "plain", "\x1fbegin"]
    with answering(
        b"HTTP/1.1 200 OK\r\n\r\n"
        + json.dumps({"data": [{"entity": code, "label": "a\tb"} for code in codes]}).encode()
    ):
        complete(["entity", "show", ""])
    assert capfdbinary.readouterr().out.decode() == f"{BEGIN}plain\ta?b\nwith space\ta?b\n☃\ta?b\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 503 Service Unavailable\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n[]",
        b'HTTP/1.1 200 OK\r\n\r\n{"data": [1]}',
        b'HTTP/1.1 200 OK\r\n\r\n{"data": [{}]}',
        b"HTTP/1.1 200 OK\r\n\r\n<html>",
        b"no HTTP \xff",
    ],
)
def test_a_daemon_that_answers_otherwise_offers_nothing(
    answer: bytes, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with answering(answer):
        complete(["entity", "show", ""])
    assert capfdbinary.readouterr() == (BEGIN.encode(), b"")


@pytest.mark.parametrize("configuration", [None, "", "control = 1", "[control]\nsocket = 'nowhere'", "no toml"])
def test_without_a_daemon_nothing_is_offered_or_said(
    configuration: str | None, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    config = tmp_path / "exportd.toml"
    if configuration is not None:
        config.write_text(configuration)
    complete(["job", "show", "--config", str(config), ""])
    assert capfdbinary.readouterr() == (BEGIN.encode(), b"")


def test_a_tab_loads_neither_the_commands_nor_what_is_slow_to_load() -> None:
    program = (
        "import sys\nfrom exportd.__main__ import main\n"
        "sys.argv[1:] = ['__complete', 'schedule', 'run', '--socket', 'nowhere', '']\nmain()\n"
        "print(sorted(name for name in sys.modules if name.startswith('exportd.')))\n"
        "print(sorted({'cyclopts', 'rich', 'http.client', 'ssl', 'asyncio', 'pydantic'} & set(sys.modules)))"
    )
    outcome = run([sys.executable, "-c", program])
    expected = ["['exportd.__main__', 'exportd.cli', 'exportd.cli.completion']", "[]"]
    assert outcome.stdout.splitlines()[1:] == expected, outcome.stderr


@contextmanager
def answering(answer: bytes) -> Iterator[None]:
    """A daemon that gives this answer to one request, where the environment says that it listens."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listening:
        path = Path(folder) / "control.sock"
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            line, _ = listening.accept()
            with line:
                received = b""
                while not received.endswith(b"\r\n\r\n"):
                    received += line.recv(65536)
                line.sendall(answer)

        thread = Thread(target=serve)
        thread.start()
        os.environ["EXPORTD_SOCKET"] = str(path)
        try:
            yield
        finally:
            del os.environ["EXPORTD_SOCKET"]
            thread.join()
