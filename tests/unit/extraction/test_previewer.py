from exportd.extraction.previewer import EntityPreview, Figure, WindowCounts, preview_of
from exportd.extraction.statement import TablePlan
from exportd.extraction.window import EntityWindow, SnapshotText
from exportd.model.errors import FullReason
from exportd.model.extraction import Mode
from exportd.model.schedule import ExportFormat
from tests.unit.extraction.shapes import THINGS

SINCE = SnapshotText("90:95:")
CHANGED = EntityWindow(THINGS.code, Mode.INCREMENTAL, None, SINCE, changed=True)
FULL = EntityWindow(THINGS.code, Mode.FULL, FullReason.REQUESTED, None, changed=True)


def preview(
    window: EntityWindow, counts: WindowCounts | None, *, file_format: ExportFormat = ExportFormat.CSV, keys: int = 7
) -> EntityPreview:
    return preview_of(THINGS, file_format, TablePlan(1000, 20), window, counts, keys=keys)


def test_what_was_counted_is_exact_but_for_its_size() -> None:
    found = preview(CHANGED, WindowCounts(4, 2))
    assert (found.mode, found.rows, found.deleted_rows, found.estimated) == (
        Mode.INCREMENTAL,
        6,
        2,
        (Figure.CONTENT_BYTES,),
    )


def test_nothing_is_known_exactly() -> None:
    found = preview(CHANGED, WindowCounts(0, 0))
    assert (found.rows, found.content_bytes, found.estimated) == (0, 0, ())


def test_a_full_run_is_what_the_planner_expects_and_the_deletions() -> None:
    found = preview(FULL, WindowCounts(None, 3))
    assert (found.full_reason, found.rows, found.deleted_rows) == (FullReason.REQUESTED, 1003, 3)
    assert found.estimated == (Figure.ROWS, Figure.CONTENT_BYTES)


def test_without_counts_everything_is_an_estimate() -> None:
    assert [preview(window, None).rows for window in (CHANGED, FULL)] == [7, 1000]
    assert {preview(window, None).estimated for window in (CHANGED, FULL)} == {tuple(Figure)}


def test_a_record_of_jsonl_has_the_names_of_its_fields() -> None:
    counts = WindowCounts(1, 0)
    csv, jsonl = (preview(CHANGED, counts, file_format=file_format).content_bytes for file_format in ExportFormat)
    # id,note,false and a line feed; {"id":…,"note":…,"deleted":false}
    assert csv == 20 + len(",,false\n")
    assert jsonl == 20 + len('{"id":,"note":,"deleted":false}\n')
