"""Text that others wrote: names, codes, messages of databases and stores. Pure.

It may hold what a terminal or a log takes for a command: escapes, line breaks, characters that turn the direction of
what follows. Here is what may be accepted, and how the rest is shown. Each medium has one function: ``shown`` for a
terminal, ``logged`` for the log, ``url_segment`` for URLs. HTML is escaped by its templates, SQL by its quoting.
"""

from urllib.parse import quote


def shown(text: str, *, encoding: str | None = None, keep: str = "") -> str:
    r"""The text on one line of a terminal: what cannot be printed is escaped as in Python (``\x1b``, ``\u202e``).

    So is what ``encoding`` does not have. The characters in ``keep`` stay.
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
