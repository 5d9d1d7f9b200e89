"""What a listener gets between two readings of a job."""

from dataclasses import replace
from uuid import uuid4

from exportd.jobs.live_job import LiveJob, events_between
from exportd.model.entity import EntityCode
from exportd.model.job import EntityProgress, JobId, JobPhase, JobProgress, JobState

RUNNING = LiveJob(
    JobId(uuid4()), "org-1", "nightly", JobState.RUNNING, JobPhase.EXTRACTING, 1, "host:1", JobProgress(), None, None
)
READ = JobProgress({EntityCode("ACCOUNTS"): EntityProgress(rows=7, size_bytes=70, files=1)})


def names(before: LiveJob | None, now: LiveJob) -> list[str]:
    return [event.name for event in events_between(before, now)]


def test_a_new_listener_is_events_where_the_job_is() -> None:
    assert names(None, RUNNING) == ["phase"]
    assert names(None, replace(RUNNING, progress=READ)) == ["phase", "progress"]


def test_nothing_new_is_nothing_events() -> None:
    assert names(RUNNING, RUNNING) == []


def test_progress_has_the_figures_of_each_entity() -> None:
    (event,) = events_between(RUNNING, replace(RUNNING, progress=READ))
    assert event.name == "progress"
    assert event.data["entities"]["ACCOUNTS"] == {
        "rows": 7,
        "deletedRows": 0,
        "contentBytes": 0,
        "sizeBytes": 70,
        "files": 1,
        "oversizedParts": 0,
        "done": False,
    }


def test_a_new_phase_or_attempt_is_events() -> None:
    assert names(RUNNING, replace(RUNNING, phase=JobPhase.SEALED)) == ["phase"]
    assert names(RUNNING, replace(RUNNING, attempt=2)) == ["phase"]
    assert names(RUNNING, replace(RUNNING, state=JobState.PENDING)) == ["phase"]


def test_the_end_is_events_once_with_the_last_figures_before_it() -> None:
    ended = replace(RUNNING, state=JobState.FAILED, progress=READ, reason="CANCELLED", message="It was cancelled.")
    events = list(events_between(RUNNING, ended))
    assert [event.name for event in events] == ["progress", "end"]
    assert events[-1].data["reason"] == "CANCELLED"
    assert names(ended, ended) == []
    assert names(None, ended) == ["progress", "end"]
