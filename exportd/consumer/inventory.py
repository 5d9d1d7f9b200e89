"""What a location holds: manifests, and the objects that they list. Pure.

A location may hold several destinations, by their prefixes. It may also be a copy of a destination, or a folder of one,
so that keys begin with less or more than in the manifest. An object is looked for beside the manifest that lists it:
what follows ``orgId=`` is the same everywhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from exportd.model.entity import OrganizationId
from exportd.stores.layout import AnyName, Layout, ManifestName, ObjectKey, ScriptName, organization_folder, parse

_MANIFESTS = "/_manifests/"
_SCRIPTS = "/_loaders/"


@dataclass(frozen=True, slots=True)
class FoundManifest:
    """A manifest's bytes and their key. ``name`` is what the key says, not what the bytes say."""

    key: ObjectKey
    name: ManifestName
    document: bytes

    @property
    def folder(self) -> str:
        """The beginning of its destination's keys here: empty, or ending in a slash."""
        return folder_of(self.key, self.name.organization)


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a location holds: the manifests, and the size in bytes of each object that is none."""

    manifests: tuple[FoundManifest, ...]
    objects: dict[ObjectKey, int]


def manifest_name(key: str) -> ManifestName | None:
    """The name of a manifest whose key this is, below whatever prefix; None for any other key."""
    name = _name(key, _MANIFESTS)
    return name if isinstance(name, ManifestName) else None


def is_loader_script(key: str) -> bool:
    """Whether it is the key of statements that load a run, below whatever prefix."""
    return isinstance(_name(key, _SCRIPTS), ScriptName)


def folder_of(key: str, organization: OrganizationId) -> str:
    """What precedes an organization's folder in a key; empty where the key does not name it."""
    start = f"/{key}".rfind(f"/{organization_folder(organization, Layout())}")
    return key[:start] if start > 0 else ""


def object_key(listed: str, organization: OrganizationId, folder: str) -> ObjectKey:
    """The key of an object that a manifest in ``folder`` lists under ``listed``."""
    return ObjectKey(folder + listed.removeprefix(folder_of(listed, organization)))


def by_destination(found: Iterable[FoundManifest]) -> Mapping[tuple[str, OrganizationId], Sequence[FoundManifest]]:
    """The manifests by folder and organization: those of one destination."""
    groups: dict[tuple[str, OrganizationId], list[FoundManifest]] = {}
    for manifest in found:
        groups.setdefault((manifest.folder, manifest.name.organization), []).append(manifest)
    return groups


def _name(key: str, folder: str) -> AnyName | None:
    start = key.rfind("orgId=", 0, key.rfind(folder) + 1)
    if start < 0 or (start > 0 and key[start - 1] != "/"):
        return None
    return parse(key[start:], Layout())
