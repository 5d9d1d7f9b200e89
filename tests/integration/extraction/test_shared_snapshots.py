"""Jobs that ask together read one snapshot; what happens to one of them is no other's fate."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from exportd.extraction import shared_reader, snapshot_opener, snapshot_reader, snapshot_sharer
from exportd.extraction.copier import Copier, ImagesUnreadableError
from exportd.extraction.snapshot_reader import FetchedRows, OpenSnapshot
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import AloneError, FullReason, Reason, TransientError
from exportd.model.schedule import ExportFormat
from tests.fixtures.postgres import Database
from tests.fixtures.snapshot_exports import Export, Exporter, Look, Schedule, entity

ORGANIZATIONS = ("acme", "globex", "initech")
CHANGE = "UPDATE public.record SET secret = secret || '!'"
LOST = TransientError("Something went wrong.", reason=Reason.DATABASE_CONNECTION_LOST)


class Together:
    """Three organizations' schedules, which have had their first run."""

    def __init__(self, exporter: Exporter) -> None:
        self.exporter = exporter
        self.schedules = [Schedule(OrganizationId(name)) for name in ORGANIZATIONS]

    async def run(self, looks: list[Look | None] | None = None) -> list[Export | Exception]:
        formats = [ExportFormat.CSV] * len(self.schedules)
        return [*await self.exporter.run_together(self.schedules, formats, looks or [None] * len(self.schedules))]


@pytest.fixture
async def together(database: Database) -> Together:
    connection = await database.connect()
    await connection.execute(
        """CREATE TABLE public.record (id int PRIMARY KEY, org text, secret text);
           INSERT INTO public.record SELECT n, (ARRAY['acme', 'globex', 'initech'])[n % 3 + 1], 'x'
           FROM generate_series(1, 9) AS n"""
    )
    exporter = Exporter(
        database.dsn, [entity("RECORD", "record", key=["id"], tenant="org", fields=["id", "org", "secret"])]
    )
    await exporter.install()
    together = Together(exporter)
    for schedule in together.schedules:
        await exporter.run(schedule)
    await connection.execute(CHANGE)
    return together


async def test_they_have_one_snapshot_and_each_its_own_rows(together: Together, database: Database) -> None:
    await together.exporter.run(together.schedules[2])  # it has had the changes already
    exports = await together.run()
    assert all(isinstance(export, Export) for export in exports)
    found = [export for export in exports if isinstance(export, Export)]
    assert len({export.snapshot for export in found}) == 1
    assert [export["RECORD"].sent_rows for export in found] == [3, 3, 0]
    for name, export in zip(ORGANIZATIONS, found, strict=True):
        records = export["RECORD"].records(together.exporter.entities[0])
        assert {record["org"] for record in records} <= {name}


def fetched_by(fetched: dict[str, FetchedRows]) -> list[Look | None]:
    """Looks at what was fetched for each of the three before its turn."""

    def look_of(name: str) -> Look:
        async def look(snapshot: OpenSnapshot) -> None:
            fetched[name] = snapshot.fetched.get(EntityCode("RECORD"), FetchedRows())

        return look

    return [look_of(name) for name in ORGANIZATIONS]


def held_by(together: Together, exports: list[Export | Exception]) -> dict[str, dict[str, str | None]]:
    """By organization what each record's secret is, None for a deleted one."""
    found: dict[str, dict[str, str | None]] = {}
    for name, export in zip(ORGANIZATIONS, exports, strict=True):
        assert isinstance(export, Export), export
        records = export["RECORD"].records(together.exporter.entities[0])
        assert {record["org"] for record in records} == {name}
        found[name] = {
            record["id"]: None if record["deleted"] in (True, "true") else record["secret"] for record in records
        }
    return found


