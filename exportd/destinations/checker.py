"""Checks a destination: probes it, finds settings with which it would work, and says what to grant.

If an upload is refused, weaker checksums are tried one after the other, because some stores need another one. The first
that works is reported. The configuration is not changed.
"""

import pwd
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from os import geteuid

import anyio

from exportd.destinations.finding import CheckResult, PermissionFinding, PermissionState
from exportd.destinations.opener import DestinationOpener, layout_of, settings_of
from exportd.destinations.permission import Grant, Permission, grants_of, writing_replaces
from exportd.destinations.prober import Prober
from exportd.destinations.record import DestinationRecord
from exportd.model.clock import Clock
from exportd.model.entity import OrganizationId
from exportd.model.errors import ExportdError, Reason, TransientError
from exportd.model.schedule import Origin
from exportd.settings.destination_schema import DestinationSettings, S3Destination
from exportd.stores.layout import organization_folder
from exportd.stores.location import Location, location_of
from exportd.stores.store import Store

MAX_CHECKS = 2
MAX_CHECK_S = 45.0

_CHECKSUMS = ("FULL_OBJECT", "PIECES", "NONE")


class DestinationChecker:
    """Checks destinations. One instance serves all destinations."""

    def __init__(self, opener: DestinationOpener, clock: Clock) -> None:
        self._opener = opener
        self._clock = clock

    async def check(self, declared: DestinationSettings, *, measures: bool = True) -> CheckResult:
        """Probe a destination, and its speed if ``measures``. Raises SettingsError when it cannot be opened."""
        result = await self._probe(declared, measures=measures)
        if not _may_want_other_settings(result):
            return result
        for setting, variant in _variants(declared):
            other = await self._probe(variant, measures=measures)
            if not _has_failed(other):
                return _joined(result, other, setting)
        return result

    async def grants(self, declared: DestinationSettings) -> tuple[Grant, ...]:
        """The policies and commands that the owner of the destination has to set up."""
        identity = ""
        if isinstance(declared, S3Destination):
            with suppress(ExportdError):  # it is a placeholder where it cannot be found out
                identity = await self._opener.own_identity(declared)
        return grants_of(declared, folder=_folder(declared), identity=identity, user=_own_user())

    async def _probe(self, declared: DestinationSettings, *, measures: bool) -> CheckResult:
        destination = self._opener.open(declared, afresh=True)
        try:
            prober = Prober(
                destination.store,
                _folder(declared),
                clock=self._clock,
                replaces=writing_replaces(declared.type),
                measures=measures,
            )
            return await prober.probe()
        finally:
            await destination.store.aclose()


class StoredDestinationChecker:
    """Checks destinations of the database for people who ask a daemon. A check holds a few pieces in memory and makes
    some dozen requests, so there are ``MAX_CHECKS`` at a time.
    """

    def __init__(self, opener: DestinationOpener, clock: Clock) -> None:
        self._opener = opener
        self._checker = DestinationChecker(opener, clock)
        self._running = 0

    async def check(self, record: DestinationRecord) -> tuple[CheckResult, tuple[Grant, ...]]:
        """Check a destination. Returns the findings, and what to grant. No objects stay at the destination.

        Raises TransientError DESTINATION_UNAVAILABLE when too many run, or it takes longer than ``MAX_CHECK_S``;
        SettingsError when it cannot be opened.
        """
        with self._place():
            settings = self._settings(record)
            result = await self._checker.check(settings, measures=False)
            return result, await self._checker.grants(settings)

    def open(self, record: DestinationRecord) -> tuple[Store, Location]:
        """Open the store of a destination, which the caller has to close. Returns it with the folder of the
        destination's objects. No request is made yet.

        Raises SettingsError when it cannot be opened.
        """
        settings = self._settings(record)
        return self._opener.open(settings).store, location_of(settings)

    async def grants(self, record: DestinationRecord) -> tuple[Grant, ...]:
        """What to grant. No request is made to the destination. Raises as ``open`` does."""
        with self._place():
            return await self._checker.grants(self._settings(record))

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._running >= MAX_CHECKS:
            raise TransientError(
                f"{MAX_CHECKS} destinations are being checked already. Try again later.",
                reason=Reason.DESTINATION_UNAVAILABLE,
            )
        self._running += 1
        try:
            with anyio.fail_after(MAX_CHECK_S):
                yield
        except TimeoutError as error:
            raise TransientError(
                f"The check was given up after {MAX_CHECK_S:.0f} seconds: the destination answers too slowly.",
                reason=Reason.DESTINATION_UNAVAILABLE,
            ) from error
        finally:
            self._running -= 1

    def _settings(self, record: DestinationRecord) -> DestinationSettings:
        if record.origin is Origin.API:
            return self._opener.settings_made(record.declaration)
        return settings_of(record.declaration)


def _folder(declared: DestinationSettings) -> str:
    return organization_folder(OrganizationId(declared.organization), layout_of(declared))


def _has_failed(result: CheckResult) -> bool:
    return any(result.state(finding) is not PermissionState.THERE for finding in result.findings if finding.is_required)


def _joined(declared: CheckResult, other: CheckResult, setting: str) -> CheckResult:
    """Join two results: the findings about required permissions are those of the declared settings, the others those
    with the changed setting.
    """
    required = {
        permission: finding
        if finding.state is PermissionState.THERE
        else PermissionFinding(PermissionState.MISSING, finding.sentence)
        for permission, finding in declared.findings.items()
        if permission.is_required
    }
    return replace(
        other,
        findings={**other.findings, **required},
        setting=setting,
        left_over=(*declared.left_over, *other.left_over),
    )


def _may_want_other_settings(result: CheckResult) -> bool:
    """Whether other settings may help. They do not when the store does not answer. A checksum that the store computes
    differently looks like damage in transit.
    """
    return _has_failed(result) and result.state(Permission.WRITE) is not PermissionState.OUT_OF_REACH


def _variants(declared: DestinationSettings) -> Iterator[tuple[str, DestinationSettings]]:
    """Weaker checksums than the one declared, as the lines of the configuration that ask for them."""
    if isinstance(declared, S3Destination):
        for checksum in _CHECKSUMS[_CHECKSUMS.index(declared.checksum) + 1 :]:
            yield f'checksum = "{checksum}"', declared.model_copy(update={"checksum": checksum})


def _own_user() -> str:
    try:
        return pwd.getpwuid(geteuid()).pw_name
    except KeyError:
        return str(geteuid())
