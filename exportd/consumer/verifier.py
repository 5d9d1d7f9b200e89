"""Verifies delivered objects: reads all objects at a location, and compares them with the manifests.

A daemon verifies destinations on request, one at a time. That takes no slot of its exports.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import anyio
import anyio.to_thread

from exportd.consumer.contents import Contents
from exportd.consumer.findings import (
    FindingKind,
    ListedObject,
    ManifestsReport,
    VerificationFinding,
    examine_deletions,
    examine_manifests,
    examine_object,
)
from exportd.consumer.inventory import accompanies
from exportd.consumer.inventory_reader import (
    ManifestsTooLargeError,
    ReadLimits,
    ReadProgress,
    examine,
    read_inventory,
)
from exportd.model.clock import Clock
from exportd.model.entity import OrganizationId
from exportd.model.errors import ExportdError, Reason, TransientError
from exportd.stores.layout import ObjectKey
from exportd.stores.location import Location
from exportd.stores.store import Store

MAX_VERIFICATION_S = 3600.0
"""How long a daemon may verify one destination. `exportd verify` has no such limit."""

MAX_KEPT = 100
"""Destinations of which a daemon remembers the newest verification."""

MAX_FINDINGS = 100
"""How many findings a daemon remembers. It only counts the others."""

_OF_A_DAEMON = ReadLimits(manifests_bytes=8 << 20, objects=100_000)
"""The limits of a daemon, so that the files of an organization cannot fill its memory."""

_CLOSING_S = 5.0

_AT_ONCE = 4
"""How many objects are read at the same time, because each small one costs a round trip."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found at a location. ``unlisted`` are objects that no manifest lists: those of an export that is being
    published, or that failed and will be cleaned up by the daemon; or those whose manifest, the last of its schedule,
    was removed.
    """

    destinations: tuple[ManifestsReport, ...]
    findings: tuple[VerificationFinding, ...]
    objects: int
    size_bytes: int
    unlisted: tuple[ObjectKey, ...]


async def verify(
    store: Store,
    location: Location,
    *,
    organization: OrganizationId | None = None,
    progress: ReadProgress | None = None,
    limits: ReadLimits | None = None,
) -> Verification:
    """Read every manifest and every object that they list. If there are too many manifests, that is the only finding.

    Raises PermanentError NOT_FOUND when there is no manifest, and the store's TransientError or PermanentError when it
    cannot be read.
    """
    progress = progress or ReadProgress()
    try:
        inventory = await read_inventory(store, location, organization, limits)
    except ManifestsTooLargeError as error:
        return Verification((), (VerificationFinding(FindingKind.MANIFESTS_TOO_LARGE, error.sentence),), 0, 0, ())
    # In a thread, because it takes long and a daemon has other work.
    reports = await anyio.to_thread.run_sync(examine_manifests, inventory.manifests)
    listed = [expected for report in reports for expected in report.objects]
    # An object that is listed twice is a finding; it is read once.
    here = {expected.key: expected for expected in listed if expected.key in inventory.objects}
    size_bytes = sum(inventory.objects[key] for key in here)
    progress.begin(size_bytes)
    contents = await _examine_all(store, here.values(), progress.advance)
    findings = [finding for report in reports for finding in report.findings]
    whole: list[tuple[ListedObject, Contents]] = []
    for expected in listed:
        found_contents = contents.get(expected.key)
        finding = examine_object(expected, found_contents)
        if finding is not None:
            findings.append(finding)
        elif found_contents is not None:
            whole.append((expected, found_contents))
    findings += examine_deletions(whole)
    known = {expected.key for expected in listed}
    unlisted = [key for key in inventory.objects if key not in known and not accompanies(key)]
    return Verification(
        destinations=reports,
        findings=tuple(findings),
        objects=len(here),
        size_bytes=size_bytes,
        unlisted=tuple(unlisted) if organization is None else (),
    )


async def _examine_all(
    store: Store, listed: Iterable[ListedObject], on_bytes: Callable[[int], None]
) -> dict[ObjectKey, Contents]:
    contents: dict[ObjectKey, Contents] = {}
    waiting = iter(listed)

    async def count(chunk: bytes) -> None:
        on_bytes(len(chunk))

    async def work() -> None:
        for expected in waiting:
            file_format = expected.manifest.format
            contents[expected.key] = await examine(store, expected.key, expected.part, file_format, count)

    async with anyio.create_task_group() as reading:
        for number in range(_AT_ONCE):
            reading.start_soon(work, name=f"verify {number}")
    return contents


class VerificationState(StrEnum):
    """How far a daemon is with verifying a destination."""

    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"
    """The destination could not be read, or not in time."""
    CANCELLED = "CANCELLED"


@dataclass(slots=True, eq=False)
class DestinationVerification(ReadProgress):
    """What a daemon found, or has found so far, at a destination. Times are aware UTC.

    ``read_bytes`` of ``size_bytes`` (None: not known yet) have been read. ``sentence`` says why it failed;
    ``findings`` are the first ``MAX_FINDINGS`` of ``count``, and ``runs`` is how many manifests were read.
    """

    destination_id: UUID
    actor: str
    started_at: datetime
    state: VerificationState = VerificationState.RUNNING
    finished_at: datetime | None = None
    size_bytes: int | None = None
    read_bytes: int = 0
    objects: int = 0
    runs: int = 0
    count: int = 0
    findings: tuple[VerificationFinding, ...] = ()
    sentence: str = ""

    def begin(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes

    def advance(self, size_bytes: int) -> None:
        self.read_bytes += size_bytes

    def take(self, found: Verification) -> None:
        """Record the result."""
        self.state = VerificationState.DONE
        self.objects = found.objects
        self.runs = sum(len(chain.manifests) for report in found.destinations for chain in report.chains)
        self.count, self.findings = len(found.findings), found.findings[:MAX_FINDINGS]


@dataclass(frozen=True, slots=True)
class _Work:
    verification: DestinationVerification
    store: Store
    location: Location
    organization: OrganizationId


class DeliveryVerifier:
    """Verifies destinations for people who ask this daemon, one at a time. A service: ``run`` until cancelled.

    The results are kept in memory until the daemon ends.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[UUID, DestinationVerification] = {}
        self._asked = anyio.Event()
        self._work: _Work | None = None
        self._scope: anyio.CancelScope | None = None

    def newest(self, destination_id: UUID) -> DestinationVerification | None:
        """The newest verification of a destination by this daemon."""
        return self._known.get(destination_id)

    def running(self, destination_id: UUID) -> DestinationVerification | None:
        """The verification of this destination that runs. Raises TransientError when another one's does."""
        if self._work is None:
            return None
        if self._work.verification.destination_id != destination_id:
            raise TransientError(
                "This daemon verifies another destination. Ask again when that has ended; `exportd verify` verifies"
                " without the daemon.",
                reason=Reason.DESTINATION_UNAVAILABLE,
                retry_after_s=30.0,
            )
        return self._work.verification

    def start(
        self,
        destination_id: UUID,
        organization: OrganizationId,
        opened: Callable[[], tuple[Store, Location]],
        *,
        actor: str,
    ) -> DestinationVerification:
        """Verify what the organization has at a destination; one that runs there already is the answer.

        ``opened`` opens the place, which is closed at the end. Raises as ``running``, and what ``opened`` raises.
        """
        if (already := self.running(destination_id)) is not None:
            return already
        store, location = opened()
        found = DestinationVerification(destination_id, actor, self._clock.now())
        self._known.pop(destination_id, None)
        self._known[destination_id] = found
        while len(self._known) > MAX_KEPT:
            del self._known[next(iter(self._known))]
        self._work = _Work(found, store, location, organization)
        self._asked.set()
        return found

    def cancel(self, destination_id: UUID) -> DestinationVerification | None:
        """End the verification of a destination; the newest one, which has ended then."""
        if self._work is not None and self._work.verification.destination_id == destination_id:
            self._work.verification.state = VerificationState.CANCELLED
            if self._scope is not None:
                self._scope.cancel()
        return self.newest(destination_id)

    async def run(self) -> None:
        """Carry out requests until cancelled."""
        while True:
            await self._asked.wait()
            self._asked = anyio.Event()
            if (work := self._work) is not None:
                try:
                    await self._verify(work)
                finally:
                    self._end(work.verification)
                    with anyio.move_on_after(_CLOSING_S, shield=True):
                        await work.store.aclose()
                    self._work = None

    async def _verify(self, work: _Work) -> None:
        found = work.verification
        with anyio.move_on_after(MAX_VERIFICATION_S) as self._scope:
            if found.state is VerificationState.CANCELLED:
                return
            try:
                found.take(
                    await verify(
                        work.store,
                        work.location,
                        organization=work.organization,
                        progress=found,
                        limits=_OF_A_DAEMON,
                    )
                )
            except (ExportdError, BaseExceptionGroup) as error:
                first = _first(error)
                if not isinstance(first, ExportdError):
                    raise
                found.state, found.sentence = VerificationState.FAILED, first.sentence

    def _end(self, found: DestinationVerification) -> None:
        self._scope = None
        found.finished_at = self._clock.now()
        if found.state is VerificationState.RUNNING:
            found.state = VerificationState.FAILED
            found.sentence = (
                f"It was ended after {MAX_VERIFICATION_S / 3600:g} hours, or by the end of the daemon. `exportd verify`"
                " has no such limit."
            )


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
