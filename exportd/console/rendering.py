"""Makes pages of templates: escaped, in one frame, with the headers that keep other sites and old copies out."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from starlette.responses import HTMLResponse, Response

from exportd import __version__
from exportd.console import wording

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Renderer:
    """The templates, and the style sheet of all pages."""

    environment: Environment
    style: bytes

    @classmethod
    def load(cls) -> "Renderer":
        """Read everything at once: nothing reads a file while pages are made. It reads files: not in an event loop."""
        room = files("exportd.console")
        templates = {item.name: item.read_text("utf-8") for item in (room / "templates").iterdir()}
        environment = Environment(
            loader=DictLoader(templates),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals.update(version=__version__, STATES=wording.STATES, PHASES=wording.PHASES)
        for filter_ in (
            *(wording.instant, wording.relative, wording.duration, wording.size, wording.count, wording.why_full),
        ):
            environment.filters[filter_.__name__] = filter_
        return cls(environment, (room / "static" / "console.css").read_bytes())

    def page(self, template: str, values: Mapping[str, Any], *, status: int = 200) -> Response:
        """A page; ``values`` are what its template names."""
        return HTMLResponse(self.environment.get_template(template).render(values), status, HEADERS)
