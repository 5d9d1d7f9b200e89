"""Several daemons of one database: which run, what stays, what is removed, and what they report of each other."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID, uuid4

import anyio
import pytest
from structlog.testing import capture_logs

from exportd.catalog.document import Catalog, loads
from exportd.database.connector import Connector, Pool
from exportd.destinations.table import DestinationTable
from exportd.fleet.presence import PresenceKeeper
from exportd.fleet.table import COUNTED_S, EPHEMERAL_COUNTED_S, HEARTBEAT_S, RUNNING_S, DaemonIdentity, DaemonTable
from exportd.jobs.operations import JobOperator
from exportd.model.errors import PermanentError, Reason
from exportd.schedules.firing_table import ScheduleTable
from exportd.settings.schema import Settings
from tests.fixtures.fake_clock import FakeClock
from tests.fixtures.postgres import Database

CATALOG = """
    [[entity]]
    code = "THINGS"
    label = "Things"
    type_token = "thing"
    table = "public.things"
    key = ["id"]
    tenant = false
    fields = ["id"]
    """

BEFORE = """UPDATE exportd.daemon SET seen_at = seen_at - make_interval(secs => $2) WHERE host = $1"""


def schedule(code: str, **others: object) -> dict[str, object]:
    return {"code": code, "organization": "acme", "entities": "ALL", "unit": "DAY", "period": 1, **others}


def destination(code: str, **others: object) -> dict[str, object]:
    return {"code": code, "organization": "acme", "directory": f"/{code}", **others}


@dataclass
class Host:
    """A host with a daemon; ``spool_id`` is the spool's, as long as it is not wiped."""

    pool: Pool
    name: str
    clock: FakeClock = field(default_factory=FakeClock)
    spool_id: UUID = field(default_factory=uuid4)
    configuration: str = "/etc/exportd/exportd.toml"
    _configured: tuple[Settings, Catalog] | None = None

    def __post_init__(self) -> None:
        self.daemon = self._begun()

    def _begun(self) -> PresenceKeeper:
        identity = DaemonIdentity(self.spool_id, self.name, 7, self.configuration, "1.0")
        return PresenceKeeper(
            DaemonTable(self.pool), identity, DestinationTable(self.pool), ScheduleTable(self.pool), self.clock
        )

    async def configure(
        self, *codes: str, lakes: tuple[str, ...] = (), catalog: str = CATALOG, **sections: Any
    ) -> None:
        """Give the daemon a file with these schedules, and reload it."""
        everything: dict[str, Any] = {
            "database": {"dsn": "postgresql://exportd@db.example.com/product"},
            "schedule": [schedule(code) for code in codes],
            "destination": [destination(lake) for lake in lakes],
            **sections,
        }
        self._configured = Settings.model_validate(everything), loads(catalog, name="entities.toml")
        await self.daemon.declare(*self._configured)

    async def restart(self) -> None:
        """With the same file, after a process that ended without deregistering."""
        assert self._configured is not None
        self.daemon = self._begun()
        await self.daemon.declare(*self._configured)

    @property
    def sentences(self) -> list[str]:
        return [disagreement.sentence for disagreement in self.daemon.disagreements]


@dataclass
class Hosts:
    """Two hosts, and a look at what they have made of the database."""

    pool: Pool
    north: Host
    south: Host

    async def schedules(self) -> dict[str, UUID]:
        return {schedule.declaration.code: schedule.id for schedule in await ScheduleTable(self.pool).all()}

    async def names(self) -> dict[str, str]:
        declarations = [schedule.declaration for schedule in await ScheduleTable(self.pool).all()]
        return {declaration.code: declaration.name for declaration in declarations}

    async def lakes(self) -> set[str]:
        return {destination.declaration.code for destination in await DestinationTable(self.pool).all()}

    async def time_passes(self, host: Host, seconds: float) -> None:
        """A host is not seen for so long."""
        await self.pool.execute(BEFORE, host.name, seconds)


@pytest.fixture
async def hosts(database: Database) -> AsyncIterator[Hosts]:
    async with Connector(database.dsn).pool(4) as pool:
        yield Hosts(pool, Host(pool, "north"), Host(pool, "south"))


