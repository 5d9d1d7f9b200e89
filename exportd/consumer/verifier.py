"""Verifies delivered objects: reads all of them at a location, and compares them with the manifests."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import anyio

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
from exportd.consumer.inventory import by_destination, is_loader_script, is_note
from exportd.consumer.inventory_reader import ManifestsTooLargeError, ReadProgress, examine, read_inventory
from exportd.model.entity import OrganizationId
from exportd.stores.layout import ObjectKey
from exportd.stores.location import Location
from exportd.stores.store import Store

_AT_ONCE = 4
"""Objects that are read at the same time: small ones cost a round trip each."""


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
) -> Verification:
    """Read every manifest and every object that they list; none when there is too much of them, which is a finding.

    Raises PermanentError NOT_FOUND when there is no manifest, and the store's TransientError or PermanentError when it
    cannot be read.
    """
    progress = progress or ReadProgress()
    try:
        inventory = await read_inventory(store, location, organization)
    except ManifestsTooLargeError as error:
        return Verification((), (VerificationFinding(FindingKind.MANIFESTS_TOO_LARGE, error.sentence),), 0, 0, ())
    reports = tuple(
        examine_manifests(folder, owner, found)
        for (folder, owner), found in by_destination(inventory.manifests).items()
    )
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
    unlisted = [key for key in inventory.objects if key not in known and not is_loader_script(key) and not is_note(key)]
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

    async def work() -> None:
        for expected in waiting:
            contents[expected.key] = await _examine(store, expected, on_bytes)

    async with anyio.create_task_group() as reading:
        for number in range(_AT_ONCE):
            reading.start_soon(work, name=f"verify {number}")
    return contents


async def _examine(store: Store, listed: ListedObject, on_bytes: Callable[[int], None]) -> Contents:
    async def count(chunk: bytes) -> None:
        on_bytes(len(chunk))

    return await examine(store, listed.key, listed.part, listed.file_format, count)
