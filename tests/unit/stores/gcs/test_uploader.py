import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.stores.gcs.uploader import QUANTUM_BYTES, committed_bytes, content_range, whole_pieces


def test_a_chunk_is_counted_by_its_last_byte() -> None:
    assert content_range(0, 10) == "bytes 0-9/*"
    assert content_range(10, 15, 15) == "bytes 10-14/15"


def test_what_is_all_in_is_completed_by_an_empty_chunk() -> None:
    assert content_range(15, 15, 15) == "bytes */15"


def test_without_a_range_nothing_is_in() -> None:
    assert committed_bytes(None) == 0


@given(st.integers(1, 1 << 42))
def test_only_whole_quanta_count(size_bytes: int) -> None:
    committed = committed_bytes(f"bytes=0-{size_bytes - 1}")
    assert committed % QUANTUM_BYTES == 0
    assert 0 <= size_bytes - committed < QUANTUM_BYTES


@pytest.mark.parametrize("header", ["", "bytes=1-5", "bytes 0-5", "bytes=0-", "bytes=0--1", "0-5", "bytes=0-5,7-9"])
def test_what_is_no_range_from_the_beginning_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match="no range"):
        committed_bytes(header)


@given(st.integers(0, 1 << 42), st.integers(1, 64).map(lambda count: count * QUANTUM_BYTES))
def test_a_piece_counts_when_its_last_byte_is_in(committed: int, piece_bytes: int) -> None:
    count = whole_pieces(committed, piece_bytes)
    assert count * piece_bytes <= committed < (count + 1) * piece_bytes


@given(st.integers(1, 20), st.lists(st.integers(0, 8 * QUANTUM_BYTES), max_size=30))
def test_sending_the_rest_brings_every_byte_in_once(quanta: int, kept: list[int]) -> None:
    """However little is kept of each chunk: what is sent next begins where what is in ends."""
    end = quanta * QUANTUM_BYTES
    in_it = 0
    for size_bytes in [*kept, end]:
        if in_it == end:
            break
        span = content_range(in_it, end).removeprefix("bytes ").removesuffix("/*")
        first, last = (int(part) for part in span.split("-"))
        assert first == in_it
        received = min(in_it + size_bytes, last + 1)
        in_it = committed_bytes(f"bytes=0-{received - 1}" if received else None)
    assert in_it == end
