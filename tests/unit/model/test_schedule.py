"""A schedule's rule in the documents that hold one."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.model.schedule import (
    API_RULE,
    CONFIGURATION_RULE,
    Cron,
    Interval,
    Rule,
    RuleKeys,
    Unit,
    rule_document,
    rule_from,
)

rules = st.builds(Cron, st.text()) | st.builds(
    Interval, st.sampled_from(Unit), st.integers(), st.none() | st.integers()
)


@given(rules, st.sampled_from([CONFIGURATION_RULE, API_RULE]))
def test_a_rule_survives_its_json_form(rule: Rule, keys: RuleKeys) -> None:
    assert rule_from(json.loads(json.dumps(rule_document(rule, keys))), keys) == rule


def test_a_document_names_the_parts_by_its_keys() -> None:
    assert rule_document(Interval(Unit.DAY, 1, 2)) == {"unit": "DAY", "period": 1, "offset": 2}
    assert rule_document(Interval(Unit.HOUR, 6), API_RULE) == {"scheduleType": "HOUR", "period": 6}
    assert rule_document(Cron("0 2 * * *"), API_RULE) == {"cronExpression": "0 2 * * *"}


def test_null_means_the_same_as_leaving_out() -> None:
    assert rule_from({"unit": "HOUR", "period": 6, "offset": None, "cron": None}) == Interval(Unit.HOUR, 6)
    assert rule_from({"unit": None, "period": None, "cron": "0 2 * * *"}) == Cron("0 2 * * *")


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({}, "no rule says when it fires (unit and period missing): write unit ="),
        ({"unit": "HOUR", "offset": 1}, "no rule says when it fires (period missing)"),
        ({"cron": "0 2 * * *", "period": 1}, "give either cron or unit and period; remove cron or period"),
    ],
)
def test_there_is_exactly_one_way_to_tell(document: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as raised:
        rule_from(document)
    assert str(raised.value).startswith(sentence)


@pytest.mark.parametrize(
    "document",
    [
        {"cron": 5},
        {"unit": "WEEK", "period": 1},
        {"unit": ["DAY"], "period": 1},
        {"unit": "DAY", "period": True},
        {"unit": "DAY", "period": "1"},
        {"unit": "DAY", "period": 1, "offset": 1.5},
    ],
)
def test_a_part_of_the_wrong_type_is_a_type_error(document: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        rule_from(document)
