"""Bodies are watched while they are taken, and not copied."""

from exportd.stores.s3.store import WatchedBody


def test_it_tells_each_time_that_more_is_asked_for() -> None:
    body, times = WatchedBody(b"abcdef"), []
    body.on_read = lambda: times.append(body.tell())
    assert (body.read(4), body.read(4), body.read(4)) == (b"abcd", b"ef", b"")
    assert times == [0, 4, 6]
    body.seek(0)
    assert body.read() == b"abcdef"


def test_a_look_at_its_length_does_not_copy_it() -> None:
    data = b"abcdef"
    assert WatchedBody(data).getbuffer().obj is data