class TestOneAlone:
    async def test_has_its_way_at_its_start_and_at_each_reload(self, hosts: Hosts) -> None:
        await hosts.north.configure("nightly", "hourly", lakes=("lake", "pond"))
        first = await hosts.schedules()
        await hosts.north.configure("nightly", lakes=("pond",))
        assert await hosts.schedules() == {"nightly": first["nightly"]}
        assert await hosts.lakes() == {"pond"}
        await hosts.north.restart()
        assert await hosts.schedules() == {"nightly": first["nightly"]}
        await hosts.north.configure("hourly")
        assert set(await hosts.schedules()) == {"hourly"}
        assert hosts.north.daemon.disagreements == ()
        (own,) = hosts.north.daemon.daemons
        assert (own.host, own.running) == ("north", True)

    async def test_with_a_new_spool_takes_its_own_place(self, hosts: Hosts) -> None:
        await hosts.north.configure("nightly", "old")
        await hosts.north.daemon.deregister()
        hosts.north.spool_id = uuid4()
        await hosts.north.restart()
        await hosts.north.configure("nightly")
        assert set(await hosts.schedules()) == {"nightly"}
        assert [daemon.spool_id for daemon in hosts.north.daemon.daemons] == [hosts.north.spool_id]

    async def test_that_died_with_its_spool_takes_its_own_place_when_it_is_surely_dead(self, hosts: Hosts) -> None:
        await hosts.north.configure("nightly", "old")
        dead = hosts.north.spool_id
        hosts.north.spool_id = uuid4()
        await hosts.north.restart()
        await hosts.north.configure("nightly")
        assert set(await hosts.schedules()) == {"nightly", "old"}
        await hosts.pool.execute(
            "UPDATE exportd.daemon SET seen_at = seen_at - make_interval(secs => $2) WHERE spool_id = $1",
            dead,
            RUNNING_S + 1,
        )
        await hosts.north.daemon.look()
        assert set(await hosts.schedules()) == {"nightly"}


class TestTwo:
    async def test_with_the_same_configuration_have_nothing_to_say(self, hosts: Hosts) -> None:
        with capture_logs() as logs:
            for host in (hosts.north, hosts.south):
                await host.configure("nightly", lakes=("lake",))
            await hosts.north.daemon.look()
        assert [daemon.disagreements for daemon in (hosts.north.daemon, hosts.south.daemon)] == [(), ()]
        assert logs == []
        assert [(daemon.host, daemon.running) for daemon in hosts.north.daemon.daemons] == [
            ("north", True),
            ("south", True),
        ]

    async def test_do_not_take_away_what_only_the_other_declares(self, hosts: Hosts) -> None:
        await hosts.north.configure("both", "northern", lakes=("lake", "north-lake"))
        await hosts.south.configure("both", "southern", lakes=("lake", "south-lake"))
        before = await hosts.schedules()
        assert set(before) == {"both", "northern", "southern"}
        for host in (hosts.north, hosts.south, hosts.south, hosts.north):
            await host.restart()
        assert await hosts.schedules() == before
        assert await hosts.lakes() == {"lake", "north-lake", "south-lake"}

    async def test_take_out_what_none_declares_any_more(self, hosts: Hosts) -> None:
        for host in (hosts.north, hosts.south):
            await host.configure("nightly", "old", lakes=("lake",))
        await hosts.north.configure("nightly")
        assert set(await hosts.schedules()) == {"nightly", "old"}
        assert await hosts.lakes() == {"lake"}
        await hosts.south.configure("nightly")
        assert set(await hosts.schedules()) == {"nightly"}
        assert await hosts.lakes() == set()

    async def test_what_was_written_last_is_in_effect_whichever_starts_again(self, hosts: Hosts) -> None:
        for host in (hosts.north, hosts.south):
            await host.configure(schedule=[schedule("nightly", name="first")])
        await hosts.north.configure(schedule=[schedule("nightly", name="second")])
        await hosts.south.daemon.look()
        await hosts.south.restart()
        assert await hosts.names() == {"nightly": "second"}
        assert "not the same: nightly of acme" in hosts.south.sentences[0]
        await hosts.south.configure(schedule=[schedule("nightly", name="third")])
        await hosts.north.restart()
        assert await hosts.names() == {"nightly": "third"}
        # It is withdrawn; what the other has always said is the only word left.
        await hosts.south.configure()
        await hosts.north.daemon.look()
        assert await hosts.names() == {"nightly": "second"}

    async def test_say_once_what_differs_again_when_it_changes_and_when_it_is_over(self, hosts: Hosts) -> None:
        await hosts.north.configure("nightly")
        with capture_logs() as logs:
            await hosts.south.configure("nightly", "weekly")
            for _ in range(3):
                await hosts.north.daemon.look()
                await hosts.south.daemon.look()
        assert [log["log_level"] for log in logs] == ["warning", "warning"]
        assert [(log["host"], log["about"]) for log in logs] == [("north", "SCHEDULES"), ("south", "SCHEDULES")]
        assert "only here: weekly of acme" in logs[0]["sentence"]
        assert "only there: weekly of acme" in logs[1]["sentence"]

        with capture_logs() as logs:
            await hosts.south.configure("nightly", "monthly")
            await hosts.north.daemon.look()
        assert [("monthly" in log["sentence"], log["host"]) for log in logs] == [(True, "north"), (True, "south")]

        with capture_logs() as logs:
            await hosts.south.configure("nightly")
            await hosts.north.daemon.look()
        assert [(log["event"], log["log_level"], log["host"]) for log in logs] == [
            ("disagreement ended", "info", "north"),
            ("disagreement ended", "info", "south"),
        ]

    async def test_compare_their_settings_and_catalogs(self, hosts: Hosts) -> None:
        await hosts.north.configure("nightly", capture={"horizon_hours": 24}, limits={"jobs": 7})
        await hosts.south.configure("nightly", catalog=CATALOG.replace('["id"]', '["id", "name"]'))
        settings, catalog = hosts.south.sentences
        assert "capture.horizon_hours is 24.0 there and 168.0 here." in settings
        assert "limits" not in settings
        assert "not the same: THINGS" in catalog

    async def test_notify_each_other_at_once(self, hosts: Hosts) -> None:
        async with anyio.create_task_group() as services:
            notified = anyio.Event()
            connection = await hosts.pool.acquire()

            def take(_connection: object, _pid: int, _channel: str, payload: object) -> None:
                if json.loads(str(payload))["kind"] == "daemons_changed":
                    hosts.north.daemon.wake()
                    notified.set()

            await connection.add_listener("exportd_events", take)
            await hosts.north.configure("nightly")
            services.start_soon(hosts.north.daemon.run)
            await hosts.south.configure("nightly", "weekly")
            with anyio.fail_after(20):
                await notified.wait()
                while not hosts.north.sentences:
                    await anyio.lowlevel.checkpoint()
            await connection.remove_listener("exportd_events", take)
            await hosts.pool.release(connection)
            services.cancel_scope.cancel()
        assert hosts.north.clock.monotonic() == 0.0


