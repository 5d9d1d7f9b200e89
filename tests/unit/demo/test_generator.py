from uuid import UUID

import pytest

from exportd.demo.generator import bind


def test_names_become_numbers_in_the_order_of_their_first_use() -> None:
    keys = [UUID(int=1)]
    text, values = bind(
        "SELECT :name, (:keys)[:n], :n", {"n": 3, "keys": keys, "name": "x", "unused": 4, "words": ["a"]}
    )
    assert text == "SELECT $1::text, ($2::uuid[])[$3::bigint], $3::bigint"
    assert values == ["x", keys, 3]


def test_casts_and_times_are_no_parameters() -> None:
    statement = "SELECT now()::timestamptz, timestamptz '2024-01-01 00:00:00+00', '{\"a\": 1}'::jsonb"
    assert bind(statement, {}) == (statement, [])


def test_a_parameter_without_a_value_is_an_error() -> None:
    with pytest.raises(KeyError, match="missing"):
        bind("SELECT :missing", {})
