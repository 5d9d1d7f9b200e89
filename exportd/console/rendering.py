"""Renders pages from templates: escaped, in one frame, with the headers that keep out other sites and old copies.

The files that pages load have addresses with their SHA-256, so a browser keeps each until it changes. Times, sizes,
counts and states are written in the same way on all pages.

The runbook is a page too, so that a failed job can link to the section that helps. Only links within the runbook are
kept, because other documents are not served.
"""

import gzip
import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

from exportd import __version__
from exportd.model.errors import FullReason, Reason

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


_MEDIA_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "txt": "text/plain"}
_HASH_DIGITS = 16

STATES = {
    "PENDING": ("○", "Waiting"),
    "RUNNING": ("◐", "Running"),
    "SUCCEEDED": ("✓", "Succeeded"),
    "FAILED": ("✕", "Failed"),
}
"""The sign and the word for each state of a job, so that no state is shown by colour alone."""

PHASES = {"EXTRACTING": "Reading", "SEALED": "Files complete", "PUBLISHING": "Delivering"}

CAPTURE = {
    "WHOLE": "✓ whole",
    "DAMAGED": "✕ not whole: triggers are missing or others",
    "NONE": "○ none yet: its first run installs it",
    None: "✕ its table is not there",
}
"""The sign and the word for each state of an entity's capture."""

WHY_FULL = {
    FullReason.FIRST_RUN: "It is the first run.",
    FullReason.ENTITY_ADDED: "The entity was added to the schedule.",
    FullReason.DESTINATION_ADDED: "A destination was added or moved.",
    FullReason.AD_HOC: "An ad hoc export has no run before it.",
    FullReason.CATALOG_CHANGED: "The catalog says something else about the entity.",
    FullReason.CLUSTER_CHANGED: "It is another database server.",
    FullReason.TIMELINE_CHANGED: "The database was restored, or another server took over.",
    FullReason.SNAPSHOT_WENT_BACK: "The database is older than at the run before.",
    FullReason.DATABASE_PUT_BACK: "The database was put back to an earlier state.",
    FullReason.CAPTURE_CHANGED: "The triggers that record changes were missing or have been replaced.",
    FullReason.PARTITIONS_CHANGED: "A partition came or went with its rows.",
    FullReason.COLUMNS_CHANGED: "The table's columns have changed.",
    FullReason.TABLE_UNLOGGED: "The table is unlogged: a crash empties it.",
    FullReason.CHANGES_UNKNOWN: "Some changes could not be recorded row by row.",
    FullReason.IMAGES_UNREADABLE: "Records of deleted rows cannot be read any more.",
    FullReason.HORIZON_PASSED: "The run before is too long ago: its changes have been removed from the log.",
    FullReason.REQUESTED: "A person asked for it.",
    FullReason.LOG_PRUNED: "The changes since then have been removed from the log.",
}


@dataclass(frozen=True, slots=True)
class Advice:
    """What a person can do about a reason. ``section`` is the anchor of the section of the runbook that says more."""

    sentence: str
    section: str | None = None


_BACK_BY_ITSELF = "Nothing, if the database comes back: such jobs are tried again. Retry does it at once."
_CORRECT_CATALOG = "Correct the catalog or put the table right, reload the configuration, and retry."
_INSTALL_CAPTURE = "Look at System, Capture: its page shows the SQL and installs it. Then retry."

