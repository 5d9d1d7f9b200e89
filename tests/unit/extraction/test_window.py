import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.extraction.window import EntityWindow, parse_snapshot, xmax, xmin
from exportd.model.entity import EntityCode
from exportd.model.extraction import Mode


@given(st.integers(0, 2**63), st.integers(0, 2**63), st.lists(st.integers(0, 2**63), max_size=5))
def test_a_snapshot_is_read_back_as_it_was_written(first: int, second: int, open_ones: list[int]) -> None:
    low, high = sorted((first, second))
    text = f"{low}:{high}:{','.join(map(str, open_ones))}"
    assert parse_snapshot(text) == text
    assert (xmin(parse_snapshot(text)), xmax(parse_snapshot(text))) == (low, high)


@pytest.mark.parametrize(
    "text",
    ["", "1:2", "1:2:3,", "1:2:,3", "2:1:", "1:2:3' OR 1", "1:2:\n", "-1:2:", "1 :2:", "١:٢:", "1:2:3:4", "a:b"],
)
def test_what_is_no_snapshot_never_gets_into_a_statement(text: str) -> None:
    with pytest.raises(ValueError, match="not a pg_snapshot"):
        parse_snapshot(text)


@given(st.text(alphabet="0123456789:,' x\n", max_size=12))
def test_only_digits_colons_and_commas_pass(text: str) -> None:
    try:
        parsed = parse_snapshot(text)
    except ValueError:
        return
    assert set(parsed) <= set("0123456789:,")


def test_only_an_incremental_window_without_changes_needs_no_query() -> None:
    code, previous = EntityCode("A"), parse_snapshot("1:2:")
    assert EntityWindow(code, Mode.FULL, None, None, changed=True).reads_table
    assert EntityWindow(code, Mode.INCREMENTAL, None, previous, changed=True).reads_table
    assert not EntityWindow(code, Mode.INCREMENTAL, None, previous, changed=False).reads_table
