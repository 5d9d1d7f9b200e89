import zlib

import google_crc32c
from hypothesis import given
from hypothesis import strategies as st

from exportd.stores.crc_combination import Polynomial, combine

PIECES = st.lists(st.binary(max_size=2000), max_size=6)


@given(PIECES)
def test_the_crc_of_pieces_is_that_of_the_whole(pieces: list[bytes]) -> None:
    parts = [(zlib.crc32(piece), len(piece)) for piece in pieces]
    assert combine(parts, Polynomial.CRC32) == zlib.crc32(b"".join(pieces))


@given(PIECES)
def test_castagnolis_too(pieces: list[bytes]) -> None:
    parts = [(google_crc32c.value(piece), len(piece)) for piece in pieces]
    assert combine(parts, Polynomial.CRC32C) == google_crc32c.value(b"".join(pieces))


def test_the_order_matters() -> None:
    parts = [(zlib.crc32(piece), len(piece)) for piece in (b"one", b"another")]
    assert combine(parts, Polynomial.CRC32) != combine(parts[::-1], Polynomial.CRC32)


def test_a_long_piece_takes_no_longer_than_a_short_one() -> None:
    """Its length is an exponent: a piece of 5 TB is combined like one of 5 bytes."""
    assert combine([(1, 1), (0, 5 * 10**12)], Polynomial.CRC32) != combine([(1, 1), (0, 5)], Polynomial.CRC32)
