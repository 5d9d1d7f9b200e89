"""The cleaner as a service: when it looks, and that nothing ends it. What it does to real jobs is shown elsewhere."""

import anyio
from structlog.testing import capture_logs

from exportd.delivery.cleaner import Cleaner
from exportd.delivery.tables import LeftUpload, UploadTable
from exportd.destinations.open_destinations import Destinations
from exportd.jobs.job_record import JobRecord
from exportd.jobs.job_table import JobTable
from exportd.model.errors import Reason, TransientError
from exportd.model.schedule import ScheduleId
from tests.fixtures.fake_clock import FakeClock


class Table(JobTable):
    """A table without jobs, which may be out of reach."""

    def __init__(self) -> None:
        self.looks = 0
        self.away = False

    async def failed_halfway(self, schedule_id: ScheduleId | None = None) -> tuple[JobRecord, ...]:
        self.looks += 1
        if self.away:
            raise TransientError("The database is away.", reason=Reason.DATABASE_UNREACHABLE)
        return ()


class Uploads(UploadTable):
    """A table without uploads."""

    def __init__(self) -> None: ...

    async def of_finished_jobs(self) -> tuple[LeftUpload, ...]:
        return ()


async def test_it_looks_at_once_then_from_time_to_time_and_when_woken() -> None:
    clock, table = FakeClock(), Table()
    cleaner = Cleaner(Destinations(), table, Uploads(), type_tokens={}, clock=clock, interval_s=60)
    async with anyio.create_task_group() as group:
        group.start_soon(cleaner.run)
        await clock.advance(0)
        assert table.looks == 1
        await clock.advance(59)
        assert table.looks == 1
        await clock.advance(1)
        assert table.looks == 2
        cleaner.wake()
        await clock.advance(0)
        assert table.looks == 3
        group.cancel_scope.cancel()


async def test_while_the_database_is_away_it_says_so_now_and_then() -> None:
    clock, table = FakeClock(), Table()
    cleaner = Cleaner(Destinations(), table, Uploads(), type_tokens={}, clock=clock, interval_s=60)
    table.away = True
    with capture_logs() as logs:
        async with anyio.create_task_group() as group:
            group.start_soon(cleaner.run)
            await clock.advance(35)
            assert table.looks == 4
            table.away = False
            cleaner.wake()
            await clock.advance(0)
            assert table.looks == 5
            group.cancel_scope.cancel()
    assert [log["event"] for log in logs] == ["destinations not cleaned"] * 4