async def test_a_pause_is_known_in_memory_once_the_daemon_has_been_notified(hosts: Hosts) -> None:
    await hosts.north.configure("nightly")
    operator, kinds = JobOperator(hosts.pool), list[str]()
    async with hosts.pool.acquire() as connection:

        def take(_connection: object, _pid: int, _channel: str, payload: object) -> None:
            kinds.append(json.loads(str(payload))["kind"])

        await connection.add_listener("exportd_events", take)
        pause = await operator.pause(actor="unix:ann")
        await hosts.north.daemon.look()
        assert hosts.north.daemon.pause == pause
        await operator.resume(actor="unix:ann")
        await hosts.north.daemon.look()
        assert hosts.north.daemon.pause is None
        await connection.execute("SELECT")  # notifications come before its answer
        await connection.remove_listener("exportd_events", take)
    assert kinds.count("daemons_changed") == 2


async def test_many_that_change_at_the_same_time_end_with_what_is_declared(database: Database) -> None:
    """Whatever the order, nothing fails or waits for ever; what is there is what at least one daemon declares."""
    random = Random(2026)
    codes = ("a", "b", "c", "d", "e")
    async with Connector(database.dsn).pool(12) as pool:
        hosts = [Host(pool, f"host-{number}") for number in range(5)]

        async def live(host: Host, files: list[list[str]]) -> None:
            for file in files:
                await host.configure(*file, lakes=tuple(file))
                await host.daemon.look()

        files = [[random.sample(codes, random.randrange(1, 3)) for _ in range(4)] for _ in hosts]
        async with anyio.create_task_group() as lives:
            for host, own_files in zip(hosts, files, strict=True):
                lives.start_soon(live, host, own_files)
        for host in hosts:
            await host.daemon.look()
        declared = {code for file in files for code in file[-1]}
        assert declared < set(codes)
        found = Hosts(pool, *hosts[:2])
        before = await found.schedules()
        assert set(before) == declared == await found.lakes()
        for host in hosts:
            await host.restart()
        assert await found.schedules() == before


