"""Which user opened the port of ``exportd console``, as the kernel's list of connections says."""

from collections.abc import Sequence

import pytest

from exportd.cli import console

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
MINE = f"   1: {console._LOOPBACK}:C000 {console._LOOPBACK}:1F90 01 00000000:00000000 00:00000000 00000000  1000 0 1"
ENDED = MINE.replace(" 01 ", " 06 ")


class Lists:
    """What the kernel says, one reading after the other."""

    def __init__(self, readings: Sequence[Sequence[str]]) -> None:
        self.readings = list(readings)

    def read_text(self) -> str:
        return "\n".join([HEAD, *self.readings.pop(0)])


@pytest.mark.parametrize(
    ("readings", "user", "unread"),
    [
        ([[MINE], []], 1000, 1),
        ([[], [MINE], []], 1000, 1),
        ([[], [ENDED], [MINE]], 1000, 0),
        ([[], [], [ENDED], [MINE]], -1, 1),
    ],
)
def test_a_list_that_lacks_the_connection_is_read_again(
    monkeypatch: pytest.MonkeyPatch, readings: list[list[str]], user: int, unread: int
) -> None:
    lists = Lists(readings)
    monkeypatch.setattr(console, "_CONNECTIONS", (lists,))
    assert console._user_of(0xC000, 8080) == user
    assert len(lists.readings) == unread
