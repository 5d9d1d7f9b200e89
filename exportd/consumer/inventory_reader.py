"""Reads the manifests and the objects at a location, and checks the objects while reading."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from exportd.consumer.contents import Contents, Examination
from exportd.consumer.inventory import FoundManifest, Inventory, manifest_name
from exportd.manifest.document import MAX_MANIFEST_BYTES, MAX_MANIFESTS_BYTES, ManifestPart
from exportd.model.entity import OrganizationId
from exportd.model.errors import PermanentError, Reason
from exportd.model.job import JobId
from exportd.model.schedule import ExportFormat
from exportd.stores.layout import ObjectKey
from exportd.stores.location import Location
from exportd.stores.store import Store, chunks_within, read_within


class ManifestsTooLargeError(PermanentError):
    """A place holds more manifests than are read at once. Chains cannot be found in only a part of them."""

    def __init__(self, location: Location, max_bytes: int) -> None:
        super().__init__(
            f"The manifests in {location} have more than {max_bytes} bytes together, and are not read. Name "
            "one organization, or a folder that holds fewer of them; if they are not exportd's, remove them.",
            reason=Reason.MANIFEST_DAMAGED,
        )


class ReadProgress:
    """Counts the bytes of a long reading; does nothing unless a subclass shows them."""

    def begin(self, size_bytes: int) -> None:
        """The reading of ``size_bytes`` begins."""

    def advance(self, size_bytes: int) -> None:
        """Another ``size_bytes`` have been read."""


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """The limits of what a reader keeps in memory: the bytes of manifests, and the number of objects; None is
    unlimited.
    """

    manifests_bytes: int
    objects: int | None = None


async def read_inventory(
    store: Store,
    location: Location,
    organization: OrganizationId | None = None,
    limits: ReadLimits | None = None,
) -> Inventory:
    """Everything below the location's prefix; only the manifests of ``organization``, when there is one.

    Raises PermanentError NOT_FOUND when no manifest is there, MANIFEST_DAMAGED when there are more objects than the
    ``limits`` allow, and ManifestsTooLargeError.
    """
    prefix = f"{location.prefix}/" if location.prefix else ""
    limits = limits or ReadLimits(MAX_MANIFESTS_BYTES)
    left_bytes = limits.manifests_bytes
    manifests: list[FoundManifest] = []
    objects: dict[ObjectKey, int] = {}
    async for info in store.list(prefix):
        name = manifest_name(info.key)
        if name is None:
            objects[info.key] = info.size_bytes
            if limits.objects is not None and len(objects) > limits.objects:
                raise PermanentError(
                    f"{location} holds more than {limits.objects} objects, and is not verified here. `exportd verify`"
                    " verifies it.",
                    reason=Reason.MANIFEST_DAMAGED,
                )
        elif organization in {None, name.organization}:
            document = await read_within(store, info.key, MAX_MANIFEST_BYTES)
            left_bytes -= len(document)
            if left_bytes < 0:
                raise ManifestsTooLargeError(location, limits.manifests_bytes)
            manifests.append(FoundManifest(info.key, name, document))
    if not manifests:
        whose = f" of the organization {organization}" if organization else ""
        raise PermanentError(
            f"There are no manifests{whose} in {location}. Name the place that holds the folders orgId=….",
            reason=Reason.NOT_FOUND,
        )
    return Inventory(tuple(manifests), objects)


async def find_manifest(store: Store, location: Location, job: JobId) -> FoundManifest:
    """The manifest of a job. Raises PermanentError NOT_FOUND when there is none, or one in each of several folders."""
    prefix = f"{location.prefix}/" if location.prefix else ""
    names = [(info.key, name) async for info in store.list(prefix) if (name := manifest_name(info.key)) is not None]
    found = [(key, name) for key, name in names if name.job == job]
    if len(found) != 1:
        keys = ", ".join(key for key, _ in found)
        raise PermanentError(
            f"There are several manifests of job {job}: {keys}. Name one of these folders."
            if found
            else f"There is no manifest of job {job} in {location}; it holds those of {len(names)} other jobs.",
            reason=Reason.NOT_FOUND,
        )
    key, name = found[0]
    return FoundManifest(key, name, await read_within(store, key, MAX_MANIFEST_BYTES))


async def examine(
    store: Store,
    key: ObjectKey,
    part: ManifestPart,
    file_format: ExportFormat,
    on_chunk: Callable[[bytes], Awaitable[None]],
) -> Contents:
    """What an object holds, which its manifest lists as ``part``; ``on_chunk`` gets its bytes.

    An object that is longer than its manifest says is not read to its end, and no more of it is decompressed. Raises as
    ``Store.read``.
    """
    examination = Examination(file_format, max_content_bytes=part.content_bytes)
    async with aclosing(chunks_within(store, key, part.size_bytes)) as chunks:
        async for chunk in chunks:
            await anyio.to_thread.run_sync(examination.feed, chunk)
            await on_chunk(chunk)
    return examination.contents()


async def fetch(
    store: Store,
    key: ObjectKey,
    part: ManifestPart,
    to: Path,
    *,
    file_format: ExportFormat,
    on_bytes: Callable[[int], None] | None = None,
) -> None:
    """Copy an object into the file ``to``, and compare it with its manifest.

    Raises PermanentError: NOT_FOUND when it is not there, MANIFEST_DAMAGED when it is another.
    """
    async with await anyio.open_file(to, "wb") as file:

        async def keep(chunk: bytes) -> None:
            await file.write(chunk)
            if on_bytes is not None:
                on_bytes(len(chunk))

        contents = await examine(store, key, part, file_format, keep)
    if contents.size_bytes > part.size_bytes:
        raise _damaged(f"{key} is not what was delivered: it has more than the manifest's {part.size_bytes} bytes")
    if contents.sha256 != part.sha256:
        raise _damaged(f"{key} is not what was delivered: its SHA-256 differs from the manifest's")
    if contents.problem is not None:
        raise _damaged(f"{key} cannot be loaded, though it is what was delivered: it {contents.problem}")


def _damaged(sentence: str) -> PermanentError:
    return PermanentError(
        f"{sentence}. `exportd verify` shows everything that is wrong there.", reason=Reason.MANIFEST_DAMAGED
    )
