"""Listens to notifications of the database: the daemons' own events, and the doorbell of the capture triggers.

Notifications are hints: their receivers read the tables. After a lost connection the listener backs off, LISTENs again
and reports ``reconnected``, so that the receivers read what they have missed. Changes without a notification are found
by slow polls elsewhere.

The listener also waits and tries again when the database refuses: a wrong password, too many connections, a database
that accepts no changes. It is the one service that always has a connection, so it is the one that reports the trouble.

Triggers ring the doorbell only while it is armed, because NOTIFY takes a global lock at commit (half of the throughput
at 8 writers). At the first ring it is disarmed, and armed again after a pause. Arming expires by itself, so triggers
stop ringing after a daemon has died. The doorbell is off where prepared transactions are allowed, because PREPARE
TRANSACTION fails after a NOTIFY. It is also off while the server's queue of notifications fills up because another
session listens and never reads: a transaction that rings when the queue is full cannot commit. The triggers check the
queue as well.
"""

import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime
from uuid import UUID

import anyio
import stamina
import structlog

from exportd.database import queries
from exportd.database.connector import Connection, Connector
from exportd.database.translator import translated
from exportd.model.change_log import DOORBELL_CHANNEL, EVENTS_CHANNEL, MAX_QUEUE_SHARE
from exportd.model.clock import Clock
from exportd.model.entity import EntityCode
from exportd.model.errors import ExportdError, Reason, TransientError
from exportd.model.schedule import ScheduleId
from exportd.settings.schema import LiveSettings

_SQL = queries.load("changes")

_ARMED_S = 30.0
_PAUSE_AFTER_RING_S = 5.0
_PROBE_S = 10.0
_PROBE_ARMED_S = 2.0
_LOG_PAUSE_S = 60.0
_STEADY_S = 10.0
"""A connection that is lost sooner counts as a failed attempt, so the next wait is longer."""

_logger = structlog.get_logger()

OnEvent = Callable[[str, ScheduleId | None], None]
"""Called with the kind of an event (``job_queued``, ``schedule_changed``, …) and the schedule that it names.

The kind ``reconnected`` means that events may have been missed.
"""


OnTrouble = Callable[[ExportdError | None], Awaitable[None]]
"""Called with each error for which the database cannot be listened to, and with None when it can be again."""


class WaitingChanges:
    """The entities that have changes which no run has read yet, as far as the doorbell has reported.

    It remembers for each of the ``entities`` the first ring and the newest that no run has read past. Any role may
    send a notification, so what is not an entity of the catalog is counted and forgotten.
    """

    def __init__(self, entities: Collection[EntityCode]) -> None:
        self._entities = frozenset(entities)
        self._rings: dict[EntityCode, tuple[datetime, datetime]] = {}

    def adjust(self, entities: Collection[EntityCode]) -> None:
        """Use the entities of another catalog."""
        self._entities = frozenset(entities)
        self._rings = {entity: rings for entity, rings in self._rings.items() if entity in self._entities}

    def record_ring(self, name: str, now: datetime) -> bool:
        """Record a ring. Returns False when it names no entity."""
        entity = EntityCode(name)
        if entity not in self._entities:
            return False
        first, _ = self._rings.get(entity, (now, now))
        self._rings[entity] = first, now
        return True

    def forget_read(self, read_until: Mapping[EntityCode, datetime]) -> None:
        """Forget changes that were read: for each entity, those up to the time until which every schedule has read
        it.
        """
        for entity, (first, newest) in list(self._rings.items()):
            moment = read_until.get(entity)
            if moment is None or moment <= first:
                continue
            if newest <= moment:
                del self._rings[entity]
            else:
                self._rings[entity] = newest, newest

    @property
    def since(self) -> dict[EntityCode, datetime]:
        """The entities with changes, and the time of the first ring (UTC)."""
        return {entity: first for entity, (first, _) in self._rings.items()}


async def _report_nothing(_error: ExportdError | None) -> None:
    """Report nothing: used until an owner sets its own callback."""


