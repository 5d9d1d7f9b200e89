"""The daemon's log: structlog events as lines for people or JSON for programs, never with a secret.

Events are short fixed phrases (``job finished``); everything that varies is a key. What a piece of work is about is
bound once with ``bound(...)``. Then it stands in every event of that task and its children, also in those that
libraries send through the standard ``logging`` module.
"""

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, TextIO, get_args
from uuid import UUID

import stamina
import structlog
from stamina.instrumentation import RetryDetails
from structlog.typing import Processor

from exportd.telemetry.values import SecretMask, one_line_values, plain_values

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "console", "json"]

_CHATTY_LIBRARIES = ("asyncio", "asyncpg", "botocore", "aiobotocore", "aiohttp", "google", "gcloud", "urllib3")
"""Their messages below a warning are of no use to an operator, and some of them hold credentials."""

_SILENCED = ("asyncpg.pool", "botocore.credentials", "aiobotocore.credentials")
"""They log a traceback at each retry when a database or a role is away, which our own events report."""


def configure(*, level: Level, line_format: Format, stream: TextIO | None = None, secrets: Iterable[str] = ()) -> None:
    """Sets up logging for the whole process, structlog's and the standard library's alike.

    ``stream`` is standard error by default; ``auto`` means ``console`` when it is a terminal. ``secrets``, such as the
    database's password, are masked wherever they occur.
    """
    out = sys.stderr if stream is None else stream
    threshold = logging.getLevelNamesMapping()[level.upper()]
    for_people = line_format == "console" or (line_format == "auto" and out.isatty())
    enrich: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: list[Processor] = [
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        plain_values,
        SecretMask(secrets),
        *(
            (one_line_values, _line_for_people(colors=out.isatty()))
            if for_people
            else (structlog.processors.JSONRenderer(ensure_ascii=False),)
        ),
    ]
    structlog.configure(
        processors=[*enrich, *render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*enrich, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    _set_thresholds(threshold)


def level() -> Level:
    """The least important level that is logged now."""
    name = logging.getLevelName(logging.getLogger().level).lower()
    return next((known for known in get_args(Level) if known == name), "info")


def set_level(wanted: Level) -> None:
    """Log from another level on, our events and the libraries' alike."""
    threshold = logging.getLevelNamesMapping()[wanted.upper()]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(threshold))
    _set_thresholds(threshold)


def _set_thresholds(threshold: int) -> None:
    logging.getLogger().setLevel(threshold)
    for library in _CHATTY_LIBRARIES:
        logging.getLogger(library).setLevel(max(threshold, logging.WARNING))
    _silence()
    # Not the hooks that stamina finds by itself: one of them keeps its figures in a global registry.
    stamina.instrumentation.set_on_retry_hooks([_log_retry])


def leave_it_to_the_command() -> None:
    """Log only warnings, to standard error, and neither retries nor what libraries report.

    A command prints its own sentences, and standard output is for its answer alone.
    """
    _silence()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    stamina.instrumentation.set_on_retry_hooks(())


def _silence() -> None:
    for library in _SILENCED:
        logging.getLogger(library).setLevel(logging.CRITICAL)


@contextmanager
def bound(
    *,
    organization: str | None = None,
    schedule: str | None = None,
    job_id: UUID | None = None,
    attempt: int | None = None,
    entity: str | None = None,
    part: int | None = None,
    destination: str | None = None,
) -> Iterator[None]:
    """Puts what the work is about into every event inside the block. These are the names that dashboards use."""
    given = {
        "organization": organization,
        "schedule": schedule,
        "job_id": job_id,
        "attempt": attempt,
        "entity": entity,
        "part": part,
        "destination": destination,
    }
    with structlog.contextvars.bound_contextvars(**{key: value for key, value in given.items() if value is not None}):
        yield


def _log_retry(details: RetryDetails) -> None:
    structlog.get_logger().debug("trying again", error=str(details.caused_by), after_s=round(details.wait_for, 2))


def _line_for_people(*, colors: bool) -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=colors, exception_formatter=structlog.dev.plain_traceback, sort_keys=False
    )