WHAT_TO_DO = {
    Reason.DATABASE_UNREACHABLE: Advice(_BACK_BY_ITSELF),
    Reason.DATABASE_CONNECTION_LOST: Advice(_BACK_BY_ITSELF),
    Reason.DATABASE_READ_ONLY: Advice(_BACK_BY_ITSELF),
    Reason.DATABASE_REFUSED: Advice("Correct database.dsn, or what its file holds.", "the-database-refuses"),
    Reason.DATABASE_IS_STANDBY: Advice("Point database.dsn at the primary: it is a hot standby."),
    Reason.DATABASE_PUT_BACK: Advice("Run the schedule: the next run is complete.", "the-database-was-put-back"),
    Reason.PRIVILEGE_MISSING: Advice("Grant what the sentence names; `exportd role sql` prints it. Then retry."),
    Reason.LOCK_NOT_AVAILABLE: Advice(
        "End the session that hangs: the sentence names those that hold the lock. Then retry.",
        "jobs-wait-for-the-database",
    ),
    Reason.COPY_SILENT: Advice(
        "Look what holds the table up in the database, and retry.", "jobs-wait-for-the-database"
    ),
    Reason.KEY_NOT_UNIQUE: Advice("Find the rows by the statement in the sentence, and give them keys of their own."),
    Reason.TABLE_MISSING: Advice(_CORRECT_CATALOG, "an-entity-is-out-of-order"),
    Reason.CATALOG_MISMATCH: Advice(_CORRECT_CATALOG, "an-entity-is-out-of-order"),
    Reason.ENTITY_OUT_OF_ORDER: Advice(_CORRECT_CATALOG, "an-entity-is-out-of-order"),
    Reason.CAPTURE_MISSING: Advice(_INSTALL_CAPTURE),
    Reason.CAPTURE_DAMAGED: Advice(_INSTALL_CAPTURE),
    Reason.QUERY_FAILED: Advice("The sentence has the server's words: correct the catalog or the schedule."),
    Reason.NOTICE_DURING_COPY: Advice("An expression of the catalog raises notices: correct it. Otherwise report it."),
    Reason.ROWS_MISCOUNTED: Advice("A guard against lost rows stopped the export: report it."),
    Reason.READ_BY_ITSELF: Advice("Nothing: its next attempt begins at once, and this one does not count."),
    Reason.SPOOL_FULL: Advice("Give the disk more space, raise spool.budget, or shorten spool.retention_hours."),
    Reason.SPOOL_QUOTA: Advice("Shorten spool.retention_hours, or raise quotas.spool_share."),
    Reason.SPOOL_DAMAGED: Advice("Check the disk. The next run holds the changes."),
    Reason.SPOOL_UNWRITABLE: Advice("Let exportd write to the spool's directory; each daemon has one of its own."),
    Reason.DESTINATION_UNAVAILABLE: Advice(
        "Check the destination on its page. The next run delivers what is missing.", "a-destination-is-away"
    ),
    Reason.DESTINATION_REFUSED: Advice(
        "Check the destination on its page: it says what its owner has to grant. Then retry.", "a-destination-refuses"
    ),
    Reason.DESTINATION_MISSING: Advice("Create the destination, or take it out of the schedule."),
    Reason.LEASE_LOST: Advice("Nothing: the job goes on elsewhere."),
    Reason.INTERRUPTED: Advice("Look for the out-of-memory killer in the machine's log, and retry."),
    Reason.CANCELLED: Advice("Nothing: the next run holds the same changes."),
    Reason.BUG: Advice("Report it, with the traceback from the log."),
}
"""Short advice for reasons of failed jobs. docs/runbook.md has more."""

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that pages load; ``compressed`` is its content in gzip."""

    media_type: str
    content: bytes
    compressed: bytes

    def answer(self, accepted_encodings: str) -> Response:
        """The file as an answer, compressed for a client that accepts that."""
        is_compressed = "gzip" in accepted_encodings
        headers = HEADERS | {
            "cache-control": "public, max-age=31536000, immutable",
            "vary": "accept-encoding",
            **({"content-encoding": "gzip"} if is_compressed else {}),
        }
        return Response(self.compressed if is_compressed else self.content, 200, headers, self.media_type)


@dataclass(frozen=True, slots=True)
class Renderer:
    """The templates, and the assets of all pages by the last part of their addresses."""

    environment: Environment
    assets: Mapping[str, Asset]

    @classmethod
    def load(cls) -> "Renderer":
        """Read all files at the start, so that none is read while a page is rendered. Blocking."""
        room = files("exportd.console")
        templates = {item.name: item.read_text("utf-8") for item in (room / "templates").iterdir()}
        contents = {item.name: item.read_bytes() for item in _files_below(room / "static")}
        addresses = {name: _hashed(name, content) for name, content in contents.items()}
        environment = Environment(
            loader=DictLoader(templates),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals.update(
            version=__version__,
            STATES=STATES,
            PHASES=PHASES,
            CAPTURE=CAPTURE,
            runbook=Markup(load_runbook()),  # noqa: S704 -- its markup is ours, and what it quotes is escaped
            asset={name: f"/console/static/{address}" for name, address in addresses.items()},
            vendored=list(tomllib.loads((room / "static/vendor/vendored.toml").read_text("utf-8")).values()),
        )
        for filter_ in (instant, relative, duration, size, count, why_full, what_to_do):
            environment.filters[filter_.__name__] = filter_
        return cls(environment, {addresses[name]: _asset(name, content) for name, content in contents.items()})

    def page(self, template: str, values: Mapping[str, Any], *, status: int = 200) -> Response:
        """Render a page. ``values`` are the variables of its template."""
        return HTMLResponse(self.environment.get_template(template).render(values), status, HEADERS)


def _files_below(folder: Traversable) -> Iterator[Traversable]:
    """The files that are served."""
    for item in folder.iterdir():
        if item.is_dir():
            yield from _files_below(item)
        elif item.name.rpartition(".")[2] in _MEDIA_TYPES:
            yield item


def _hashed(name: str, content: bytes) -> str:
    stem, _, ending = name.rpartition(".")
    return f"{stem}.{hashlib.sha256(content).hexdigest()[:_HASH_DIGITS]}.{ending}"


def _asset(name: str, content: bytes) -> Asset:
    return Asset(_MEDIA_TYPES[name.rpartition(".")[2]], content, gzip.compress(content, mtime=0))


def instant(value: datetime | None) -> str:
    """A time in UTC, to the second."""
    return "" if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def relative(value: datetime, now: datetime) -> str:
    """How far a time is from ``now``, in the largest unit that fits."""
    seconds = (value - now).total_seconds()
    words = duration(abs(seconds))
    return "now" if words == "0 s" else f"in {words}" if seconds > 0 else f"{words} ago"


def duration(seconds: float) -> str:
    """The two largest units, such as ``2 h 5 min``."""
    left, parts = round(seconds), []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, left = divmod(left, length)
        if number:
            parts.append(f"{number} {unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"


def size(size_bytes: int) -> str:
    """Three digits and a unit of a thousand."""
    value, unit = float(size_bytes), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = f"{value:.0f}" if unit == 0 or value >= 99.95 else f"{value:.3g}"
    return f"{digits} {_UNITS[unit]}"


def count(number: int) -> str:
    """With a thin space between thousands."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def why_full(reason: str | None) -> str:
    """A sentence that says why an entity was exported completely; the code itself for an unknown reason."""
    if reason is None:
        return ""
    return WHY_FULL[FullReason(reason)] if reason in set(FullReason) else reason


