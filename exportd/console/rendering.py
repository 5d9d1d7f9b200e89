"""Makes pages of templates: escaped, in one frame, with the headers that keep other sites and old copies out.

What pages load lies beside them, under addresses that hold its SHA-256: a browser keeps it until it is another.
"""

import gzip
import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from starlette.responses import HTMLResponse, Response

from exportd import __version__
from exportd.console import wording

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


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that pages load; ``compressed`` is its content in gzip."""

    media_type: str
    content: bytes
    compressed: bytes

    def answer(self, accepted_encodings: str) -> Response:
        """The file, compressed for a client that accepts that."""
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
        """Read everything at once: nothing reads a file while pages are made. It reads files: not in an event loop."""
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
            STATES=wording.STATES,
            PHASES=wording.PHASES,
            CAPTURE=wording.CAPTURE,
            asset={name: f"/console/static/{address}" for name, address in addresses.items()},
            vendored=list(tomllib.loads((room / "static/vendor/vendored.toml").read_text("utf-8")).values()),
        )
        for filter_ in (
            *(wording.instant, wording.relative, wording.duration, wording.size, wording.count, wording.why_full),
        ):
            environment.filters[filter_.__name__] = filter_
        return cls(environment, {addresses[name]: _asset(name, content) for name, content in contents.items()})

    def page(self, template: str, values: Mapping[str, Any], *, status: int = 200) -> Response:
        """A page; ``values`` are what its template names."""
        return HTMLResponse(self.environment.get_template(template).render(values), status, HEADERS)


def _files_below(folder: Traversable) -> Iterator[Traversable]:
    """Those that are served."""
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
