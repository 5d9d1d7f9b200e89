"""The content of a location: manifests, and the objects that they list. Pure.

A location may hold several destinations with different prefixes. It may also be a copy of a destination, or a folder of
one, so that keys begin with less or more than in the manifest. An object is searched beside the manifest that lists it:
the part of the key from ``orgId=`` on is the same everywhere.
"""

from dataclasses import dataclass

from exportd.model.entity import OrganizationId
from exportd.stores.layout import (
    AnyName,
    Layout,
    ManifestName,
    ObjectKey,
    PublicationName,
    ScriptName,
    organization_folder,
    parse,
)

_MANIFESTS = "/_manifests/"
_SCRIPTS = "/_loaders/"
_NOTES = "/_published/"


@dataclass(frozen=True, slots=True)
class FoundManifest:
    """A manifest's bytes and their key. ``name`` is read from the key, not from the bytes."""

    key: ObjectKey
    name: ManifestName
    document: bytes

    @property
    def folder(self) -> str:
        """The beginning of the destination's keys at this location: empty, or with a slash at its end."""
        return folder_of(self.key, self.name.organization)


@dataclass(frozen=True, slots=True)
class Inventory:
    """The content of a location: the manifests, and the size in bytes of each other object."""

    manifests: tuple[FoundManifest, ...]
    objects: dict[ObjectKey, int]


def manifest_name(key: str) -> ManifestName | None:
    """The name of a manifest whose key this is, below whatever prefix; None for any other key."""
    name = _name(key, _MANIFESTS)
    return name if isinstance(name, ManifestName) else None


def accompanies(key: str) -> bool:
    """Whether it is the key of what exportd writes beside the files and manifests, below whatever prefix.

    Those are statements that load a run, and its own note of what it published last.
    """
    return isinstance(_name(key, _SCRIPTS), ScriptName) or isinstance(_name(key, _NOTES), PublicationName)


def folder_of(key: str, organization: OrganizationId) -> str:
    """What precedes an organization's folder in a key; empty where the key does not name it."""
    start = f"/{key}".rfind(f"/{organization_folder(organization, Layout())}")
    return key[:start] if start > 0 else ""


def object_key(listed: str, organization: OrganizationId, folder: str) -> ObjectKey:
    """The key of an object that a manifest in ``folder`` lists under ``listed``."""
    return ObjectKey(folder + listed.removeprefix(folder_of(listed, organization)))


def _name(key: str, folder: str) -> AnyName | None:
    start = key.rfind("orgId=", 0, key.rfind(folder) + 1)
    if start < 0 or (start > 0 and key[start - 1] != "/"):
        return None
    return parse(key[start:], Layout())
