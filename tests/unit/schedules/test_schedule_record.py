"""What must change so that the schedules are those that are declared."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from exportd.model.entity import OrganizationId
from exportd.model.schedule import Cron, ExportFormat, Interval, Origin, Rule, Schedule, Unit
from exportd.schedules.reconciliation import compare
from exportd.schedules.schedule_record import rule_from_json, rule_to_json
from tests.unit.schedules.memory_table import declaration, schedule

NOON = datetime(2026, 1, 1, 12, 20, tzinfo=UTC)
HOURLY = Interval(Unit.HOUR, 1)
FIRED = schedule("nightly", HOURLY, next_due_at=NOON + timedelta(hours=1), last_due_at=NOON)


def test_what_is_declared_and_there_stays_as_it_is() -> None:
    plan = compare([FIRED.declaration], [FIRED])
    assert plan.unchanged == (FIRED,)
    assert (plan.new, plan.edits, plan.gone) == ((), (), ())


def test_what_the_api_made_is_none_of_the_configurations_business() -> None:
    made = replace(FIRED, origin=Origin.API)
    plan = compare([], [made])
    assert plan.unchanged == (made,)
    assert (plan.new, plan.edits, plan.gone) == ((), (), ())


def test_what_the_api_made_and_is_declared_now_belongs_to_the_configuration() -> None:
    made = replace(FIRED, origin=Origin.API)
    plan = compare([FIRED.declaration], [made])
    assert [(edit.schedule, edit.declaration) for edit in plan.edits] == [(made, FIRED.declaration)]
    assert (plan.new, plan.gone, plan.unchanged) == ((), (), ())


def test_a_schedule_is_known_by_organization_and_code() -> None:
    elsewhere = replace(FIRED.declaration, organization=OrganizationId("other"))
    plan = compare([elsewhere], [FIRED])
    assert (plan.new, plan.gone) == ((elsewhere,), (FIRED,))


def test_an_edit_of_anything_but_the_rule_leaves_the_due_time_alone() -> None:
    for edited in (
        replace(FIRED.declaration, name="Other"),
        replace(FIRED.declaration, file_format=ExportFormat.JSONL),
        declaration("nightly", HOURLY, entities=("PLANS",)),
    ):
        (edit,) = compare([edited], [FIRED]).edits
        assert edit.next_due_at == FIRED.next_due_at


def test_an_edit_of_the_rule_counts_from_the_last_due_time() -> None:
    (edit,) = compare([declaration("nightly", Interval(Unit.HOUR, 6))], [FIRED]).edits
    assert edit.next_due_at == NOON + timedelta(hours=6)


def test_an_edit_of_the_rule_can_make_a_schedule_due_at_once() -> None:
    daily = replace(FIRED, declaration=declaration("nightly", Interval(Unit.DAY, 1)))
    (edit,) = compare([declaration("nightly", Interval(Unit.MINUTE, 15))], [daily]).edits
    assert edit.next_due_at == NOON + timedelta(minutes=15)


def test_editing_back_and_forth_does_not_put_off_a_run() -> None:
    edited: Schedule = FIRED
    for rule in (Interval(Unit.DAY, 3), Cron("0 * * * *"), HOURLY) * 3:
        (edit,) = compare([declaration("nightly", rule)], [edited]).edits
        edited = replace(edited, declaration=edit.declaration, next_due_at=edit.next_due_at)
    assert edited == FIRED


def test_an_edit_before_the_first_run_leaves_it_immediate() -> None:
    new = schedule("nightly", HOURLY, next_due_at=NOON)
    (edit,) = compare([declaration("nightly", Interval(Unit.DAY, 3))], [new]).edits
    assert edit.next_due_at == NOON


def test_an_entity_keeps_its_position_only_when_it_was_and_is_in_the_schedule() -> None:
    before = replace(FIRED, declaration=declaration("nightly", HOURLY, entities=("ACCOUNTS", "PLANS", "BILLS")))
    (edit,) = compare([declaration("nightly", HOURLY, entities=("BILLS", "USERS", "PLANS"))], [before]).edits
    assert set(edit.keeping) == {"BILLS", "PLANS"}


@given(st.sets(st.sampled_from("abcdef")), st.sets(st.sampled_from("abcdef")), st.sets(st.sampled_from("abcdef")))
def test_every_declaration_and_every_schedule_has_exactly_one_fate(
    declared: set[str], present: set[str], edited: set[str]
) -> None:
    def rule_of(code: str) -> Rule:
        return Interval(Unit.DAY, 2) if code in edited else HOURLY

    plan = compare(
        [declaration(code, rule_of(code)) for code in declared],
        [schedule(code, HOURLY, next_due_at=NOON) for code in present],
    )
    assert {each.code for each in plan.new} == declared - present
    assert {each.declaration.code for each in plan.gone} == present - declared
    assert {edit.declaration.code for edit in plan.edits} == declared & present & edited
    assert {each.declaration.code for each in plan.unchanged} == declared & present - edited
    assert len(plan.new) + len(plan.gone) + len(plan.edits) + len(plan.unchanged) == len(declared | present)


rules = st.builds(Cron, st.text()) | st.builds(
    Interval, st.sampled_from(Unit), st.integers(), st.none() | st.integers()
)


@given(rules)
def test_a_rule_survives_its_json_form(rule: Rule) -> None:
    assert rule_from_json(rule_to_json(rule)) == rule
