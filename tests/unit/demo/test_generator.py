from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.demo.generator import SHARES, bind, counts, organization_ids


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


@given(organizations=st.integers(1, 9), extra=st.integers(0, 3_000_000))
def test_the_records_of_all_entities_are_as_many_as_asked_for(organizations: int, extra: int) -> None:
    rows = 20 * organizations + extra
    plan = counts(rows=rows, organizations=organizations)
    assert tuple(plan) == organization_ids(organizations)
    assert sum(sum(sizes.values()) for sizes in plan.values()) == rows
    for sizes in plan.values():
        assert list(sizes) == list(SHARES)
        assert min(sizes.values()) >= 1
        for code, share in SHARES.items():
            assert share.ceiling is None or sizes[code] <= share.ceiling


def test_line_items_are_the_most_then_bills_then_what_happens_to_balances() -> None:
    for count in counts(rows=1_000_000, organizations=3).values():
        assert sorted(count, key=count.__getitem__, reverse=True)[:4] == [
            "BILL_LINE_ITEMS",
            "BILLS",
            "BALANCE_TRANSACTIONS",
            "CHARGES",
        ]


def test_the_first_organization_is_the_largest() -> None:
    sizes = [sum(count.values()) for count in counts(rows=10_000, organizations=3).values()]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 2 * sizes[2]


@pytest.mark.parametrize(("rows", "organizations"), [(19, 1), (59, 3), (100, 0), (-1, 1)])
def test_too_few_rows_for_one_of_each_are_refused(rows: int, organizations: int) -> None:
    with pytest.raises(ValueError, match="rows or more"):
        counts(rows=rows, organizations=organizations)


def test_organizations_beyond_the_named_ones_get_numbers() -> None:
    assert organization_ids(8)[-2:] == ("org-7", "org-8")
    assert len(set(organization_ids(50))) == 50
