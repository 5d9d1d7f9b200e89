"""Reads a TOML file; whatever is wrong with the file is a SettingsError that says what to do."""

from pathlib import Path

from exportd.model.errors import SettingsError
from exportd.settings.document import Document, parse


def read_document(path: Path) -> Document:
    """The parsed file; SettingsError when it cannot be read or is not TOML."""
    return parse(read_text(path), name=str(path))


def read_text(path: Path) -> str:
    """The text of a file; SettingsError when it is not there, not readable or not UTF-8."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise SettingsError.of("there is no such file; check the path", where=str(path)) from error
    except IsADirectoryError as error:
        raise SettingsError.of("is a directory; name the file in it", where=str(path)) from error
    except PermissionError as error:
        raise SettingsError.of("may not be read by this user; check owner and mode", where=str(path)) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise SettingsError.of(f"cannot be read: {error}", where=str(path)) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError.of(
            f"is not UTF-8 text (byte 0x{content[error.start]:02x}); save it as UTF-8", where=f"{path}:{line}"
        ) from error