@pytest.mark.every_postgres
@pytest.mark.parametrize("file_format", list(ExportFormat))
async def test_what_little_they_have_to_read_is_fetched_for_all_of_them(
    together: Together, database: Database, file_format: ExportFormat
) -> None:
    connection = await database.connect()
    await connection.execute(
        """UPDATE public.record SET secret = E'"a",\\n\\n2,"' || id || E'"\\n' WHERE id > 3;
           DELETE FROM public.record WHERE id IN (2, 5, 6)"""
    )
    fetched: dict[str, FetchedRows] = {}
    exports = await together.exporter.run_together(together.schedules, [file_format] * 3, fetched_by(fetched))
    secrets = {str(number): f'"a",\n\n2,"{number}"\n' for number in range(4, 10)}
    assert {
        name: {str(number): secret for number, secret in held.items()}
        for name, held in held_by(together, [*exports]).items()
    } == {
        "acme": {"3": "x!", "6": None, "9": secrets["9"]},
        "globex": {"1": "x!", "4": secrets["4"], "7": secrets["7"]},
        "initech": {"2": None, "5": None, "8": secrets["8"]},
    }
    assert {name: (rows.live_rows, rows.deleted_rows) for name, rows in fetched.items()} == {
        "acme": (2, 1),
        "globex": (3, 0),
        "initech": (1, 2),
    }


@pytest.mark.parametrize(
    ("limit", "value"), [("MAX_FETCHED_BYTES", 10), ("MAX_FETCHED_KEYS", 8), ("MAX_FETCHING_S", -1.0)]
)
async def test_what_is_much_is_left_to_each(
    together: Together, monkeypatch: pytest.MonkeyPatch, limit: str, value: float
) -> None:
    monkeypatch.setattr(shared_reader, limit, value)
    fetched: dict[str, FetchedRows] = {}
    held = held_by(together, await together.run(fetched_by(fetched)))
    assert {name: len(records) for name, records in held.items()} == dict.fromkeys(ORGANIZATIONS, 3)
    assert fetched == dict.fromkeys(ORGANIZATIONS, FetchedRows())


@pytest.fixture
async def new(together: Together) -> Together:
    """New schedules of the three, of tables that are known."""
    for schedule in together.schedules:
        schedule.positions.clear()
    return together


@pytest.mark.every_postgres
@pytest.mark.parametrize("in_thread", [False, True])
@pytest.mark.parametrize("file_format", list(ExportFormat))
async def test_first_runs_have_one_scan_of_a_table(
    new: Together, database: Database, monkeypatch: pytest.MonkeyPatch, file_format: ExportFormat, in_thread: bool
) -> None:
    """Large chunks are cut apart in a thread, small ones on the event loop."""
    if in_thread:
        monkeypatch.setattr(shared_reader, "_MAX_CUT_AT_ONCE_BYTES", 0)
    connection = await database.connect()
    await connection.execute("UPDATE public.record SET secret = E'\"a\",\\n\\n2,\"' || id || E'\"\\n' WHERE id > 6")
    fetched: dict[str, FetchedRows] = {}
    exports = await new.exporter.run_together(new.schedules, [file_format] * 3, fetched_by(fetched))
    held = held_by(new, [*exports])
    assert {name: sorted(map(int, records)) for name, records in held.items()} == {
        "acme": [3, 6, 9],
        "globex": [1, 4, 7],
        "initech": [2, 5, 8],
    }
    secrets = {int(number): secret for records in held.values() for number, secret in records.items()}
    assert [secrets[number] for number in (7, 8, 9)] == [f'"a",\n\n2,"{number}"\n' for number in (7, 8, 9)]
    assert {name: rows.live_rows for name, rows in fetched.items()} == dict.fromkeys(ORGANIZATIONS, 3)
    found = [export for export in exports if isinstance(export, Export)]
    assert {export["RECORD"].window.full_reason for export in found} == {FullReason.FIRST_RUN}
    # What changes from here on is told from this snapshot on.
    await connection.execute("UPDATE public.record SET secret = 'later' WHERE id IN (1, 3)")
    assert [export["RECORD"].sent_rows for export in await new.run() if isinstance(export, Export)] == [1, 1, 0]


async def test_a_single_first_run_is_read_by_itself_in_its_snapshot(new: Together) -> None:
    [export] = await new.exporter.run_together(new.schedules[:1], [ExportFormat.CSV], [None])
    assert isinstance(export, Export)
    assert export["RECORD"].sent_rows == 3


@pytest.mark.parametrize(("max_bytes", "snapshots"), [(1, 3), (140, 2), (1000, 1)])
async def test_first_runs_that_do_not_fit_share_the_next_snapshot(
    new: Together, database: Database, monkeypatch: pytest.MonkeyPatch, max_bytes: int, snapshots: int
) -> None:
    connection = await database.connect()
    await connection.execute("ANALYZE public.record")
    monkeypatch.setattr(snapshot_reader, "MAX_FIRST_RUNS_BYTES", max_bytes)
    exports = [export for export in await new.run() if isinstance(export, Export)]
    assert [export["RECORD"].sent_rows for export in exports] == [3, 3, 3]
    # Snapshots between which nothing was written have one name.
    taken_at = {schedule.positions[EntityCode("RECORD")].taken_at for schedule in new.schedules}
    assert len(taken_at) == snapshots


