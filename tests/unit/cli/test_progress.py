"""How a client reads the events of jobs."""

from exportd.cli.progress import ProgressEvent, event_line, figures, parse_events

STREAM = b"""\
: still here

event: phase
data: {"jobId": "1", "state": "RUNNING", "phase": "EXTRACTING", "attempt": 2}

event: progress
id: 7
data: {"jobId": "1",
data: "entities": {}}

event: end\r
data: {"state": "SUCCEEDED"}\r
\r
event: cut off
data: {"jobId"""


def test_events_are_parsed() -> None:
    events = list(parse_events(STREAM.splitlines(keepends=True)))
    assert [event.name for event in events] == ["phase", "progress", "end"]
    assert events[0].data["attempt"] == 2
    assert events[1].data == {"jobId": "1", "entities": {}}
    assert events[2].succeeded
    assert event_line(events[0]) == "extracting, attempt 2"
    assert event_line(events[2]) == "succeeded"


def test_a_job_that_waits_and_one_that_failed_have_a_line() -> None:
    assert event_line(ProgressEvent("phase", {"state": "PENDING", "phase": "EXTRACTING", "attempt": 0})) == "waiting"
    failed = ProgressEvent("end", {"state": "FAILED", "reason": "CANCELLED", "message": "An operator cancelled it."})
    assert not failed.succeeded
    assert event_line(failed) == "failed: An operator cancelled it. [CANCELLED]"


def test_figures_add_up() -> None:
    entities = {
        "A": {"rows": 1200, "sizeBytes": 5000, "files": 2, "done": True},
        "B": {"rows": 34, "sizeBytes": 600, "files": 1, "done": False},
    }
    words = "1 of 2 entities, 1,234 rows, 5.6 kB in 3 files"
    assert figures({"entities": entities, "publishedFiles": 0}) == words
    assert figures({"entities": entities, "publishedFiles": 2}) == f"{words}, 2 published"
    stalls = [{"message": "Session 7 holds a lock.", "since": "2026-03-10T05:00:00.000Z"}]
    shown = f"{words}. Session 7 holds a lock. (since 2026-03-10T05:00:00.000Z)"
    assert figures({"entities": entities, "stalls": stalls}) == shown
