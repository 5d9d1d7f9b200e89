"""Computes the CRC of a whole from the CRCs of its pieces. Pure.

Pieces of a file are uploaded in any order and checked one by one. The whole is checked by a CRC, for which the file is
not read again. A CRC is linear: appending n bytes multiplies the earlier polynomial by x^(8n), modulo the generator
polynomial. So the first CRC is multiplied by that power, found by squaring, and the second is added.
"""

from collections.abc import Iterable
from enum import IntEnum


class Polynomial(IntEnum):
    """The polynomials of 32 bits in their reflected form."""

    CRC32 = 0xEDB88320
    """zlib's, which S3 compares."""
    CRC32C = 0x82F63B78
    """Castagnoli's, which Google Cloud Storage compares."""


_ONE = 1 << 31
"""x^0: in the reflected form the highest bit is the lowest power."""


def combine(pieces: Iterable[tuple[int, int]], polynomial: Polynomial) -> int:
    """The CRC of pieces in their order, each given by its CRC and its length in bytes."""
    whole = 0
    for checksum, size_bytes in pieces:
        whole = _multiply(whole, _power_of_x(8 * size_bytes, polynomial), polynomial) ^ checksum
    return whole


def _power_of_x(exponent: int, polynomial: Polynomial) -> int:
    result, square = _ONE, _ONE >> 1
    while exponent:
        if exponent & 1:
            result = _multiply(result, square, polynomial)
        square = _multiply(square, square, polynomial)
        exponent >>= 1
    return result


def _multiply(one: int, other: int, polynomial: Polynomial) -> int:
    """The product of two polynomials, modulo ``polynomial``."""
    product = 0
    for bit in range(31, -1, -1):
        if one >> bit & 1:
            product ^= other
        other = other >> 1 ^ (polynomial if other & 1 else 0)
    return product
