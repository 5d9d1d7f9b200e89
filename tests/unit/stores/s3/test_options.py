"""Ten thousand pieces are enough for every file, and a role's session has a name that AWS takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.stores.s3.options import (
    MAX_PIECES,
    MIN_PIECE_BYTES,
    S3Access,
    S3Options,
    decoded,
    encoded,
    piece_bytes_for,
)

MIB = 1 << 20


@pytest.mark.parametrize(
    ("largest_file_bytes", "piece_bytes"),
    [
        (1, 8 * MIB),
        (6 * 1000**3, 8 * MIB),
        (8 * MIB * MAX_PIECES, 8 * MIB),
        (8 * MIB * MAX_PIECES + 1, 9 * MIB),
        (5 * 1024**4, 525 * MIB),
    ],
)
def test_pieces_grow_with_the_largest_file(largest_file_bytes: int, piece_bytes: int) -> None:
    assert piece_bytes_for(largest_file_bytes) == piece_bytes


@given(st.integers(min_value=1, max_value=5 * 1024**4))
def test_ten_thousand_are_always_enough(largest_file_bytes: int) -> None:
    piece_bytes = piece_bytes_for(largest_file_bytes)
    assert piece_bytes * MAX_PIECES >= largest_file_bytes
    assert MIN_PIECE_BYTES <= piece_bytes <= 5 * 1024**3


@given(st.text(max_size=200))
def test_a_session_has_a_name_that_sts_takes(external_id: str) -> None:
    name = S3Access(role_arn="arn:aws:iam::1:role/x", external_id=external_id).role_session_name
    assert 2 <= len(name) <= 64
    assert all(character.isascii() and (character.isalnum() or character in "+=,.@-") for character in name)


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        (S3Options(), {}),
        (S3Options(encryption="AES256"), {"ServerSideEncryption": "AES256"}),
        (S3Options(encryption="KMS"), {"ServerSideEncryption": "aws:kms"}),
        (
            S3Options(encryption="KMS", kms_key="arn:aws:kms:eu-west-1:1:key/2"),
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "arn:aws:kms:eu-west-1:1:key/2"},
        ),
    ],
)
def test_encryption_is_asked_for_as_configured(options: S3Options, arguments: dict[str, str]) -> None:
    assert options.of_encryption() == arguments


@given(st.integers(min_value=0, max_value=2**32 - 1))
def test_a_checksum_is_read_as_it_was_written(checksum: int) -> None:
    assert decoded(encoded(checksum)) == checksum


@pytest.mark.parametrize("listed", [None, "", "none", "no base64!", "AAAA", "AAAAAAA=", "ÄÄÄÄÄÄ=="])
def test_what_is_no_checksum_counts_as_none(listed: str | None) -> None:
    assert decoded(listed) is None
