"""Publishes what describes a delivery, when all its objects are there: the loader kit, and last the manifest."""

from functools import partial

import structlog

from exportd.consumer.loaders.kit import statements
from exportd.delivery.transfer import named
from exportd.destinations.open_destinations import Destination
from exportd.manifest.document import Manifest, render, sha256_of
from exportd.model.errors import ExportdError, PermanentError
from exportd.stores.layout import ManifestName, ScriptName, build
from exportd.stores.retrying import RetryBudget

_logger = structlog.stdlib.get_logger()


async def publish_manifest(manifest: Manifest, destination: Destination, retry: RetryBudget) -> str:
    """Write the manifest to a destination; its SHA-256, which the next one names.

    May be repeated: equal manifests are equal bytes. Raises TransientError or PermanentError that names the
    destination.
    """
    document = render(manifest)
    key = build(ManifestName(manifest.organization, manifest.job_id), destination.layout)
    try:
        await retry.call(partial(destination.store.put, key, document))
    except ExportdError as error:
        raise named(destination.code, error) from error
    return sha256_of(document)


async def publish_loader_kit(manifest: Manifest, destination: Destination, retry: RetryBudget) -> None:
    """Write the scripts that load the job, one for each database of the destination's loader kit.

    An export whose increments no key tells apart gets none. Raises TransientError or PermanentError.
    """
    if destination.location is None:
        return
    for dialect in destination.loader_kit:
        try:
            script = statements(manifest, dialect, destination.location)
        except PermanentError as error:
            _logger.warning("no loader script", destination=destination.code, dialect=dialect, error=error.sentence)
            continue
        key = build(ScriptName(manifest.organization, manifest.job_id, dialect), destination.layout)
        await retry.call(partial(destination.store.put, key, script.encode()))
