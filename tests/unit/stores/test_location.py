"""Places as they are written on a command line."""

import pytest

from exportd.model.errors import SettingsError
from exportd.settings.destination_schema import Scheme
from exportd.stores.location import Location, parse_location


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("/srv/exports", Location(Scheme.DIRECTORY, "/srv/exports")),
        ("exports/lake", Location(Scheme.DIRECTORY, "exports/lake")),
        ("file:///srv/a%20b", Location(Scheme.DIRECTORY, "/srv/a b")),
        ("file://localhost/srv", Location(Scheme.DIRECTORY, "/srv")),
        ("s3://bucket", Location(Scheme.S3, "bucket")),
        ("S3://bucket/", Location(Scheme.S3, "bucket")),
        ("s3://bucket/a/b/", Location(Scheme.S3, "bucket", "a/b")),
        ("gs://bucket/a", Location(Scheme.GCS, "bucket", "a")),
    ],
)
def test_a_place_is_understood(text: str, location: Location) -> None:
    assert parse_location(text) == location


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("ftp://host/x", "ftp:// is unknown"),
        ("file://host/x", "three slashes"),
        ("s3://", "bucket is missing"),
        ("gs:///x", "bucket is missing"),
        ("s3://bucket/a/../b", "must not be empty"),
        ("s3://bucket?x=1", "bucket and a prefix only"),
    ],
)
def test_another_is_refused_with_a_sentence(text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        parse_location(text)


def test_a_secret_in_a_url_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as refused:
        parse_location("s3://key:secret@bucket/x")
    assert "secret" not in str(refused.value)


def test_a_place_is_written_as_it_is_read() -> None:
    for text in ("s3://bucket/a/b", "gs://bucket", "/srv/exports"):
        assert str(parse_location(text)) == text
