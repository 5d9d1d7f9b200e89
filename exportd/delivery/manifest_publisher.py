"""Publishes a manifest: the last thing a job does at a destination, when all its objects are there."""

from dataclasses import dataclass

from exportd.manifest.document import Manifest, render, sha256_of
from exportd.model.errors import PermanentError, TransientError
from exportd.model.schedule import DestinationCode
from exportd.stores.layout import Layout, ManifestName, ObjectKey, build
from exportd.stores.retrying import RetryBudget
from exportd.stores.store import Store


@dataclass(frozen=True, slots=True)
class PublishedManifest:
    """Where it is, and the hash that the next one will name."""

    key: ObjectKey
    sha256: str


async def publish_manifest(
    manifest: Manifest,
    *,
    destination: DestinationCode,
    store: Store,
    layout: Layout,
    retry: RetryBudget | None = None,
) -> PublishedManifest:
    """Write the manifest to a destination. May be repeated: equal manifests are equal bytes.

    Raises TransientError or PermanentError with the destination's name.
    """
    document = render(manifest)
    key = build(ManifestName(manifest.organization, manifest.job_id), layout)
    try:
        await (retry or RetryBudget()).call(lambda: store.put(key, document))
    except TransientError as error:
        sentence = f"Destination {destination}: {error.sentence}"
        raise TransientError(sentence, reason=error.reason, retry_after_s=error.retry_after_s) from error
    except PermanentError as error:
        raise PermanentError(f"Destination {destination}: {error.sentence}", reason=error.reason) from error
    return PublishedManifest(key, sha256_of(document))
