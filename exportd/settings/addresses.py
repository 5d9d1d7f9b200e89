"""Addresses of the control API. Pure."""

import ipaddress
import re
from urllib.parse import urlsplit

_HOST_AND_PORT = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9.-]+)):(?P<port>[0-9]{1,5})")


def check_listen(text: str) -> str:
    """``host:port`` or empty; ValueError otherwise."""
    if text:
        split_listen(text)
    return text


def split_listen(text: str) -> tuple[str, int]:
    """Host and port of ``127.0.0.1:8443`` or ``[::1]:8443``. Raises ValueError with a sentence."""
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise ValueError('should be an address and a port, such as "127.0.0.1:8443"')
    return match["v6"] or match["host"], int(match["port"])


def is_loopback(text: str) -> bool:
    """Whether only this machine can reach a ``host:port``."""
    host, _ = split_listen(text)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_public_url(text: str) -> str:
    """A URL without query or fragment, without a slash at its end; or empty. ValueError otherwise."""
    if not text:
        return text
    try:
        parts = urlsplit(text)
        known = parts.scheme in {"http", "https"} and parts.hostname and not parts.query and not parts.fragment
    except ValueError:
        known = False
    if not known or not text.isprintable() or " " in text:
        raise ValueError('should be a URL such as "https://exports.example.com"')
    return text.rstrip("/")
