"""Removes what ended jobs left behind in a store: uploads, and objects that no manifest describes.

Where a store cannot list uploads, those that Postgres remembers (``known``) are all that can be found.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

import structlog

from exportd.model.job import Job, JobId
from exportd.stores.layout import Layout, job_prefixes, parse
from exportd.stores.store import Store, Upload

_logger = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class UploadSweep:
    """How many uploads were aborted, and how many were left: those of live jobs, and those of other programs."""

    aborted: int
    left: int


async def sweep_uploads(
    store: Store, layout: Layout, *, unfinished_jobs: Callable[[], Awaitable[Collection[JobId]]]
) -> UploadSweep:
    """Abort the uploads under the layout's prefix whose job is finished or unknown; the cleaner does so regularly.

    Raises TransientError or PermanentError.
    """
    found = [upload async for upload in store.list_uploads(layout.folder)]
    if not found:
        return UploadSweep(aborted=0, left=0)
    # Asked after the listing: an upload whose job began later cannot be in the list.
    unfinished = await unfinished_jobs()
    return await _abort(store, layout, found, lambda job: job not in unfinished)


async def sweep_job_uploads(
    store: Store, layout: Layout, job: JobId, *, known: Sequence[Upload] = (), kept: Sequence[Upload] = ()
) -> UploadSweep:
    """Abort what an earlier attempt of a job left, but for ``kept``. Only the holder of the job's lease may do this.

    Raises TransientError or PermanentError.
    """
    listed = [upload async for upload in store.list_uploads(layout.folder)]
    kept_ids = {upload.id for upload in kept}
    found = {upload.id: upload for upload in (*known, *listed) if upload.id not in kept_ids}
    return await _abort(store, layout, found.values(), lambda other: other == job)


async def remove_objects(store: Store, layout: Layout, job: Job, *, type_tokens: Collection[str]) -> int:
    """Remove the visible parts of a job; how many. Its manifest is not looked at.

    ``type_tokens`` are all that its keys may hold. Raises TransientError or PermanentError.
    """
    found = [
        info.key
        for prefix in job_prefixes(job.organization, job.due_at, type_tokens, layout)
        async for info in store.list(prefix)
        if (name := parse(info.key, layout)) is not None and name.job == job.id
    ]
    for key in found:
        await store.delete(key)
    return len(found)


async def _abort(
    store: Store, layout: Layout, found: Collection[Upload], is_leftover: Callable[[JobId], bool]
) -> UploadSweep:
    aborted = 0
    for upload in found:
        name = parse(upload.key, layout)
        if name is not None and is_leftover(name.job):
            await store.abort(upload)
            _logger.info("upload of a dead job aborted", store=store.name, key=upload.key)
            aborted += 1
    return UploadSweep(aborted=aborted, left=len(found) - aborted)
