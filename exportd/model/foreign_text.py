"""What comes from outside: how much of it is taken, which of it is accepted, and how it is shown. Pure.

It comes in a request, in the configuration, in a row that was written long ago, or in a message of a database or a
store. Every text and every list that is not ours to write has one of the bounds here, so that no request, however it is
made, costs more than a few milliseconds. Lengths are in characters.

A text may hold what a terminal or a log takes for a command: escapes, line breaks, characters that turn the direction
of what follows. Each medium has one function: ``shown`` for a terminal, ``logged`` for the log, ``url_segment`` for
URLs. HTML is escaped by its templates, SQL by its quoting. It may also hold a password or a token: ``mask_secrets``
takes them out of what a person will see, such as DSNs, messages and tracebacks.
"""

import re
from urllib.parse import parse_qsl, quote, unquote, urlsplit

MAX_CODE_LENGTH = 80
"""Of codes and of organizations' ids."""

MAX_NAME_LENGTH = 200
"""Of names for people to read."""

MAX_CRON_LENGTH = 256
"""Of cron expressions. One that lists every minute of an hour has 169 characters in its first field."""

MAX_WORD_LENGTH = 200
"""Of ids of every kind: of ours, of a cloud's projects and pools, of roles' names."""

MAX_TEXT_LENGTH = 2048
"""Of everything else: URLs, keys, tokens, folders."""

MAX_PREFIX_LENGTH = 512
"""Of a folder inside a destination. A key has at most 1,024 bytes, and our own part of it takes some."""

MAX_INSTANT_LENGTH = 64
"""Of a date and time."""

MAX_PATH_LENGTH = 4096
"""Of the path of a file, as Linux bounds it."""

MAX_ENTITIES = 400
"""In one schedule, export or request."""

MAX_DESTINATIONS = 100
"""Of one schedule or export."""

MAX_IDS = 100
"""In the filter of a list."""

MAX_NAMES = 100
"""Of groups or hosts, in the configuration."""

MAX_DECLARED = 100_000
"""Destinations, and schedules, in the configuration."""

MAX_FIELDS = 64
"""Of a JSON object in a request."""

MAX_DOCUMENT_BYTES = 256_000
"""Of a JSON document in a request. The largest good one, with 400 entities of 80 characters, has 40 kB."""

MAX_COUNT = 2**31 - 1
"""Of versions."""

MAX_SIZE_BYTES = 2**63 - 1
"""Of sizes in the configuration."""

MAX_SENTENCES = 5
"""Faults that one answer names; it counts the others."""

MAX_SENTENCE_LENGTH = 600
"""Of the sentence about one fault."""

MAX_SHOWN_LENGTH = 80
"""Of what a sentence repeats of a request."""

CODE_PATTERN = r"[^\x00-\x20\x7f](?:[^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?"
"""Of codes: no white space or control character at either end; inside, a plain space is allowed as well."""

_CODE = re.compile(CODE_PATTERN)

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
"""Matches tokens of the API, which their holder can use until they expire."""

_SECRET_NAME = re.compile(rf"(?:^|.*[_\-. ])(?:{_SENSITIVE_NAMES})", re.IGNORECASE)


def shown(text: str, *, encoding: str | None = None, keep: str = "") -> str:
    r"""The text on one line of a terminal: what cannot be printed is escaped as in Python (``\x1b``, ``\u202e``).

    Characters that ``encoding`` lacks are escaped too. The characters in ``keep`` stay.
    """
    escaped = text if text.isprintable() else "".join(_escaped(character, keep) for character in text)
    if encoding is None or escaped.isascii():
        return escaped
    return escaped.encode(encoding, errors="backslashreplace").decode(encoding)


def logged(text: str) -> str:
    """The text as a value of a log event. Line breaks and tabs stay: tracebacks have them, and JSON escapes them."""
    return shown(text, keep="\n\t")


def shown_json(document: str, *, encoding: str | None = None) -> str:
    """The same JSON document without a character that a terminal would obey or that ``encoding`` lacks."""
    if document.isascii() and document.isprintable():
        return document
    return "".join(
        character if character == "\n" or _is_plain(character, encoding) else _json_escape(character)
        for character in document
    )


