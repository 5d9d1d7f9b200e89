"""Walks through everything that lies at a place, and compares it with the manifests."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import anyio
import anyio.to_thread

from exportd.consumer.contents import Contents, Examination
from exportd.consumer.delivery_reader import Progress, read_listing
from exportd.consumer.findings import (
    Finding,
    ListedObject,
    ManifestsReport,
    examine_deletions,
    examine_manifests,
    examine_object,
)
from exportd.consumer.place import by_destination, is_loader_script
from exportd.model.entity import OrganizationId
from exportd.stores.layout import ObjectKey
from exportd.stores.location import Location
from exportd.stores.store import Store

_AT_ONCE = 4
"""Objects that are read at the same time: small ones cost a round trip each."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found at a place. ``unlisted`` are objects that no manifest lists: an export that is being published
    or failed, whose end the daemon cleans up; or one whose manifest, the last of its schedule, was removed.
    """

    destinations: tuple[ManifestsReport, ...]
    findings: tuple[Finding, ...]
    objects: int
    size_bytes: int
    unlisted: tuple[ObjectKey, ...]


async def verify(
    store: Store, location: Location, *, organization: OrganizationId | None = None, progress: Progress | None = None
) -> Verification:
    """Read every manifest and every object that they list.

    Raises PermanentError NOT_FOUND when there is no manifest, and what the store says when it cannot be read.
    """
    progress = progress or Progress()
    listing = await read_listing(store, location, organization)
    reports = tuple(
        examine_manifests(folder, owner, found) for (folder, owner), found in by_destination(listing.manifests).items()
    )
    listed = [object_ for report in reports for object_ in report.objects]
    # An object that is listed twice is a finding; it is read once.
    here = {each.key: each for each in listed if each.key in listing.objects}
    size_bytes = sum(listing.objects[key] for key in here)
    progress.begin(size_bytes)
    contents = await _examine_all(store, here.values(), progress.advance)
    findings = [finding for report in reports for finding in report.findings]
    whole: list[tuple[ListedObject, Contents]] = []
    for each in listed:
        found = contents.get(each.key)
        finding = examine_object(each, found)
        if finding is not None:
            findings.append(finding)
        elif found is not None:
            whole.append((each, found))
    findings += examine_deletions(whole)
    known = {each.key for each in listed}
    unlisted = [key for key in listing.objects if key not in known and not is_loader_script(key)]
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
        for each in waiting:
            contents[each.key] = await _examine(store, each, on_bytes)

    async with anyio.create_task_group() as reading:
        for number in range(_AT_ONCE):
            reading.start_soon(work, name=f"verify {number}")
    return contents


async def _examine(store: Store, listed: ListedObject, on_bytes: Callable[[int], None]) -> Contents:
    examination = Examination(listed.format)
    async for chunk in store.read(listed.key):
        await anyio.to_thread.run_sync(examination.feed, chunk)
        on_bytes(len(chunk))
    return examination.contents()
