"""Progress on its way through the job's row."""

import json

from hypothesis import given
from hypothesis import strategies as st

from exportd.jobs.job_record import progress_from_json, progress_to_json
from exportd.model.entity import EntityCode
from exportd.model.job import EntityProgress, JobProgress

counts = st.integers(min_value=0, max_value=2**62)
figures = st.builds(
    EntityProgress,
    rows=counts,
    deleted_rows=counts,
    content_bytes=counts,
    size_bytes=counts,
    files=counts,
    done=st.booleans(),
)
entities = st.dictionaries(st.text(min_size=1).map(EntityCode), figures, max_size=4)
progresses = st.builds(JobProgress, entities=entities, published_files=counts)


@given(progresses)
def test_what_is_read_back_is_what_was_written(progress: JobProgress) -> None:
    assert progress_from_json(json.loads(json.dumps(progress_to_json(progress)))) == progress


def test_a_document_does_not_follow_later_changes() -> None:
    progress = JobProgress()
    progress.of(EntityCode("ACCOUNTS")).rows = 1
    before = progress_to_json(progress)
    progress.of(EntityCode("ACCOUNTS")).rows = 2
    assert before["entities"]["ACCOUNTS"]["rows"] == 1
    assert progress_to_json(progress) != before


def test_documents_of_other_versions_are_read() -> None:
    assert progress_from_json({}) == JobProgress()
    read = progress_from_json({"entities": {"PLANS": {"rows": 3, "invented_later": 1}}})
    assert read.entities == {"PLANS": EntityProgress(rows=3)}
