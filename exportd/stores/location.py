"""The location of delivered objects, as a person writes it on a command line. Pure.

/srv/exports, exports/lake    a directory
file:///srv/exports           the same
s3://bucket/prefix            a bucket of S3 or of a store that speaks like it
gs://bucket/prefix            a bucket of Google Cloud Storage
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from exportd.model.errors import SettingsError
from exportd.settings.destination_schema import DestinationSettings, Scheme
from exportd.stores.layout import check_key


@dataclass(frozen=True, slots=True)
class Location:
    """A place with delivered objects. ``root`` is a directory's path or a bucket's name. ``prefix`` is the beginning of
    the keys, without a slash at either end; empty for all keys.
    """

    scheme: Scheme
    root: str
    prefix: str = ""

    @property
    def path(self) -> Path:
        """The path of a directory."""
        return Path(self.root)

    def __str__(self) -> str:
        root = self.root if self.scheme is Scheme.DIRECTORY else f"{self.scheme}://{self.root}"
        return f"{root}/{self.prefix}" if self.prefix else root


def location_of(declared: DestinationSettings) -> Location:
    """The location of a destination's objects."""
    return Location(declared.scheme, declared.root, declared.prefix.strip("/"))


def parse_location(text: str) -> Location:
    """Parse a location. Raises SettingsError when ``text`` is none."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        return _directory(text, text)
    try:
        kind = Scheme(scheme.lower())
    except ValueError:
        buckets = " or ".join(f"{known}://" for known in Scheme if known is not Scheme.DIRECTORY)
        raise _refused(text, f"{scheme}:// is unknown; it can be a directory, file://, {buckets}") from None
    if kind is Scheme.DIRECTORY:
        parts = urlsplit(text)
        if parts.netloc not in {"", "localhost"}:
            raise _refused(text, "a file URL has three slashes, as in file:///srv/exports")
        return _directory(text, unquote(parts.path))
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.strip("/")
    if not bucket:
        raise _refused(text, f"the bucket is missing, as in {kind}://bucket/prefix")
    if "@" in bucket or "?" in rest or "#" in rest:
        raise _refused(f"{kind}://…", "it holds a bucket and a prefix only; credentials come from the environment")
    if prefix:
        try:
            check_key(prefix)
        except ValueError as error:
            raise _refused(text, str(error)) from error
    return Location(kind, bucket, prefix)


def _directory(text: str, path: str) -> Location:
    if not path or "\0" in path:
        raise _refused(text, "the directory's path is empty" if not path else "a path cannot hold a NUL character")
    return Location(Scheme.DIRECTORY, path)


def _refused(text: str, why: str) -> SettingsError:
    return SettingsError.of(f"{text!r} is no place to read from: {why}.")