class Listener:
    """A service: keeps one connection listening. The doorbell is armed while ``capture.doorbell`` is set.

    ``trouble`` is why it cannot listen at the moment, None while it does or has not tried.
    """

    def __init__(
        self,
        connector: Connector,
        *,
        on_event: OnEvent,
        settings: LiveSettings,
        entities: Callable[[], Collection[EntityCode]],
        clock: Clock,
    ) -> None:
        self._connector = connector
        self._on_event = on_event
        self.on_trouble: OnTrouble = _report_nothing
        self._settings = settings
        self._entities = entities
        self._clock = clock
        self._rung = anyio.Event()
        self._lost = anyio.Event()
        self._waiting = WaitingChanges(entities())
        self._not_understood = 0
        self._next_log: dict[str, float] = {}
        self.listening = False
        self.trouble: ExportdError | None = None

    @property
    def changes_waiting(self) -> dict[EntityCode, datetime]:
        """The entities with changes that no run has read yet, and the time of the first ring (UTC)."""
        return self._waiting.since

    async def run(self) -> None:
        """Listen until cancelled, reconnecting with back-off and jitter, whatever the database refuses."""
        while True:
            async for attempt in stamina.retry_context(
                on=ExportdError, attempts=None, timeout=None, wait_initial=0.2, wait_max=15.0
            ):
                with attempt:
                    await self._try_to_listen()

    async def _try_to_listen(self) -> None:
        try:
            await self._listen()
        except ExportdError as error:
            if self.trouble is None or self.trouble.reason is not error.reason:
                _logger.warning("database cannot be listened to", reason=error.reason, error=error.sentence)
            self.trouble = error
            await self.on_trouble(error)
            raise

    async def _listen(self) -> None:
        """Listen on one connection. Returns when it is lost after ``_STEADY_S``. Raises TransientError or
        PermanentError when there is no usable connection.
        """
        async with self._connector.connection("listener") as connection:
            self._lost = anyio.Event()
            connection.add_termination_listener(self._take_loss)
            with translated("listening to the database"):
                await connection.add_listener(EVENTS_CHANNEL, self._take_event)
                await connection.add_listener(DOORBELL_CHANNEL, self._take_ring)
                armable = not await connection.fetchval(_SQL["two_phase_allowed"])
                await _require_changes(connection)
            if self.trouble is not None:
                await self.on_trouble(None)
            self.trouble = None
            self.listening = True
            since = self._clock.monotonic()
            _logger.info("listening")
            self._on_event("reconnected", None)
            try:
                with translated("listening to the database"):
                    await self._serve(connection, armable=armable)
                _logger.warning("listener lost its connection")
            except ExportdError as error:
                _logger.warning("listener lost its connection", reason=error.reason, error=error.sentence)
                lost = error.reason is Reason.DATABASE_CONNECTION_LOST
                if not lost or self._clock.monotonic() - since < _STEADY_S:
                    raise
            finally:
                self.listening = False

    async def _serve(self, connection: Connection, *, armable: bool) -> None:
        while not self._lost.is_set():
            self._rung = anyio.Event()
            await _require_changes(connection)
            wanted = armable and self._settings().capture.doorbell
            armed = wanted and await connection.fetchval(_SQL["arm_doorbell"], _ARMED_S, MAX_QUEUE_SHARE)
            if wanted and not armed and self._may_log("queue"):
                _logger.warning(
                    "the doorbell is off: the queue of notifications fills up",
                    hint="a session listens and does not read; look for an old transaction in pg_stat_activity",
                )
            await self._forget_read(connection)
            with anyio.move_on_after(_PROBE_ARMED_S if armed else _PROBE_S):
                await self._rung.wait()
            if self._rung.is_set() and not self._lost.is_set():
                await connection.execute(_SQL["disarm_doorbell"])
                await self._clock.wait_for(self._lost, self._clock.monotonic() + _PAUSE_AFTER_RING_S)

    async def _forget_read(self, connection: Connection) -> None:
        """Forget the changes that any daemon has read. Fails when the connection is lost."""
        self._waiting.adjust(self._entities())
        rows = await connection.fetch(_SQL["read_until"], list(self._waiting.since))
        self._waiting.forget_read({EntityCode(row["entity"]): row["read_until"] for row in rows})

    def _may_log(self, subject: str) -> bool:
        """Whether a minute has passed since the last log line about the subject."""
        now = self._clock.monotonic()
        if now < self._next_log.get(subject, now):
            return False
        self._next_log[subject] = now + _LOG_PAUSE_S
        return True

    def _ignore(self, payload: object) -> None:
        """Count a notification that has no meaning. Any role may send as many as it likes."""
        self._not_understood += 1
        if self._may_log("not understood"):
            _logger.warning("notification not understood", payload=str(payload)[:200], count=self._not_understood)
            self._not_understood = 0

    def _take_event(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        try:
            event = json.loads(str(payload))
            kind, named = str(event["kind"]), event.get("schedule")
            schedule = None if named is None else ScheduleId(UUID(named))
        except (ValueError, KeyError, TypeError, AttributeError):
            self._ignore(payload)
            return
        self._on_event(kind, schedule)

    def _take_loss(self, _connection: object) -> None:
        self._lost.set()
        self._rung.set()

    def _take_ring(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self._waiting.adjust(self._entities())
        if self._waiting.record_ring(str(payload), self._clock.now()):
            self._rung.set()
        else:
            self._ignore(payload)


async def _require_changes(connection: Connection) -> None:
    """Raises TransientError while the session may not write. Errors of asyncpg about a lost connection are not
    caught.
    """
    if not await connection.fetchval(_SQL["accepts_changes"]):
        raise TransientError(
            "The database accepts no changes at the moment (transaction_read_only is on). It is tried again.",
            reason=Reason.DATABASE_READ_ONLY,
        )