async def test_first_runs_that_are_more_than_expected_are_read_by_themselves(
    new: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(shared_reader, "MAX_FIRST_RUN_BYTES", 20)
        assert [type(export) for export in await new.run()] == [AloneError] * 3
    assert all(isinstance(export, Export) for export in await new.run()), "the session can be used again"


async def test_first_runs_do_not_hold_up_others(new: Together) -> None:
    """They have a snapshot of their own."""
    await new.exporter.run(new.schedules[0])
    first, second, third = await new.run()
    assert isinstance(first, Export)
    assert isinstance(second, Export)
    assert isinstance(third, Export)
    assert second.snapshot == third.snapshot
    assert [export["RECORD"].sent_rows for export in (first, second, third)] == [0, 3, 3]


async def test_what_is_read_in_another_format_is_not_fetched_with_the_others(together: Together) -> None:
    fetched: dict[str, FetchedRows] = {}
    formats = [ExportFormat.CSV, ExportFormat.JSONL, ExportFormat.CSV]
    exports = await together.exporter.run_together(together.schedules, formats, fetched_by(fetched))
    assert all(isinstance(export, Export) for export in exports)
    assert [fetched[name].live_rows for name in ORGANIZATIONS] == [3, 0, 3]


@pytest.mark.parametrize("error", [LOST, ImagesUnreadableError(EntityCode("RECORD"))])
async def test_when_fetching_fails_each_is_read_by_itself(
    together: Together, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def fail(*_: object) -> int:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(Copier, "copy_one", fail)
        assert [type(outcome) for outcome in await together.run()] == [AloneError] * 3
    assert all(isinstance(export, Export) for export in await together.run())


async def test_rows_that_do_not_all_arrive_are_read_again(together: Together, monkeypatch: pytest.MonkeyPatch) -> None:
    copy_one = Copier.copy_one

    async def say_one_more(self: Copier, *arguments: Any) -> int:
        return 1 + await copy_one(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Copier, "copy_one", say_one_more)
        assert [type(outcome) for outcome in await together.run()] == [AloneError] * 3


async def test_after_an_error_the_rest_are_read_by_themselves(together: Together) -> None:
    async def fail(_: OpenSnapshot) -> None:
        raise LOST

    exports = await together.run([fail] * 3)
    assert sum(export is LOST for export in exports) == 1
    assert sum(isinstance(export, AloneError) for export in exports) == 2
    assert all(isinstance(export, Export) for export in await together.run())


async def test_who_has_not_begun_when_the_time_is_over_is_read_by_itself(
    together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So no job waits for others for longer, whatever they have to read."""

    async def end_the_time(_: OpenSnapshot) -> None:
        monkeypatch.setattr(snapshot_sharer, "MAX_OPEN_S", 0.0)

    exports = await together.run([end_the_time] * 3)
    assert sum(isinstance(export, Export) for export in exports) == 1
    assert sum(isinstance(export, AloneError) for export in exports) == 2


async def test_one_that_has_much_to_read_is_read_by_itself(
    together: Together, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_reader, "MAX_SHARED_KEYS", 3)
    connection = await database.connect()
    await connection.execute("UPDATE public.record SET secret = 'again' WHERE org = 'globex'")
    first, second, third = await together.run()
    assert isinstance(first, Export)
    assert isinstance(second, AloneError)
    assert isinstance(third, Export)


async def test_a_table_without_a_unique_index_is_not_read_together(together: Together, database: Database) -> None:
    connection = await database.connect()
    await connection.execute("ALTER TABLE public.record DROP CONSTRAINT record_pkey")
    await together.exporter.run(together.schedules[0])  # the catalog is known again
    first, second, third = await together.run()
    assert isinstance(first, Export), "nothing has changed for it"
    assert isinstance(second, AloneError)
    assert isinstance(third, AloneError)


@pytest.mark.parametrize(
    ("statement", "snapshots"),
    [
        ("GRANT SELECT ON public.record TO PUBLIC", 2),
        # The first repairs capture, so what it finds is out of date; the second finds what the third then knows.
        ("ALTER TABLE public.record ADD note text", 3),
    ],
)
async def test_a_changed_catalog_is_found_out_by_one_of_them(
    together: Together, database: Database, statement: str, snapshots: int
) -> None:
    connection = await database.connect()
    await connection.execute(statement)
    exports = [export for export in await together.run() if isinstance(export, Export)]
    assert len(exports) == 3
    assert len({export.snapshot for export in exports}) <= snapshots
    exports = [export for export in await together.run() if isinstance(export, Export)]
    assert (len(exports), len({export.snapshot for export in exports})) == (3, 1)


async def test_a_lock_that_cannot_be_had_is_told_to_all(
    together: Together, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_opener, "_LOCK_ATTEMPTS", 1)
    owner = await database.connect()
    async with owner.transaction():
        await owner.execute("LOCK TABLE public.record IN ACCESS EXCLUSIVE MODE")
        refused = await together.run()
    assert [error.reason for error in refused if isinstance(error, TransientError)] == [Reason.LOCK_NOT_AVAILABLE] * 3
    assert all(isinstance(export, Export) for export in await together.run())


class Cancelled:
    """Runs the three side by side; ``look`` is called with the number of the first that reads. Without it, the one with
    the number ``gone`` is cancelled before the snapshot is open.
    """

    def __init__(
        self, together: Together, look: Callable[["Cancelled", int], Awaitable[None]] | None = None, *, gone: int = 0
    ) -> None:
        self.scopes = [anyio.CancelScope() for _ in together.schedules]
        self.exports: dict[int, Export | Exception] = {}
        self.reading: OpenSnapshot | None = None
        self._together = together
        self._look = look
        self._gone = gone

    async def run(self) -> None:
        # less than a snapshot may stay open
        with anyio.fail_after(8):
            async with anyio.create_task_group() as tasks:
                for number in range(len(self.scopes)):
                    tasks.start_soon(self._run, number)
                if self._look is None:
                    for _ in range(5):
                        await anyio.lowlevel.checkpoint()  # until the first waits for others, and they for it
                    self.scopes[self._gone].cancel()

    async def _run(self, number: int) -> None:
        async def look(snapshot: OpenSnapshot) -> None:
            if self._look is not None:
                called, self._look = self._look, None
                self.reading = snapshot
                await called(self, number)

        with self.scopes[number]:
            [self.exports[number]] = await self._together.exporter.run_together(
                [self._together.schedules[number]], [ExportFormat.CSV], [look]
            )


async def test_one_that_is_cancelled_while_it_waits_holds_up_no_other(together: Together) -> None:
    async def cancel_next(run: Cancelled, number: int) -> None:
        run.scopes[(number + 1) % 3].cancel()

    run = Cancelled(together, cancel_next)
    await run.run()
    assert [isinstance(export, Export) for export in run.exports.values()] == [True, True]


async def test_one_that_is_cancelled_while_it_reads_leaves_the_rest_to_themselves(together: Together) -> None:
    async def cancel_itself(run: Cancelled, number: int) -> None:
        run.scopes[number].cancel()
        await anyio.sleep_forever()

    run = Cancelled(together, cancel_itself)
    await run.run()
    assert [isinstance(export, AloneError) for export in run.exports.values()] == [True, True]


async def test_one_that_reads_when_the_snapshot_is_taken_away_is_read_by_itself(
    together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job that opened the snapshot has read, and is cancelled. It costs the one that reads no attempt."""
    monkeypatch.setattr(snapshot_sharer, "_CLOSING_S", 0.1)

    async def cancel_the_first(run: Cancelled, number: int) -> None:
        if number == 0:  # it opened the snapshot: look at the next one
            run._look = cancel_the_first
            return
        run.scopes[0].cancel()
        assert run.reading is not None
        await run.reading.connection.execute("SELECT pg_sleep(60)")

    run = Cancelled(together, cancel_the_first)
    await run.run()
    exports = [run.exports[number] for number in (1, 2)]
    assert [isinstance(export, AloneError) for export in exports] == [True, True], exports


@pytest.mark.parametrize("gone", [0, 1])
async def test_one_that_is_cancelled_before_the_snapshot_is_open_holds_up_no_other(
    together: Together, gone: int
) -> None:
    run = Cancelled(together, gone=gone)
    await run.run()
    assert {number for number, export in run.exports.items() if isinstance(export, Export)} == {0, 1, 2} - {gone}
