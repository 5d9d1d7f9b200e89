"""What the journal promised is there after the machine lost its power, whatever had reached the disk by itself."""

import errno
import os
import shutil
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exportd.model.errors import PermanentError, Reason
from exportd.spool import journal_keeper
from exportd.spool.journal_keeper import JournalChange, JournalKeeper, JournalRecord, read_records

FOLDERS = ("jobs/a", "jobs/b", "published")
NAMES = ("x", "y")


class Machine:
    """A spool on a disk that holds back what was not synchronized, until ``lose_power``."""

    def __init__(self, folder: Path, max_bytes: int = 10**6) -> None:
        self.folder = folder
        folder.mkdir()
        self.max_bytes = max_bytes
        self.losses = 0
        self.keeper = self._opened()

    def _opened(self) -> JournalKeeper:
        keeper = JournalKeeper(self.folder, max_bytes=self.max_bytes)
        keeper.open()
        return keeper

    def lose_power(self, random: Random) -> None:
        """Of each file that a journal tells of, the disk has some state that it was in, or none, or nonsense.

        A removal is durable once something is written after it: the spool synchronizes the folder above in between.
        """
        self.keeper.close()
        states: dict[str, list[bytes | None]] = {}
        for journal in sorted((self.folder / "journal").iterdir(), key=lambda path: int(path.name)):
            with journal.open("rb") as file:
                for record in read_records(file):
                    if record.change is JournalChange.WRITTEN:
                        states.setdefault(record.name, [None, b"", b"torn"]).append(record.content)
                    else:  # its folder was synchronized before anything was written there again
                        states = {
                            name: known for name, known in states.items() if Path(name).parent != Path(record.name)
                        }
        for name, possible in states.items():
            path = self.folder / name
            found = random.choice(possible)
            if path.exists() and found is None:
                path.unlink()
            elif path.parent.exists() and found is not None:
                path.write_bytes(found)
        self.keeper = self._opened()

    def remove(self, folder: str) -> None:
        shutil.rmtree(self.folder / folder, ignore_errors=True)
        self.keeper.note_removal(self.folder / folder)

    def files(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for folder in FOLDERS
            for path in (self.folder / folder).glob("*")
        }


ACTIONS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(FOLDERS), st.sampled_from(NAMES), st.binary(max_size=40)),
    st.tuples(st.just("remove"), st.sampled_from(FOLDERS[:2])),
    st.tuples(st.just("reopen")),
    st.tuples(st.just("lose power")),
)


@given(actions=st.lists(ACTIONS, max_size=25), max_bytes=st.sampled_from([1, 100, 10**6]), random=st.randoms())
@settings(max_examples=150)
def test_after_each_loss_of_power_the_files_are_those_that_were_written(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, ...]], max_bytes: int, random: Random
) -> None:
    """A removal that nothing came after may be undone by the loss: then it is removed again in its time."""
    machine = Machine(tmp_path_factory.mktemp("machine") / "spool", max_bytes)
    promised: dict[str, bytes] = {}
    removed: set[str] = set()
    for action in [*actions, ("lose power",)]:
        match action:
            case ("write", folder, name, content):
                assert isinstance(content, bytes)
                machine.keeper.write(machine.folder / folder / name, content)
                promised[f"{folder}/{name}"] = content
                removed.clear()
            case ("remove", folder):
                machine.remove(folder)
                gone = {name for name in promised if name.startswith(f"{folder}/")}
                removed |= gone
                promised = {name: content for name, content in promised.items() if name not in gone}
            case ("reopen",):
                machine.keeper.drop()
                assert list((machine.folder / "journal").iterdir()) == []
                machine.keeper.open()
            case ("lose power",):
                machine.lose_power(random)
                found = machine.files()
                assert {name for name in found if name not in promised} <= removed
                assert promised.items() <= found.items()
                for name in found.keys() - promised.keys():
                    (machine.folder / name).unlink()
                removed.clear()
            case _:
                raise AssertionError(action)


