"""The lease of one job of several that were claimed together is lost, while its holder is at work on all of them."""

from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path
from socket import gethostname
from uuid import UUID

import pytest

from exportd.jobs.job_table import SPOOL_GRACE_S
from tests.acceptance import statement_blocker
from tests.acceptance.declarations import lake_of, of_tenants
from tests.acceptance.delivered_files import DeliveredFiles
from tests.acceptance.firing import fire_together
from tests.acceptance.many_tenants import Tenants
from tests.acceptance.sample_application import BLOCKABLE_CATALOG
from tests.acceptance.twin_sites import twin_of
from tests.fixtures.daemon import Daemon, Site, leftovers, until

ORGANIZATIONS = ("acme", "globex", "initech", "umbrella")

_LOSE = """
    UPDATE exportd.job
    SET fence = fence + 1, attempt = attempt + 1, lease_holder = 'elsewhere:1',
        lease_until = clock_timestamp() + interval '1 hour'
    WHERE id = (
        SELECT id FROM exportd.job WHERE id = ANY ($1) AND state = 'RUNNING' AND phase = $2
        ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING id
"""


class TwoHosts:
    """Four organizations, each with a schedule whose first run is over, and two hosts, of which the first has a daemon.

    Its daemon claims four jobs together and stops at a point. The daemon of the other host takes one of them over.
    """

    def __init__(self, first: Site, second: Site, tenants: Tenants) -> None:
        self.first = first
        self.second = second
        self.tenants = tenants
        self.connection = tenants.connection

    @property
    def holder(self) -> Daemon:
        """The first host's daemon."""
        return self.first.daemons[-1]

    async def fire(self) -> list[UUID]:
        """Change something of each organization, and queue a job of each."""
        await self.tenants.change()
        await self.tenants.touch()
        return await fire_together(self.first, [f"{organization}-1" for organization in ORGANIZATIONS])

    async def read_by(self, blocked: int, jobs: list[UUID]) -> UUID:
        """The job on whose connection a backend reads, be it for itself or for all of them."""
        query = await self.connection.fetchval("SELECT query FROM pg_stat_activity WHERE pid = $1", blocked)
        organizations = [name for name in ORGANIZATIONS if f"'{name}'" in query]
        if len(organizations) == 1:  # a daemon that has just started knows no catalog
            return jobs[ORGANIZATIONS.index(organizations[0])]
        event = await self.holder.wait_for_event("snapshot shared", jobs=len(jobs))
        return UUID(event["job_id"])

    async def take_over(self, job: UUID) -> Daemon:
        """Let a lease end, and start the second host's daemon, which takes the job and ends it; the daemon.

        The parts, should they be in the spool of the first, are not waited for any more.
        """
        await self.connection.execute(
            "UPDATE exportd.job SET lease_until = clock_timestamp() - make_interval(secs => $2) WHERE id = $1",
            job,
            SPOOL_GRACE_S + 1,
        )
        taker = await self.second.start()
        await taker.wait_for_event("job started", job_id=str(job))
        await self.first.succeeded(self.connection, job)
        return taker

    async def lose_one_of(self, jobs: list[UUID], phase: str) -> UUID:
        """Another one takes a job of a phase, as a claim does, and does nothing with it; which job.

        Not one that is in the statement that waits, for that one has locked the rows of its jobs.
        """

        async def lost() -> UUID | None:
            found: UUID | None = await self.connection.fetchval(_LOSE, jobs, phase)
            return found

        taken = await until(lost, what=f"a job that is {phase} and not locked")
        return next(job for job in jobs if job == taken)

    async def assert_ended_once(self, jobs: list[UUID], taken: UUID, *, others_before: Collection[list[str]]) -> None:
        """Each job has one end and one delivery. The one that was taken over was ended by the second; one of the others
        only if it was put back to be read by itself: one of ``others_before`` are the reasons of its earlier attempts.
        """
        daemons = {str(daemon.process.pid): daemon for site in (self.first, self.second) for daemon in site.daemons}
        for job in jobs:
            row = await self.first.succeeded(self.connection, job)
            *before, last = await self.connection.fetch(
                "SELECT split_part(holder, ':', 2) AS pid, reason FROM exportd.attempt"
                " WHERE job_id = $1 ORDER BY fence",
                job,
            )
            reasons = [attempt["reason"] for attempt in before]
            ended_by = daemons[last["pid"]]
            if job == taken:
                assert ended_by in self.second.daemons
                assert set(reasons) == {"INTERRUPTED"}
            else:
                assert row["attempt"] == 1, "what happened to another does not count"
                assert reasons in others_before
                assert ended_by in self.first.daemons
            await ended_by.wait_for_event("job ended", job_id=str(job), state="SUCCEEDED")
            ends = [event for daemon in daemons.values() for event in daemon.events_named("job ended", job_id=str(job))]
            assert len(ends) == 1
        delivered = await self.connection.fetch("SELECT job_id FROM exportd.delivery WHERE job_id = ANY ($1)", jobs)
        assert sorted(row["job_id"] for row in delivered) == sorted(jobs)
        lost = {event["job_id"] for daemon in daemons.values() for event in daemon.events_named("lease lost")}
        assert lost & set(map(str, jobs)) == {str(taken)}
        for organization in ORGANIZATIONS:
            DeliveredFiles.of(self.first.destination(lake_of(organization))).assert_whole()

    async def assert_exact(self) -> None:
        """After one more run, each consumer holds what the tables hold."""
        for organization in ORGANIZATIONS:
            await self.first.succeeded(self.connection, await self.first.fire(f"{organization}-1"))
            lake = self.first.destination(lake_of(organization))
            bucket = DeliveredFiles.of(lake)
            bucket.assert_whole()
            assert bucket.replayed() == await self.tenants.contents(organization)
            assert (await self.first.quickly("verify", str(lake), configured=False)).returncode == 0