class TestOneThatIsAway:
    async def test_keeps_what_it_declares_through_a_reboot(self, hosts: Hosts) -> None:
        await hosts.north.configure("both")
        await hosts.south.configure("both", "southern")
        before = await hosts.schedules()
        await hosts.south.daemon.deregister()
        await hosts.time_passes(hosts.south, 600)
        await hosts.north.restart()
        assert await hosts.schedules() == before
        (sentence,) = hosts.north.sentences
        assert "The daemon on south does not run." in sentence
        assert "southern of acme" in sentence
        await hosts.south.restart()
        assert await hosts.schedules() == before

    @pytest.mark.parametrize("politely", [True, False])
    async def test_is_seen_to_be_away(self, hosts: Hosts, politely: bool) -> None:
        for host in (hosts.north, hosts.south):
            await host.configure("both")
        if politely:
            await hosts.south.daemon.deregister()
        else:
            await hosts.time_passes(hosts.south, RUNNING_S + 1)
        await hosts.north.daemon.look()
        assert {daemon.host: daemon.running for daemon in hosts.north.daemon.daemons} == {"north": True, "south": False}

    async def test_does_not_count_after_a_day(self, hosts: Hosts) -> None:
        await hosts.north.configure("both")
        await hosts.south.configure("both", "southern")
        await hosts.time_passes(hosts.south, COUNTED_S - 60)
        await hosts.north.daemon.look()
        assert set(await hosts.schedules()) == {"both", "southern"}
        await hosts.time_passes(hosts.south, 61)
        with capture_logs() as logs:
            await hosts.north.daemon.look()
        assert [(log["event"], log.get("schedule")) for log in logs] == [
            ("schedule deleted, no daemon declares it any more", "southern"),
            ("disagreement ended", None),
        ]
        assert [daemon.host for daemon in hosts.north.daemon.daemons] == ["north"]
        assert set(await hosts.schedules()) == {"both"}
        assert hosts.north.sentences == []

    async def test_whose_spool_goes_with_it_is_forgotten_when_it_stops(self, hosts: Hosts) -> None:
        await hosts.north.configure("both")
        await hosts.south.configure("both", "southern", spool={"ephemeral": True})
        await hosts.north.daemon.look()
        assert hosts.north.sentences != []
        assert not any("ephemeral" in sentence for sentence in hosts.north.sentences)
        await hosts.south.daemon.deregister()
        await hosts.north.daemon.look()
        assert set(await hosts.schedules()) == {"both"}
        assert [daemon.host for daemon in hosts.north.daemon.daemons] == ["north"]

    async def test_whose_spool_goes_with_it_counts_for_minutes_after_its_death(self, hosts: Hosts) -> None:
        await hosts.north.configure("both")
        await hosts.south.configure("both", "southern", spool={"ephemeral": True})
        await hosts.time_passes(hosts.south, EPHEMERAL_COUNTED_S - 60)
        await hosts.north.daemon.look()
        assert set(await hosts.schedules()) == {"both", "southern"}
        await hosts.time_passes(hosts.south, 61)
        await hosts.north.daemon.look()
        assert set(await hosts.schedules()) == {"both"}

    async def test_is_there_again_when_it_comes_back_after_all(self, hosts: Hosts) -> None:
        await hosts.north.configure("both")
        await hosts.south.configure("both", "southern")
        await hosts.time_passes(hosts.south, COUNTED_S + 1)
        await hosts.north.daemon.look()
        await hosts.south.daemon.look()
        assert set(await hosts.schedules()) == {"both", "southern"}
        await hosts.north.daemon.look()
        assert "southern of acme" in hosts.north.sentences[0]

    async def test_can_be_forgotten_at_once_but_not_while_it_runs(self, hosts: Hosts) -> None:
        await hosts.north.configure("both")
        await hosts.south.configure("both", "southern")
        table = DaemonTable(hosts.pool)
        with pytest.raises(PermanentError, match="The daemon on south runs") as raised:
            await table.forget(hosts.south.spool_id, actor="unix:ann")
        assert raised.value.reason is Reason.STILL_RUNNING
        await hosts.south.daemon.deregister()
        await hosts.north.daemon.look()
        assert await table.forget(hosts.south.spool_id, actor="unix:ann") == "south"
        await hosts.north.daemon.look()
        assert set(await hosts.schedules()) == {"both"}
        with pytest.raises(PermanentError, match="There is no daemon") as raised:
            await table.forget(hosts.south.spool_id, actor="unix:ann")
        assert raised.value.reason is Reason.NOT_FOUND
        assert await hosts.pool.fetchval("SELECT action FROM exportd.audit") == "daemon forgotten"


async def test_a_daemon_that_runs_is_seen_all_the_time(hosts: Hosts) -> None:
    await hosts.north.configure("nightly")

    async def seen() -> object:
        return await hosts.pool.fetchval("SELECT seen_at FROM exportd.daemon")

    async with anyio.create_task_group() as services:
        services.start_soon(hosts.north.daemon.run)
        last = await seen()
        for _ in range(3):
            with anyio.fail_after(20):
                while await seen() == last:
                    await hosts.north.clock.advance(HEARTBEAT_S)
            last = await seen()
        services.cancel_scope.cancel()


async def test_a_reload_that_could_not_be_announced_is_taken_back(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The destinations were written, the schedules were not."""
    await hosts.north.configure("nightly", lakes=("lake",))

    async def refuse(*_arguments: object, **_named: object) -> None:
        raise PermanentError("It said no.", reason=Reason.QUERY_FAILED)

    with monkeypatch.context() as patched:
        patched.setattr(ScheduleTable, "reconcile", refuse)
        with pytest.raises(PermanentError, match="It said no"):
            await hosts.north.configure("nightly", lakes=("pond",))
    assert await hosts.lakes() == {"pond"}
    await hosts.north.daemon.look()
    assert await hosts.lakes() == {"lake"}