def test_a_journal_ends_with_its_last_whole_record(tmp_path: Path) -> None:
    records = [JournalRecord(JournalChange.WRITTEN, f"jobs/{number}", bytes(number)) for number in range(1, 5)]
    whole = b"".join(record.encode() for record in records)
    ends = [sum(len(record.encode()) for record in records[:number]) for number in range(5)]
    path = tmp_path / "journal"
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        with path.open("rb") as file:
            assert list(read_records(file)) == records[: sum(end <= length for end in ends) - 1]
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x40
        path.write_bytes(damaged)
        with path.open("rb") as file:
            assert list(read_records(file)) == records[: sum(end <= place for end in ends) - 1]


def test_many_callers_share_a_synchronization(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = JournalKeeper(tmp_path)
    keeper.open()
    synced, first_waits = list[int](), threading.Event()
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 2:  # the first is that of the journal's folder
            first_waits.wait()
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with ThreadPoolExecutor(10) as threads:
        written = [threads.submit(keeper.write, tmp_path / "jobs" / str(number), b"content") for number in range(10)]
        while len(keeper._waiting) < 9:
            os.sched_yield()
        first_waits.set()
    assert [future.exception() for future in written] == [None] * 10
    assert len(synced) == 3
    (journal,) = (tmp_path / "journal").iterdir()
    with journal.open("rb") as file:
        assert len(list(read_records(file))) == 10
    keeper.close()


def _failing(error: int) -> Callable[[object], None]:
    def fail(_: object) -> None:
        raise OSError(error, os.strerror(error))

    return fail


def test_what_could_not_be_made_durable_is_not_promised_and_what_comes_later_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path / "spool")
    monkeypatch.setattr(journal_keeper, "_sync_file_system", _failing(errno.EIO))  # the old ones stay
    machine.keeper.write(machine.folder / "jobs/a/x", b"before")
    machine.remove("jobs/a")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", _failing(errno.EIO))
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            machine.keeper.write(machine.folder / "published/x", b"lost")
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            machine.keeper.sync()
    machine.keeper.write(machine.folder / "published/y", b"after")
    assert len(list((machine.folder / "journal").iterdir())) == 3, "a new one after each failure"
    monkeypatch.undo()
    machine.lose_power(Random(1))
    found = machine.files()
    machine.keeper.close()
    assert found["published/y"] == b"after"
    assert "jobs/a/x" not in found, "the removal was not forgotten with the failure"


def test_an_old_journal_stays_until_the_file_system_is_synchronized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path / "spool", max_bytes=1)
    with monkeypatch.context() as patched:
        patched.setattr(journal_keeper, "_sync_file_system", _failing(errno.EIO))
        for number in range(3):
            machine.keeper.write(machine.folder / "published" / NAMES[number % 2], b"%d" % number)
    assert len(list((machine.folder / "journal").iterdir())) == 3
    machine.keeper.write(machine.folder / "jobs/a/x", b"3")
    assert list((machine.folder / "journal").iterdir()) == []
    assert machine.files() == {"published/x": b"2", "published/y": b"1", "jobs/a/x": b"3"}


def test_a_file_of_an_earlier_attempt_does_not_come_back_beside_those_that_are_no_concern_of_the_journal(
    tmp_path: Path,
) -> None:
    machine = Machine(tmp_path / "spool")
    machine.keeper.write(machine.folder / "jobs/a/x", b"of the first attempt")
    machine.remove("jobs/a")
    (machine.folder / "jobs/a").mkdir()
    (machine.folder / "jobs/a/large").write_bytes(b"of the second")
    machine.keeper.sync()
    machine.keeper.close()
    machine.keeper.open()
    assert machine.files() == {"jobs/a/large": b"of the second"}


def test_a_record_of_a_later_version_is_a_sentence_and_nothing_is_dropped(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "spool")
    machine.keeper.write(machine.folder / "published/x", b"before")
    machine.keeper.close()
    (journal,) = (machine.folder / "journal").iterdir()
    later = b"\x09" + JournalRecord(JournalChange.WRITTEN, "published/x", b"after").encode()[5:]
    with journal.open("ab") as file:
        file.write(zlib.crc32(later).to_bytes(4, "little") + later)
    with pytest.raises(PermanentError, match="Start the later version that wrote it") as caught:
        machine.keeper.open()
    assert caught.value.reason is Reason.SPOOL_DAMAGED
    assert journal.exists()
