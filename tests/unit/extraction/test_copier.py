"""Naps come after small chunks, and one nap serves all streams."""

from exportd.extraction.copier import Pacer

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
