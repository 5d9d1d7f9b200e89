"""What is read of a window; and naps come after small chunks, and one nap serves all streams."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from exportd.extraction.copier import Pacer, plan_copies
from exportd.extraction.snapshot_reader import OpenSnapshot
from exportd.extraction.window import EntityWindow, parse_snapshot
from exportd.model.entity import EntityCode
from exportd.model.errors import FullReason
from exportd.model.extraction import Mode

SMALL, LARGE = 8 * 1024, 128 * 1024


def test_a_stream_naps_after_each_small_chunk_and_after_no_large_one() -> None:
    naps: list[float] = []
    pace = Pacer(naps.append).stream()

    counts = []
    for chunk_bytes in (LARGE, SMALL, LARGE, SMALL, SMALL):
        pace(chunk_bytes)
        counts.append(len(naps))

    assert counts == [0, 1, 1, 2, 3]


def test_a_stream_does_not_nap_before_it_has_brought_a_block() -> None:
    naps: list[float] = []
    pace = Pacer(naps.append).stream()
    for chunk_bytes in [SMALL] * 7:
        pace(chunk_bytes)
    assert naps == []
    pace(SMALL)
    assert len(naps) == 1


def test_streams_that_take_turns_nap_once_a_round() -> None:
    naps: list[float] = []
    pacer = Pacer(naps.append)
    streams = [pacer.stream() for _ in range(5)]
    for pace in streams:
        pace(LARGE)

    for _ in range(10):
        for pace in streams:
            pace(SMALL)

    assert len(naps) == 10


def test_a_nap_never_holds_the_loop_for_long() -> None:
    naps: list[float] = []
    pace = Pacer(naps.append).stream()
    pace(LARGE)
    pace(SMALL)

    assert 0 < naps[0] < 0.002


@pytest.mark.parametrize(
    ("mode", "changed", "deletions", "read"),
    [
        (Mode.INCREMENTAL, False, False, []),
        (Mode.INCREMENTAL, True, False, ["changed"]),
        (Mode.INCREMENTAL, True, True, ["changed", "deleted"]),
        (Mode.FULL, True, True, ["full", "deleted"]),
    ],
)
def test_deletions_are_read_only_where_the_log_has_some(
    mode: Mode, changed: bool, deletions: bool, read: list[str]
) -> None:
    code, previous = EntityCode("A"), parse_snapshot("1:2:")
    reason = FullReason.REQUESTED if mode is Mode.FULL else None
    statements = SimpleNamespace(
        changed=lambda *_, **__: "changed", deleted=lambda *_, **__: "deleted", full=lambda *_, **__: "full"
    )
    snapshot = SimpleNamespace(
        windows={code: EntityWindow(code, mode, reason, previous, changed=changed, deletions=deletions)},
        statements={code: statements},
        shapes={code: SimpleNamespace(pages=1)},
        fetched={},
        is_small=lambda _: True,
    )
    tasks = plan_copies(cast("OpenSnapshot", cast("Any", snapshot)), streams=1, stream_threshold_bytes=1 << 30)
    assert [task.statement for task in tasks] == read
    assert [task.deletions for task in tasks] == [statement == "deleted" for statement in read]
