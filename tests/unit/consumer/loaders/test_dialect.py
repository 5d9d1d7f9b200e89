"""What a database cannot read from is refused with a way out."""

import pytest

from exportd.consumer.loaders.dialect import reader_of
from exportd.model.errors import PermanentError
from exportd.settings.destination_schema import Scheme
from exportd.stores.location import Location

READERS = {Scheme.S3: "s3"}


def test_a_reader_is_found_by_the_kind_of_location() -> None:
    assert reader_of(READERS, Location(Scheme.S3, "lake"), "ClickHouse") == "s3"


def test_a_location_without_a_reader_is_refused_with_a_way_out() -> None:
    with pytest.raises(PermanentError, match="ClickHouse cannot read from gs:// by itself: copy the objects"):
        reader_of(READERS, Location(Scheme.GCS, "sea"), "ClickHouse")
