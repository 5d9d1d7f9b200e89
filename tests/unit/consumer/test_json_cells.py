"""JSONL to CSV: every number's digits, every object's very text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.consumer.json_cells import csv_header, csv_record
from tests.fixtures.file_parsers import csv_rows

_SCALAR = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5))
_VALUE = st.recursive(
    _SCALAR,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
)


@given(st.dictionaries(st.text(max_size=4), _VALUE, min_size=1, max_size=4), st.booleans(), st.booleans())
def test_every_value_is_its_text(record: dict[str, object], spaces: bool, ascii_only: bool) -> None:
    separators = (" , ", " : ") if spaces else (",", ":")
    line = json.dumps(record, separators=separators, ensure_ascii=ascii_only)
    (cells,) = csv_rows(csv_record(line + "\n", list(record)).encode("utf-8", "surrogatepass"))
    for cell, value in zip(cells, record.values(), strict=True):
        if value is None or isinstance(value, str):
            assert cell == value
        else:
            assert cell == json.dumps(value, separators=separators, ensure_ascii=ascii_only)


def test_numbers_and_nesting_are_copied_as_they_are_written() -> None:
    deep = "[" * 50_000 + "]" * 50_000
    line = '{"a":1.50,"b":-0,"c":1e999,"d":' + "9" * 5000 + ',"e":{"x": [1.0, "}\\""]},"f":' + deep + "}"
    (cells,) = csv_rows(csv_record(line, list("abcdef")).encode())
    assert cells == ["1.50", "-0", "1e999", "9" * 5000, '{"x": [1.0, "}\\""]}', deep]
    assert csv_record('{"a":"x","b":"x","c":null}', list("abc"), {"b", "c"}) == '"x","""x""",\n'
    assert csv_header(["a", 'b"']) == '"a","b"""\n'


@pytest.mark.parametrize(
    "line",
    ["", "[]", "{", '{"a"', '{"a":', '{"a":1', '{"a":{', '{"a":1,"b":2', '{"b":1,"a":2}', '{"a":1}', '{"a":1,}', "{}"],
)
def test_what_is_no_such_record_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"the (line|record)"):
        csv_record(line, ["a", "b"])
