import os
from pathlib import Path

import pytest

from exportd.telemetry.logging import LogStream, is_journal, journal_prefix
from exportd.telemetry.metrics import Metrics


def test_a_line_without_a_reader_is_dropped_and_counted() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe:
        stream = LogStream(pipe)
        stream.write("first\n")
        assert os.read(reading, 100) == b"first\n"
        assert stream.dropped == 0
        os.close(reading)
        for _ in range(3):
            stream.write("nothing\n")
            stream.flush()
        assert stream.dropped == 3


def test_a_full_disk_drops_lines_and_keeps_none_of_them() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        stream = LogStream(full)
        for _ in range(10_000):
            stream.write("a line of some length that fills every buffer there is\n")
        assert stream.dropped == 10_000


def test_what_is_no_utf_8_is_escaped(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="ascii") as log:
        LogStream(log).write("\udcff ☃\n")
    assert (tmp_path / "log").read_bytes() == "\\udcff ☃\n".encode()


def test_a_closed_stream_raises_nothing(tmp_path: Path) -> None:
    log = (tmp_path / "log").open("w", encoding="utf-8")
    stream = LogStream(log)
    log.close()
    stream.write("gone\n")
    assert stream.dropped == 1
    assert not stream.isatty()


@pytest.mark.parametrize(
    ("method", "prefix"),
    [
        ("debug", "<7>"),
        ("info", "<6>"),
        ("warning", "<4>"),
        ("error", "<3>"),
        ("exception", "<3>"),
        ("critical", "<2>"),
    ],
)
def test_each_line_says_its_priority(method: str, prefix: str) -> None:
    assert journal_prefix(None, method, "one\ntwo") == f"{prefix}one\n{prefix}two"


def test_only_the_stream_that_systemd_names_is_the_journal(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="utf-8") as log:
        status = os.fstat(log.fileno())
        assert is_journal(log, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        assert not is_journal(log, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"})
        assert not is_journal(log, {"JOURNAL_STREAM": "nonsense"})
        assert not is_journal(log, {})


def test_metrics_count_each_dropped_line_once() -> None:
    metrics = Metrics()
    for so_far in (0, 3, 3, 5):
        metrics.count_dropped_lines(so_far)
    assert b"exportd_log_lines_dropped_total 5.0" in metrics.text()