def url_segment(text: str) -> str:
    """The text as one segment of a URL's path."""
    return quote(text, safe="", errors="surrogatepass")


def check_printable(text: str) -> str:
    """The text; ValueError for one with a character that cannot be printed, or has no meaning or direction of its own.

    Such are control and format characters (bidirectional ones among them), lone surrogates, private-use characters, and
    spaces other than the plain one.
    """
    if not text.isprintable():
        raise ValueError("should have no control characters, and no others that cannot be printed")
    return text


def check_code(code: str) -> str:
    """A code as the API accepts it; ValueError otherwise."""
    if not code:
        raise ValueError("should not be empty")
    if len(code) > MAX_CODE_LENGTH:
        raise ValueError(f"should have at most {MAX_CODE_LENGTH} characters, but has {len(code)}")
    if not _CODE.fullmatch(code) or not code.isprintable():
        raise ValueError("should have no control characters or others without a sign, and no spaces at its ends")
    return code


def check_organization(organization: str) -> str:
    """An organization's id; it becomes a segment of object keys, so it has no slash."""
    check_code(organization)
    if "/" in organization or "\\" in organization:
        raise ValueError("should have no slash: it becomes one segment of the path of each file")
    return organization


def check_name(name: str) -> str:
    """A name for people to read; ValueError when empty, too long or not printable."""
    if not name.strip():
        raise ValueError("should not be empty; leave it out to use the code")
    if len(name) > MAX_NAME_LENGTH:
        raise ValueError(f"should have at most {MAX_NAME_LENGTH} characters, but has {len(name)}")
    return check_printable(name)


def check_prefix(prefix: str) -> str:
    """The folder inside a destination: relative, with no empty, ``.`` or ``..`` segment; empty for the root."""
    if not prefix:
        return prefix
    if len(prefix) > MAX_PREFIX_LENGTH:
        raise ValueError(f"should have at most {MAX_PREFIX_LENGTH} characters, but has {len(prefix)}")
    trimmed = prefix.removesuffix("/")
    if not trimmed.isprintable() or "\\" in trimmed:
        raise ValueError("should have no backslash and no control characters")
    if any(segment in {"", ".", ".."} for segment in trimmed.split("/")):
        raise ValueError('should be a plain relative path such as "exports/daily", without empty, "." or ".." segments')
    return trimmed


def mask_secrets(text: str) -> str:
    """The text with every password in a URL, a query or a ``password=…``, and every token, replaced by ``***``."""
    if "://" in text:
        text = _USER_INFO.sub(rf"\g<before>{MASK}", text)
    if "." in text:
        text = _TOKEN.sub(rf"\g<before>{MASK}", text)
    return _ASSIGNMENT.sub(rf"\g<before>{MASK}", text) if "=" in text else text


def names_a_secret(key: str) -> bool:
    """Whether a key such as ``password`` or ``aws_secret_access_key`` contains a secret."""
    return _SECRET_NAME.fullmatch(key) is not None


def passwords_in(*dsns: str) -> frozenset[str]:
    """The passwords of DSNs, as written and decoded; empty when there are none or they cannot be read."""
    return frozenset(password for dsn in dsns for password in _passwords_in(dsn))


def _escaped(character: str, keep: str) -> str:
    if character.isprintable() or character in keep:
        return character
    return character.encode("unicode_escape").decode("ascii")


def _is_plain(character: str, encoding: str | None) -> bool:
    if not character.isprintable():
        return False
    if encoding is None or character.isascii():
        return True
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", errors="surrogatepass")
    return "".join(f"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))


def _passwords_in(dsn: str) -> frozenset[str]:
    try:
        parts = urlsplit(dsn)
        written = [parts.password or ""]
        written += [value for key, value in parse_qsl(parts.query) if names_a_secret(key)]
    except ValueError:
        written = [match["secret"] for match in _USER_INFO.finditer(dsn)]
    return frozenset(form for password in written for form in (password, unquote(password)) if form)
