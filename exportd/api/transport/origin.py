"""Which requests a web page may cause. Pure: headers in, a refusal or None out.

A browser sends what a page tells it to send, with the rights of the person in front of it. That holds for the Unix
socket too, once a person forwards it to a port. So on every listener:

- The Host header has to name this server. A page that was sent here by a foreign name (DNS rebinding) is refused.
- A request that changes something has to come from this server's own pages, or from a program that is no browser.
- A page of another site may link to this server and nothing else: it cannot embed or fetch an answer.

Source: the Fetch Metadata Request Headers and the Origin header (RFC 6454) as browsers send them.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from exportd.api.problems import Refusal

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::(?P<port>[0-9]{1,5}))?")
"""A host with or without a port, and nothing else: no user, no path."""

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Authority:
    """A host in lower case, without brackets, and its port; None is the scheme's own."""

    host: str
    port: int | None

    @classmethod
    def of(cls, text: str) -> "Authority | None":
        """Read a Host header, or what follows ``//`` in an origin; None when it is neither."""
        match = _AUTHORITY.fullmatch(text)
        if match is None:
            return None
        port = match["port"]
        return cls(match["host"].strip("[]").lower(), int(port) if port else None)


def refuse_page(method: str, headers: Sequence[tuple[bytes, bytes]], *, hosts: Collection[str]) -> Refusal | None:
    """What speaks against a request, as far as its headers tell.

    ``headers`` have names in lower case, as ASGI has them. ``hosts`` are this server's names, in lower case and without
    ports.
    """
    named = [value.decode("latin-1") for name, value in headers if name == b"host"]
    host = Authority.of(named[0]) if len(named) == 1 else None
    if host is None or host.host not in hosts:
        return Refusal(400, "The Host header does not name this server: control.hosts lists the names it goes by.")
    site = _last(headers, b"sec-fetch-site")
    if site is None:
        # No browser, or an old one, which names the page's origin where it matters.
        origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
        allowed = all(_is_here(origin, host) for origin in origins)
    else:
        is_link = method in SAFE_METHODS and _last(headers, b"sec-fetch-mode") == "navigate"
        allowed = site in {"same-origin", "none"} or is_link
    return None if allowed else Refusal(403, "A page of another site may not call this server.")


def _last(headers: Sequence[tuple[bytes, bytes]], wanted: bytes) -> str | None:
    values = [value.decode("latin-1") for name, value in headers if name == wanted]
    return values[-1] if values else None


def _is_here(origin: str, host: Authority) -> bool:
    """Whether an origin is the very place that the request went to, port included."""
    origin_scheme, _, rest = origin.partition("://")
    found = Authority.of(rest)
    if found is None or origin_scheme not in _DEFAULT_PORTS:
        return False  # "null" is the origin of a sandboxed page
    # A proxy in front may speak TLS where this server does not: a Host without a port has the origin's default port.
    default = _DEFAULT_PORTS[origin_scheme]
    return (found.host, found.port or default) == (host.host, host.port or default)
