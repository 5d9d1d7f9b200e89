"""What becomes of schedules that are declared again, or otherwise, or not any more."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from exportd.model.declared import Reconciliation, reconcile
from exportd.model.entity import OrganizationId
from exportd.model.schedule import Cron, ExportFormat, Interval, Origin, Rule, Schedule, ScheduleDeclaration, Unit
from exportd.schedules.firing_table import ScheduleEdit
from tests.unit.schedules.memory_table import declaration, schedule

NOON = datetime(2026, 1, 1, 12, 20, tzinfo=UTC)
HOURLY = Interval(Unit.HOUR, 1)
FIRED = schedule("nightly", HOURLY, next_due_at=NOON + timedelta(hours=1), last_due_at=NOON)


def edit(declared: ScheduleDeclaration, present: Schedule) -> ScheduleEdit:
    """What a reconciliation makes of a schedule that is declared otherwise."""
    ((edited, declaration),) = reconcile([declared], [present]).edits
    assert edited == present
    return ScheduleEdit.of(edited, declaration)


def test_what_is_declared_and_there_stays_as_it_is() -> None:
    plan = reconcile([FIRED.declaration], [FIRED])
    assert plan.unchanged == (FIRED,)
    assert (plan.new, plan.edits, plan.gone) == ((), (), ())


def test_what_the_api_made_is_none_of_the_configurations_business() -> None:
    made = replace(FIRED, origin=Origin.API)
    plan: Reconciliation[ScheduleDeclaration, Schedule] = reconcile([], [made])
    assert plan.unchanged == (made,)
    assert (plan.new, plan.edits, plan.gone) == ((), (), ())


def test_what_the_api_made_and_is_declared_now_belongs_to_the_configuration() -> None:
    made = replace(FIRED, origin=Origin.API)
    plan = reconcile([FIRED.declaration], [made])
    assert plan.edits == ((made, FIRED.declaration),)
    assert (plan.new, plan.gone, plan.unchanged) == ((), (), ())


def test_a_schedule_is_known_by_organization_and_code() -> None:
    elsewhere = replace(FIRED.declaration, organization=OrganizationId("other"))
    plan = reconcile([elsewhere], [FIRED])
    assert (plan.new, plan.gone) == ((elsewhere,), (FIRED,))


def test_an_edit_of_anything_but_the_rule_leaves_the_due_time_alone() -> None:
    for edited in (
        replace(FIRED.declaration, name="Other"),
        replace(FIRED.declaration, file_format=ExportFormat.JSONL),
        declaration("nightly", HOURLY, entities=("PLANS",)),
    ):
        planned = edit(edited, FIRED)
        assert planned.next_due_at == FIRED.next_due_at


def test_an_edit_of_the_rule_counts_from_the_last_due_time() -> None:
    planned = edit(declaration("nightly", Interval(Unit.HOUR, 6)), FIRED)
    assert planned.next_due_at == NOON + timedelta(hours=6)


def test_an_edit_of_the_rule_can_make_a_schedule_due_at_once() -> None:
    daily = replace(FIRED, declaration=declaration("nightly", Interval(Unit.DAY, 1)))
    planned = edit(declaration("nightly", Interval(Unit.MINUTE, 15)), daily)
    assert planned.next_due_at == NOON + timedelta(minutes=15)


def test_editing_back_and_forth_does_not_put_off_a_run() -> None:
    edited: Schedule = FIRED
    for rule in (Interval(Unit.DAY, 3), Cron("0 * * * *"), HOURLY) * 3:
        planned = edit(declaration("nightly", rule), edited)
        edited = replace(edited, declaration=planned.declaration, next_due_at=planned.next_due_at)
    assert edited == FIRED


def test_an_edit_before_the_first_run_leaves_it_immediate() -> None:
    new = schedule("nightly", HOURLY, next_due_at=NOON)
    planned = edit(declaration("nightly", Interval(Unit.DAY, 3)), new)
    assert planned.next_due_at == NOON


def test_an_entity_keeps_its_position_only_when_it_was_and_is_in_the_schedule() -> None:
    before = replace(FIRED, declaration=declaration("nightly", HOURLY, entities=("ACCOUNTS", "PLANS", "BILLS")))
    planned = edit(declaration("nightly", HOURLY, entities=("BILLS", "USERS", "PLANS")), before)
    assert set(planned.keeping) == {"BILLS", "PLANS"}


@given(st.sets(st.sampled_from("abcdef")), st.sets(st.sampled_from("abcdef")), st.sets(st.sampled_from("abcdef")))
def test_every_declaration_and_every_schedule_has_exactly_one_fate(
    declared: set[str], present: set[str], otherwise: set[str]
) -> None:
    def rule_of(code: str) -> Rule:
        return Interval(Unit.DAY, 2) if code in otherwise else HOURLY

    plan = reconcile(
        [declaration(code, rule_of(code)) for code in declared],
        [schedule(code, HOURLY, next_due_at=NOON) for code in present],
    )
    assert {new.code for new in plan.new} == declared - present
    assert {gone.declaration.code for gone in plan.gone} == present - declared
    assert {edited.code for _, edited in plan.edits} == declared & present & otherwise
    assert {unchanged.declaration.code for unchanged in plan.unchanged} == declared & present - otherwise
    assert len(plan.new) + len(plan.gone) + len(plan.edits) + len(plan.unchanged) == len(declared | present)
