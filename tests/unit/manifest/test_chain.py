"""The documents alone show whether anything is missing."""

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from exportd.manifest.chain import ChainFindingKind, ChainReport, Restart, check
from exportd.manifest.document import Manifest, ManifestEntity, Predecessor, render
from exportd.model.entity import OrganizationId
from exportd.model.errors import FullReason
from tests.unit.manifest.manifest_examples import dated, entity_of, job_id, manifest_of


def report_on(*manifests: Manifest) -> ChainReport:
    return check([render(manifest) for manifest in manifests])


def kinds(report: ChainReport) -> list[ChainFindingKind]:
    return [finding.kind for finding in report.findings]


def unbroken(length: int) -> list[Manifest]:
    """A schedule's manifests, the oldest first."""
    manifests = [manifest_of(1, entity_of(1, None), entity_of(1, None, code="METERS"))]
    for number in range(2, length + 1):
        entities = (entity_of(number, number - 1), entity_of(number, number - 1, code="METERS"))
        manifests.append(manifest_of(number, *entities, after=manifests[-1]))
    return manifests


@given(st.integers(1, 6), st.randoms(use_true_random=False))
def test_an_unbroken_chain_is_found_in_any_order(length: int, order: random.Random) -> None:
    manifests = unbroken(length)
    documents = [render(manifest) for manifest in manifests]
    order.shuffle(documents)
    report = check(documents)
    assert report.findings == ()
    (chain,) = report.chains
    assert list(chain.manifests) == manifests
    assert chain.complete


@given(st.integers(3, 6), st.data())
def test_a_manifest_missing_in_the_middle_is_noticed(length: int, data: st.DataObject) -> None:
    manifests = unbroken(length)
    del manifests[data.draw(st.integers(1, length - 2))]
    assert kinds(report_on(*manifests)) == [ChainFindingKind.PREDECESSOR_MISSING]


def test_nothing_is_nothing() -> None:
    assert check([]) == ChainReport((), ())


def test_a_changed_manifest_is_noticed() -> None:
    first, second = unbroken(2)
    forged = replace(first, entities=(entity_of(1, None),))
    assert kinds(report_on(forged, second)) == [ChainFindingKind.PREDECESSOR_CHANGED, ChainFindingKind.GAP]


def test_a_chain_may_begin_late_but_says_so() -> None:
    report = report_on(*unbroken(4)[1:])
    assert kinds(report) == [ChainFindingKind.PREDECESSOR_MISSING]
    assert not report.chains[0].complete


def test_a_first_manifest_must_be_full() -> None:
    report = report_on(manifest_of(2, entity_of(2, 1)))
    assert kinds(report) == [ChainFindingKind.GAP]
    assert "ACCOUNTS begins at a snapshot at which no earlier manifest ends" in report.findings[0].sentence


def test_a_window_that_begins_too_late_is_a_gap() -> None:
    first = manifest_of(1, entity_of(1, None))
    report = report_on(first, manifest_of(3, entity_of(3, 2), after=first))
    assert kinds(report) == [ChainFindingKind.GAP]
    assert (report.findings[0].job, report.findings[0].entity) == (job_id(3), "ACCOUNTS")


def test_a_full_entity_needs_no_beginning() -> None:
    first = manifest_of(1, entity_of(1, None))
    assert report_on(first, manifest_of(3, entity_of(3, 2, full=True), after=first)).findings == ()


def test_an_entity_may_pause_and_come_back() -> None:
    first = manifest_of(1, entity_of(1, None), entity_of(1, None, code="METERS"))
    second = manifest_of(2, entity_of(2, 1), after=first)
    third = manifest_of(3, entity_of(3, 2), entity_of(3, 1, code="METERS"), after=second)
    assert report_on(first, second, third).findings == ()
    lost = manifest_of(3, entity_of(3, 2), entity_of(3, 2, code="METERS"), after=second)
    assert kinds(report_on(first, second, lost)) == [ChainFindingKind.GAP]


