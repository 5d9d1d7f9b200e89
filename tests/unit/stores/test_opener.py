"""Each kind of destination and of location is opened as a store, without touching it."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from exportd.model.errors import PermanentError, Reason, SettingsError
from exportd.settings.destination_schema import DestinationSettings, Scheme
from exportd.settings.schema import Settings
from exportd.stores.location import Location, location_of, parse_location
from exportd.stores.opener import StoreOpener, open_location

POOL = {"project_number": "1", "pool_id": "pool", "provider_id": "daemon"}
ADAPTER: TypeAdapter[Any] = TypeAdapter(DestinationSettings)


def settings(**sections: Any) -> Settings:
    return Settings.model_validate({"database": {"dsn": "postgresql://db/product"}, **sections})


def declared(**fields: Any) -> Any:
    return ADAPTER.validate_python({"code": "LAKE", "organization": "acme", **fields})


BUCKET = declared(type="S3", bucket="lake-bucket", prefix="m3/exports")
GOOGLE = declared(type="GCS", bucket="sea-bucket", **POOL)


async def test_the_store_of_a_destination_says_where_it_is(tmp_path: Path) -> None:
    opener = StoreOpener()
    stores = [
        opener.open(declared(directory=str(tmp_path)), settings()),
        opener.open(BUCKET, settings(s3={"endpoint": "https://minio.test:9000"})),
        opener.open(GOOGLE, settings(gcs={"token_url": "http://metadata.test/token"})),
    ]
    assert [store.name for store in stores] == [
        f"the directory {tmp_path}",
        "the bucket s3://lake-bucket at https://minio.test:9000",
        "the bucket gs://sea-bucket",
    ]
    for store in stores:
        await store.aclose()


async def test_pieces_grow_with_the_part_size() -> None:
    usual, large = (
        StoreOpener().open(BUCKET, settings(limits={"part_size": size})).limits.piece_bytes for size in ("1GB", "500GB")
    )
    assert (usual, large * 10_000 >= 500 * 10**9) == (8 << 20, True)


@pytest.mark.parametrize(
    ("destination", "says"),
    [(declared(type="GCS", bucket="sea-bucket"), "does not say who writes there"), (GOOGLE, "token comes from")],
)
def test_a_bucket_of_google_without_an_identity_is_refused(destination: Any, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        StoreOpener().open(destination, settings())


@pytest.mark.parametrize(
    ("destination", "location", "text"),
    [
        (declared(directory="/srv/exports"), Location(Scheme.DIRECTORY, "/srv/exports"), "/srv/exports"),
        (declared(directory="/srv", prefix="a"), Location(Scheme.DIRECTORY, "/srv", "a"), "/srv/a"),
        (BUCKET, Location(Scheme.S3, "lake-bucket", "m3/exports"), "s3://lake-bucket/m3/exports"),
        (GOOGLE, Location(Scheme.GCS, "sea-bucket"), "gs://sea-bucket"),
    ],
)
def test_a_destination_has_a_location(destination: Any, location: Location, text: str) -> None:
    assert location_of(destination) == location
    assert str(location) == text


async def test_a_location_is_opened_as_the_clouds_own_tools_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://minio.test:9000")
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://emulator.test:1")
    for place, name in (
        (str(tmp_path), f"the directory {tmp_path}"),
        ("s3://lake/a", "the bucket s3://lake at https://minio.test:9000"),
        ("gs://sea", "the bucket gs://sea"),
    ):
        store = open_location(parse_location(place))
        assert store.name == name
        await store.aclose()


def test_what_a_location_lacks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with pytest.raises(SettingsError, match="no credentials for gs://sea: name their file"):
        open_location(parse_location("gs://sea/a"))
    with pytest.raises(PermanentError, match="is no directory") as missing:
        open_location(parse_location(str(tmp_path / "missing")))
    assert missing.value.reason is Reason.NOT_FOUND
