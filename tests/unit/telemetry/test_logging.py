import io
import json
import logging
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import structlog
from anyio import create_task_group
from hypothesis import given
from hypothesis import strategies as st
from structlog.contextvars import bound_contextvars

from exportd.model.job import JobState
from exportd.telemetry.logging import Format, Level, SecretMask, configure, plain_values

PASSWORD = "hunter2-is-secret"
DSN = f"postgresql://exportd:{PASSWORD}@db/product"
JOB = UUID("01234567-89ab-cdef-0123-456789abcdef")

_logger = structlog.get_logger()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def fail(error: Exception) -> None:
    raise error


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in ("asyncio", "asyncpg", "aiofiles")}
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, old in levels.items():
        logging.getLogger(name).setLevel(old)
    structlog.reset_defaults()


def stream(level: Level = "info", line_format: Format = "json", **options: Any) -> io.StringIO:
    out = io.StringIO()
    configure(level=level, line_format=line_format, stream=out, **options)
    return out


def events(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_json_has_one_object_a_line_with_time_level_and_keys() -> None:
    out = stream()
    _logger.info("job finished", job_id=JOB, rows=3, state=JobState.SUCCEEDED)
    _logger.warning("spool nearly full", directory=Path("/srv/spool"))
    first, second = events(out)
    assert datetime.fromisoformat(first.pop("timestamp")).tzinfo is not None
    assert first == {
        "event": "job finished",
        "level": "info",
        "job_id": str(JOB),
        "rows": 3,
        "state": "SUCCEEDED",
    }
    assert second["level"] == "warning"
    assert second["directory"] == "/srv/spool"


def test_console_lines_are_for_people_and_without_colours_in_a_file() -> None:
    out = stream(line_format="console")
    _logger.info("job finished", rows=3)
    assert "job finished" in out.getvalue()
    assert "rows=3" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_auto_means_console_on_a_terminal_and_json_elsewhere() -> None:
    terminal = Terminal()
    configure(level="info", line_format="auto", stream=terminal)
    _logger.info("job finished")
    assert not terminal.getvalue().startswith("{")
    out = stream(line_format="auto")
    _logger.info("job finished")
    assert events(out)[0]["event"] == "job finished"


@pytest.mark.parametrize(
    ("level", "logged"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_what_is_below_the_level_is_not_logged(level: Level, logged: list[str]) -> None:
    out = stream(level)
    for name in ("debug", "info", "warning", "error"):
        getattr(_logger, name)("something happened")
        getattr(logging.getLogger("some.library"), name)("something happened")
    assert [event["level"] for event in events(out)] == [name for name in logged for _ in range(2)]


def test_a_logger_made_before_the_configuration_follows_it() -> None:
    early = structlog.get_logger(source="early")
    out = stream()
    early.info("job finished")
    assert events(out)[0]["source"] == "early"


def test_events_of_libraries_have_the_same_form_and_keys() -> None:
    out = stream()
    with bound_contextvars(job_id=JOB):
        logging.getLogger("some.library").warning("lost %s of %d", "one", 2)
    [event] = events(out)
    assert event["event"] == "lost one of 2"
    assert event["logger"] == "some.library"
    assert event["job_id"] == str(JOB)


def test_chatty_libraries_are_logged_from_a_warning_on() -> None:
    out = stream("debug")
    logging.getLogger("asyncio").debug("using selector")
    logging.getLogger("asyncio").warning("took long")
    assert [event["event"] for event in events(out)] == ["took long"]


def test_a_python_warning_is_a_line_too() -> None:
    out = stream()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("that is old", UserWarning, stacklevel=1)
    assert "that is old" in events(out)[0]["event"]


def test_what_is_bound_stands_in_every_event_inside_and_in_none_after() -> None:
    out = stream()
    with bound_contextvars(job_id=JOB, attempt=1):
        with bound_contextvars(entity="ACCOUNTS", part=2):
            _logger.info("part finished")
        _logger.info("entity finished")
    _logger.info("idle")
    inner, outer, after = events(out)
    assert (inner["job_id"], inner["attempt"], inner["entity"], inner["part"]) == (str(JOB), 1, "ACCOUNTS", 2)
    assert "entity" not in outer
    assert outer["attempt"] == 1
    assert "job_id" not in after


async def test_tasks_do_not_see_what_their_siblings_bind() -> None:
    out = stream()

    async def work(entity: str) -> None:
        with bound_contextvars(entity=entity):
            _logger.info("part finished", name=entity)

    with bound_contextvars(job_id=JOB):
        async with create_task_group() as tasks:
            tasks.start_soon(work, "ACCOUNTS")
            tasks.start_soon(work, "BILLS")
    assert {(event["name"], event["entity"], event["job_id"]) for event in events(out)} == {
        ("ACCOUNTS", "ACCOUNTS", str(JOB)),
        ("BILLS", "BILLS", str(JOB)),
    }


@pytest.mark.parametrize("line_format", ["json", "console"])
def test_no_secret_is_written_wherever_it_hides(line_format: Format) -> None:
    out = stream(line_format=line_format, secrets=[PASSWORD])
    _logger.info(f"connecting to {DSN}")
    _logger.info("connecting", dsn=DSN, password=PASSWORD, options={"inner": [DSN], "secret": PASSWORD, PASSWORD: 1})
    _logger.info("connecting", note=f"it is {PASSWORD}", error=ValueError(DSN), where=(DSN, {PASSWORD}))
    with bound_contextvars(destination=DSN):
        _logger.info("bound")
    try:
        fail(RuntimeError(f"cannot reach {DSN}"))
    except RuntimeError:
        _logger.exception("connection lost")
        logging.getLogger("some.library").exception("failed with %s", DSN)
    logging.getLogger("some.library").warning("password=%s", PASSWORD)
    assert PASSWORD not in out.getvalue()
    assert out.getvalue().count("***") >= 10
    assert "cannot reach postgresql://exportd:***@db/product" in out.getvalue()


def test_the_password_of_a_dsn_is_masked_without_being_given() -> None:
    out = stream()
    _logger.info("connecting", dsn=DSN)
    assert events(out)[0]["dsn"] == "postgresql://exportd:***@db/product"


def test_an_exception_has_its_traceback() -> None:
    out = stream()
    try:
        fail(ValueError("it broke"))
    except ValueError:
        _logger.exception("job failed")
    assert "Traceback" in events(out)[0]["exception"]
    assert "ValueError: it broke" in events(out)[0]["exception"]


def test_values_become_what_json_knows() -> None:
    out = stream()
    _logger.info(
        "odd values",
        at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        ids={JOB},
        nan=float("nan"),
        raw=b"123",
        name="caf\udce9",
        nested={1: (None, True)},
        odd=object,
        newline="a\nb",
    )
    [event] = events(out)
    assert event["at"] == "2026-01-02T03:04:05+00:00"
    assert event["ids"] == [str(JOB)]
    assert event["nan"] == "nan"
    assert event["raw"] == "3 bytes"
    assert event["name"] == "caf\\udce9"
    assert event["nested"] == {"1": [None, True]}
    assert event["odd"] == "<class 'object'>"
    assert event["newline"] == "a\nb"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.uuids() | st.datetimes(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), anything, max_size=4), st.text(min_size=4))
def test_every_event_can_be_written_and_no_given_secret_survives(event: dict[str, Any], secret: str) -> None:
    masked = SecretMask([secret])(None, "info", plain_values(None, "info", {**event, "note": f"x{secret}x"}))
    assert json.loads(json.dumps(masked, allow_nan=False)) == masked
    assert secret not in masked["note"].replace("***", "")


@pytest.mark.parametrize("line_format", ["json", "console"])
def test_what_others_wrote_forges_no_line_and_moves_nothing(line_format: Format) -> None:
    hostile = "a\n2026-01-01T00:00:00Z [info     ] job finished\x1b[2J\x9b\u202e\u2028\r"
    out = stream(line_format=line_format)
    _logger.info("job failed", error=hostile, names=[hostile], by={hostile: hostile})
    logging.getLogger("library").warning(hostile)
    lines = out.getvalue().removesuffix("\n").split("\n")
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
