"""Takes passwords out of texts that a person will see: DSNs, messages, tracebacks."""

import re
from urllib.parse import parse_qsl, unquote, urlsplit

MASK = "***"

# scheme://user:password@ — up to the last @ of the word: a password with an @ or a / in it is masked whole.
_USER_INFO = re.compile(r"(?P<before>\b[a-z][a-z0-9+.-]*://[^\s:/@?#'\"]*:)(?P<secret>[^\s'\"]*)(?=@)", re.IGNORECASE)
_SENSITIVE_NAMES = (
    "password|passwd|pgpassword|sslpassword|passphrase|secret|secret_access_key|api_secret|api_key|authorization"
    "|(?:access|refresh|session|bearer)_?token"  # not every token: type_token is part of a file name
)
_ASSIGNMENT = re.compile(
    rf"(?P<before>(?<![a-z])(?:{_SENSITIVE_NAMES})\s*=\s*)"
    r"(?P<secret>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\s&'\",;)]+)",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"(?P<before>/downloads/|\bbearer\s+)(?P<secret>[\w-]{16,}\.[\w-]{16,})", re.IGNORECASE)
"""What the API hands out and takes: its holder can use it until it expires."""

_SECRET_NAME = re.compile(rf"(?:^|.*[_\-. ])(?:{_SENSITIVE_NAMES})", re.IGNORECASE)


def mask_secrets(text: str) -> str:
    """The text with every password in a URL, a query or a ``password=…``, and every token, replaced by ``***``."""
    if "://" in text:
        text = _USER_INFO.sub(rf"\g<before>{MASK}", text)
    if "." in text:
        text = _TOKEN.sub(rf"\g<before>{MASK}", text)
    return _ASSIGNMENT.sub(rf"\g<before>{MASK}", text) if "=" in text else text


def names_a_secret(key: str) -> bool:
    """Whether a key such as ``password`` or ``aws_secret_access_key`` holds nothing but a secret."""
    return _SECRET_NAME.fullmatch(key) is not None


def passwords_in(*dsns: str) -> frozenset[str]:
    """The passwords of DSNs, as written and decoded; empty when there are none or they cannot be read."""
    return frozenset(password for dsn in dsns for password in _passwords_in(dsn))


def _passwords_in(dsn: str) -> frozenset[str]:
    try:
        parts = urlsplit(dsn)
        written = [parts.password or ""]
        written += [value for key, value in parse_qsl(parts.query) if names_a_secret(key)]
    except ValueError:
        written = [match["secret"] for match in _USER_INFO.finditer(dsn)]
    return frozenset(form for password in written for form in (password, unquote(password)) if form)