def test_an_entity_may_be_added_later() -> None:
    first = manifest_of(1, entity_of(1, None))
    second = manifest_of(2, entity_of(2, 1), entity_of(2, None, code="METERS"), after=first)
    assert report_on(first, second).findings == ()


def redelivery(marked: tuple[int, ...]) -> list[Manifest]:
    """Runs 2 and 3 reached this destination but not another one, so run 4 begins where run 1 ended."""
    first = manifest_of(1, entity_of(1, None))
    second = manifest_of(2, entity_of(2, 1), after=first)
    third = manifest_of(3, entity_of(3, 1), after=second, redelivers=(2,))
    return [first, second, third, manifest_of(4, entity_of(4, 1), after=third, redelivers=marked)]


def test_an_overlap_that_is_marked_is_allowed() -> None:
    assert report_on(*redelivery((2, 3))).findings == ()


def test_an_overlap_that_is_not_marked_is_reported() -> None:
    report = report_on(*redelivery((2,)))
    assert kinds(report) == [ChainFindingKind.OVERLAP_UNMARKED]
    assert str(job_id(3)) in report.findings[0].sentence


def test_marking_does_not_hide_a_gap() -> None:
    first = manifest_of(1, entity_of(1, None))
    second = manifest_of(2, entity_of(2, 1), after=first)
    late = manifest_of(4, entity_of(4, 3), after=second, redelivers=(1, 2))
    assert kinds(report_on(first, second, late)) == [ChainFindingKind.GAP]


def test_a_fork_is_noticed() -> None:
    first, second = unbroken(2)
    report = report_on(first, second, manifest_of(3, entity_of(3, 1), after=first))
    assert kinds(report) == [ChainFindingKind.FORK]
    assert [[manifest.job_id for manifest in chain.manifests] for chain in report.chains] == [
        [job_id(1), job_id(2)],
        [job_id(1), job_id(3)],
    ]


def test_two_manifests_of_one_job_contradict_each_other() -> None:
    first = manifest_of(1, entity_of(1, None))
    assert report_on(first, first).findings == ()
    other = replace(first, organization=OrganizationId("org-2"))
    assert kinds(report_on(first, other)) == [ChainFindingKind.CONTRADICTORY]


def test_an_unreadable_manifest_does_not_hide_the_others() -> None:
    report = check([b"{", *(render(manifest) for manifest in unbroken(2))])
    assert kinds(report) == [ChainFindingKind.UNREADABLE]
    assert len(report.chains[0].manifests) == 2


def test_schedules_and_organizations_have_chains_of_their_own() -> None:
    first = manifest_of(1, entity_of(1, None))
    elsewhere = replace(manifest_of(2, entity_of(2, None)), organization=OrganizationId("org-2"))
    crossed = replace(manifest_of(3, entity_of(3, 1), after=first), organization=OrganizationId("org-2"))
    assert len(report_on(first, elsewhere).chains) == 2
    assert ChainFindingKind.PREDECESSOR_CHANGED in kinds(report_on(first, crossed))


def test_an_ad_hoc_export_stands_alone_and_is_full() -> None:
    ad_hoc = manifest_of(9, entity_of(9, None), schedule=None)
    report = report_on(ad_hoc, *unbroken(2))
    assert report.findings == ()
    assert {chain.schedule is None for chain in report.chains} == {True, False}
    assert kinds(report_on(manifest_of(9, entity_of(9, 8), schedule=None))) == [ChainFindingKind.GAP]


def test_an_export_with_a_start_date_stands_alone_too() -> None:
    report = report_on(dated(manifest_of(9, entity_of(9, None))), *unbroken(2))
    assert report.findings == ()
    assert {chain.schedule is None for chain in report.chains} == {True, False}


