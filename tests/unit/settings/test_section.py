import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.settings.section import format_size, parse_size


@pytest.mark.parametrize(
    ("written", "size_bytes"),
    [
        (1, 1),
        ("1", 1),
        ("6 GB", 6_000_000_000),
        ("512 MiB", 536_870_912),
        ("512MiB", 536_870_912),
        (" 1.5 gb ", 1_500_000_000),
        ("0.5 KiB", 512),
        ("10 kB", 10_000),
        ("7 B", 7),
        ("2 TiB", 2_199_023_255_552),
    ],
)
def test_decimal_and_binary_units_are_exact(written: object, size_bytes: int) -> None:
    assert parse_size(written) == size_bytes


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        (0, "more than zero"),
        (-1, "more than zero"),
        ("0 GB", "more than zero"),
        ("-6 GB", "more than zero"),
        ("6 GBB", "unknown unit GBB: use one of B, KB, MB"),
        ("6 Gb/s", "should be a size"),
        ("GB", "should be a size"),
        ("", "should be a size"),
        ("six GB", "should be a size"),
        ("1e9", "should be a size"),
        ("0.3 B", "whole number of bytes"),
        ("1.0001 KB", "whole number of bytes"),
        ("1.000000000000000000000000000001 KB", "whole number of bytes"),
        ("6,5 GB", "should be a size"),
        (1.5, "should be a size"),
        (True, "should be a size"),
        (None, "should be a size"),
        ([1], "should be a size"),
    ],
)
def test_everything_else_gets_a_sentence(written: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_size(written)


@given(st.integers(1, 2**62))
def test_a_size_that_was_formatted_reads_back_as_itself(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == size_bytes


@given(st.text())
def test_no_text_ends_in_anything_but_a_positive_size_or_a_value_error(text: str) -> None:
    try:
        assert parse_size(text) > 0
    except ValueError as error:
        assert str(error)
