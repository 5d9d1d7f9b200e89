import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.demo.json_records import cells

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def test_values_become_their_texts() -> None:
    line = '{"a":"x","b":12345678901234567890.10,"c":null,"d":true,"e":"","f":"NaN","g":-0}'
    assert cells(line, list("abcdefg")) == ["x", "12345678901234567890.10", None, "true", "", "NaN", "-0"]


def test_documents_become_the_text_of_equal_jsonb() -> None:
    line = '{"a": {"long":1,"b":[1.50,1e2,"1",null,false], "a":{}},"b":[]}'
    assert cells(line, ["a", "b"]) == ['{"a": {}, "b": [1.50, 100, "1", null, false], "long": 1}', "[]"]


@pytest.mark.parametrize(("written", "equal"), [("-0", "0"), ("-0.00", "0.00"), ("1.5E-3", "0.0015"), ("-0.5", "-0.5")])
def test_numbers_inside_of_documents_become_what_numeric_makes_of_them(written: str, equal: str) -> None:
    assert cells('{"a":[' + written + "]}", ["a"]) == [f"[{equal}]"]


@given(JSON)
def test_spelling_a_document_differently_makes_no_difference(value: object) -> None:
    tight = json.dumps({"a": [value]}, separators=(",", ":"), ensure_ascii=True)
    loose = json.dumps({"a": [value]}, indent=1, sort_keys=True, ensure_ascii=False)
    assert cells(tight, ["a"]) == cells(loose, ["a"])


@pytest.mark.parametrize("line", ['{"a":1}', '{"b":1,"a":2}', '{"a":1,"b":2,"c":3}', "[1,2]", "{", ""])
def test_other_names_or_another_order_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"expected names|delimiter|Expecting"):
        cells(line, ["a", "b"])