def what_to_do(reason: str | None) -> Advice | None:
    """The advice for a job that failed; None for a reason of another version."""
    return WHAT_TO_DO.get(Reason(reason)) if reason in set(Reason) else None


def load_runbook() -> str:
    """The runbook in HTML. Blocking."""
    installed = files("exportd.console") / "runbook.md"
    in_checkout = Path(__file__).parents[2] / "docs" / "runbook.md"
    return render_runbook((installed if installed.is_file() else in_checkout).read_text("utf-8"))


def render_runbook(markdown: str) -> str:
    """HTML of a document in Markdown; what would be markup in it is escaped. Headings have the anchors of forges."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    # What is wider than the window is scrolled by itself, with the keyboard too.
    parser.add_render_rule("table_open", lambda *_: '<div class="wide" tabindex="0"><table>\n')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    parser.add_render_rule("fence", _code)
    tokens = parser.parse(markdown)
    for opening, heading in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", anchor_of(heading.content))
    for token in tokens:
        token.children = None if token.children is None else _within_the_page(token.children)
    html: str = parser.renderer.render(tokens, parser.options, {})
    return html


def anchor_of(heading: str) -> str:
    """The anchor that forges give to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _within_the_page(tokens: list[Token]) -> list[Token]:
    """Replace links to other documents by their text."""
    kept, is_kept = [], True
    for token in tokens:
        if token.type == "link_open":
            is_kept = str(token.attrGet("href")).startswith("#")
        if is_kept or token.type not in ("link_open", "link_close"):
            kept.append(token)
    return kept


def _code(_renderer: Any, tokens: list[Token], index: int, *_: Any) -> str:
    return f'<pre tabindex="0">{escape(tokens[index].content)}</pre>\n'
