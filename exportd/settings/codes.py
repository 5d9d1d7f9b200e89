"""The names that people give to schedules, destinations and organizations."""

import re

LONGEST_CODE = 80
LONGEST_NAME = 200

# No white space or control character at either end; inside, a plain space is allowed as well.
_CODE = re.compile(r"[^\x00-\x20\x7f](?:[^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?")


def check_code(code: str) -> str:
    """A code as the API accepts it; ValueError otherwise."""
    if not code:
        raise ValueError("should not be empty")
    if len(code) > LONGEST_CODE:
        raise ValueError(f"should have at most {LONGEST_CODE} characters, but has {len(code)}")
    if not _CODE.fullmatch(code):
        raise ValueError("should have no control characters, and no spaces at its ends")
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
    if len(name) > LONGEST_NAME:
        raise ValueError(f"should have at most {LONGEST_NAME} characters, but has {len(name)}")
    if not name.isprintable():
        raise ValueError("should have no control characters")
    return name


def check_prefix(prefix: str) -> str:
    """The folder inside a destination: relative, with no empty, ``.`` or ``..`` segment; empty for the
    root.
    """
    if not prefix:
        return prefix
    trimmed = prefix.removesuffix("/")
    if not trimmed.isprintable() or "\\" in trimmed:
        raise ValueError("should have no backslash and no control characters")
    if any(segment in {"", ".", ".."} for segment in trimmed.split("/")):
        raise ValueError('should be a plain relative path such as "exports/daily", without empty, "." or ".." segments')
    return trimmed