def test_a_forged_circle_is_no_chain() -> None:
    one, other = unbroken(2)
    circular = replace(one, predecessor=Predecessor(job_id=other.job_id, sha256="0" * 64))
    assert kinds(report_on(circular, other)) == [ChainFindingKind.PREDECESSOR_CHANGED] * 2
    assert report_on(circular, other).chains == ()


@given(st.lists(st.booleans(), min_size=1, max_size=7))
def test_runs_that_fail_elsewhere_never_leave_a_gap(succeeds: list[bool]) -> None:
    """The position moves only when a run succeeded everywhere; this destination got every run."""
    manifests: list[Manifest] = []
    position: int | None = None
    since: tuple[int, ...] = ()
    for number, success in enumerate(succeeds, start=1):
        entity: ManifestEntity = entity_of(number, position)
        after = manifests[-1] if manifests else None
        manifests.append(manifest_of(number, entity, after=after, redelivers=since))
        position, since = (number, ()) if success else (position, (*since, number))
    assert report_on(*manifests).findings == ()


def anew(job: int, reason: FullReason, *, lsn: str = "FFFF/0") -> ManifestEntity:
    entity = entity_of(job, None)
    return replace(entity, full_reason=reason, window=replace(entity.window, lsn=lsn))


def test_a_complete_run_of_another_history_may_follow_what_others_follow_and_says_what_was_undone() -> None:
    first, second = unbroken(2)
    reason = FullReason.DATABASE_PUT_BACK
    third = manifest_of(3, anew(3, reason), after=first)
    fourth = manifest_of(4, entity_of(4, 3), after=third)
    report = report_on(first, second, third, fourth)
    assert report.findings == ()
    assert report.restarts == (Restart(job_id(3), reason, (job_id(2),)),)
    # In a manifest that follows the newest one, the position in the log shows what was undone.
    further = replace(second, entities=tuple(replace(e, window=replace(e.window, lsn="1/0")) for e in second.entities))
    third = manifest_of(3, anew(3, reason, lsn="0/FFFFFFFF"), after=further)
    assert report_on(first, further, third).restarts == (Restart(job_id(3), reason, (job_id(2),)),)
    elsewhere = manifest_of(3, anew(3, FullReason.CLUSTER_CHANGED, lsn="0/FFFFFFFF"), after=further)
    assert report_on(first, further, elsewhere).restarts == (Restart(job_id(3), FullReason.CLUSTER_CHANGED, ()),)


def test_what_a_later_complete_run_replaces_is_no_fork_and_what_comes_after_it_is() -> None:
    first, second = unbroken(2)
    # Another daemon did not see that the database was put back, and went on from where both had been.
    unaware = manifest_of(3, entity_of(3, 1), after=first)
    anew_after = manifest_of(4, anew(4, FullReason.DATABASE_PUT_BACK), after=unaware)
    assert kinds(report_on(first, second, unaware)) == [ChainFindingKind.FORK]
    report = report_on(first, second, unaware, anew_after)
    assert (report.findings, [restart.undone for restart in report.restarts]) == ((), [(job_id(2),)])
    later = [manifest_of(number, entity_of(number, 4), after=anew_after) for number in (5, 6)]
    assert kinds(report_on(first, second, unaware, anew_after, *later)) == [ChainFindingKind.FORK]


def test_a_complete_run_at_another_place_follows_what_is_not_there() -> None:
    first, second = unbroken(2)
    third = manifest_of(3, anew(3, FullReason.DESTINATION_ADDED), after=second)
    fourth = manifest_of(4, entity_of(4, 3), after=third)
    report = report_on(third, fourth)
    assert (report.findings, report.restarts) == ((), ())
    requested = manifest_of(3, anew(3, FullReason.REQUESTED), after=second)
    assert kinds(report_on(first, requested)) == [ChainFindingKind.PREDECESSOR_MISSING]
    halfway = manifest_of(3, anew(3, FullReason.DATABASE_PUT_BACK), entity_of(3, 1, code="METERS"), after=first)
    assert ChainFindingKind.FORK in kinds(report_on(first, second, halfway))