@pytest.fixture
async def hosts(site: Site, tmp_path: Path) -> AsyncIterator[TwoHosts]:
    connection = await site.database.connect()
    tenants = Tenants(connection, ORGANIZATIONS)
    await tenants.open()
    await connection.execute(statement_blocker.INSTALL)
    # Without places for short jobs, the first claims nothing else while the jobs of the test run.
    site.configure(
        BLOCKABLE_CATALOG,
        {
            **of_tenants(site, ORGANIZATIONS),
            "limits": {"jobs": 1, "short_jobs": 0, "delivering_jobs": 0},
        },
    )
    twin = twin_of(site, tmp_path / "twin")
    try:
        hosts = TwoHosts(site, twin, tenants)
        await site.start()
        for organization in ORGANIZATIONS:
            await site.succeeded(connection, await site.first_job(connection, f"{organization}-1"))
        yield hosts
        assert await hosts.holder.stop() == 0
        assert leftovers(twin.spool) == set()
    finally:
        twin.close()
    await site.assert_clean(*(site.destination(lake_of(organization)) for organization in ORGANIZATIONS))


READ = ((None, "EXTRACTING", True), (None, "EXTRACTING", False), (statement_blocker.SEALING, "EXTRACTING", False))
"""In turn: the one whose rows come at the moment is lost, one that waits for its turn, one that was read."""

DELIVERED = (
    (statement_blocker.PUBLISHING, "SEALED", False),
    (statement_blocker.DELIVERING, "PUBLISHING", False),
    (statement_blocker.SUCCEEDING, "PUBLISHING", False),
)


@pytest.mark.slow
@pytest.mark.parametrize("points", [READ, DELIVERED], ids=["read", "delivered"])
async def test_a_job_that_is_lost_in_the_middle_ends_once_and_the_others_go_on(
    hosts: TwoHosts, points: Sequence[tuple[str | None, str, bool]]
) -> None:
    """What its first holder has published already is replaced. The other host's daemon begins when the first knows."""
    connection, keeper = hosts.connection, await hosts.first.database.connect()
    for where, phase, is_read in points:
        if where is None:
            await connection.execute("UPDATE public.accounts SET name = 'blocked'")
        async with statement_blocker.blocking(keeper, where) as closed:
            jobs = await hosts.fire()
            blocked = await closed.blocked_backend()
            await hosts.holder.wait_for_event("jobs claimed together", jobs=len(jobs))
            if where is None:
                read = await hosts.read_by(blocked, jobs)
                taken = read if is_read else next(job for job in jobs if job != read)
                await hosts.lose_one_of([taken], phase)
                # It extends its leases now, and finds out before any row has come.
                await connection.execute("""SELECT pg_notify('exportd_events', '{"kind": "cancel_requested"}')""")
                await hosts.holder.wait_for_event("lease lost", job_id=str(taken))
            else:
                taken = await hosts.lose_one_of(jobs, phase)
        await hosts.holder.wait_for_event("lease lost", job_id=str(taken))
        for job in jobs:
            if job != taken:
                await hosts.first.succeeded(connection, job)
                await hosts.holder.wait_for_event("job ended", job_id=str(job))
        now_held = await connection.fetchval("SELECT lease_holder FROM exportd.job WHERE id = $1", taken)
        assert now_held == "elsewhere:1", "the first has left it alone"
        assert await hosts.holder.stop() == 0
        taker = await hosts.take_over(taken)
        # With the one that reads, or that has opened it, the snapshot is gone.
        await hosts.assert_ended_once(jobs, taken, others_before=([],) if where else ([], ["READ_BY_ITSELF"]))
        shown = (await hosts.second.quickly("job", "show", str(taken))).stdout.splitlines()
        assert [line.split()[-2] for line in shown if line.endswith(" INTERRUPTED")] == [
            f"{gethostname()}:{hosts.holder.process.pid}",
            "elsewhere:1",
        ]
        assert await taker.stop() == 0
        await connection.execute("UPDATE public.accounts SET name = 'through' WHERE name = 'blocked'")
        await hosts.first.start()
    await hosts.assert_exact()
