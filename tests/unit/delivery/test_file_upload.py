"""The pieces of a file tile it, and the last one is never empty."""

from hypothesis import given
from hypothesis import strategies as st

from exportd.delivery.file_upload import ByteRange, is_too_many, piece_range, tail_range
from exportd.stores.store import StoreLimits


@given(st.integers(1, 10_000), st.integers(1, 500))
def test_pieces_and_tail_tile_the_file(size_bytes: int, piece_bytes: int) -> None:
    limits = StoreLimits(piece_bytes=piece_bytes)
    ranges: list[ByteRange] = []
    # As an upload does it: a piece goes up once the file is known to be longer than the piece's end.
    while size_bytes > piece_range(len(ranges) + 1, limits).end:
        ranges.append(piece_range(len(ranges) + 1, limits))
    tail = tail_range(size_bytes, limits)
    assert 1 <= tail.length <= piece_bytes
    assert [range_.length for range_ in ranges] == [piece_bytes] * len(ranges)
    assert [range_.offset for range_ in [*ranges, tail]] == [0, *(range_.end for range_ in ranges)]
    assert tail.end == size_bytes


def test_an_empty_file_has_an_empty_tail() -> None:
    assert tail_range(0, StoreLimits(piece_bytes=10)) == ByteRange(0, 0)


@given(st.integers(1, 50), st.integers(1, 50))
def test_the_largest_object_is_made_of_the_most_pieces(piece_bytes: int, max_pieces: int) -> None:
    limits = StoreLimits(piece_bytes=piece_bytes, max_pieces=max_pieces)
    number = 1
    while limits.max_object_bytes > piece_range(number, limits).end:
        assert not is_too_many(number, limits)
        number += 1
    assert is_too_many(number, limits)
