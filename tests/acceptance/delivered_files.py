"""A destination as its consumer sees it: objects and manifests, checked and replayed.

Of the exporter's code it uses only what reads manifests (document and chain).
"""

import gzip
import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from exportd.manifest import chain
from exportd.manifest.chain import Chain
from exportd.manifest.document import Manifest, ManifestEntity
from exportd.model.extraction import Mode
from exportd.model.schedule import ExportFormat
from tests.acceptance.sample_application import Contents, Key, Row
from tests.fixtures.file_parsers import csv_rows, jsonl_rows


class DeliveredFiles:
    """The objects and manifests at a destination, read once."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.manifests = {key: data for key, data in objects.items() if "/_manifests/" in f"/{key}"}
        self.notes = {key: data for key, data in objects.items() if "/_published/" in f"/{key}"}
        self.objects = {
            key: data for key, data in objects.items() if key not in self.manifests and key not in self.notes
        }
        self._report = chain.check(list(self.manifests.values()))

    @classmethod
    def of(cls, directory: Path) -> "DeliveredFiles":
        return cls(
            {
                path.relative_to(directory).as_posix(): path.read_bytes()
                for path in sorted(directory.rglob("*"))
                if path.is_file() and ".exportd-uploads" not in path.parts
            }
        )

    @property
    def chains(self) -> tuple[Chain, ...]:
        return self._report.chains

    def run(self, number: int) -> Manifest:
        """A manifest of the only chain, by its place in it."""
        (chain,) = self.chains
        return chain.manifests[number]

    def assert_whole(self, *, empty_files: bool = True) -> None:
        """The manifests chain without a gap, and describe exactly the objects that are there.

        An entity without records has a file if there are to be ``empty_files``, and none otherwise.
        """
        assert self._report.findings == ()
        listed: Counter[str] = Counter()
        for one in self.chains:
            assert one.complete
            for manifest in one.manifests:
                for entity in manifest.entities:
                    assert bool(entity.parts) == bool(empty_files or entity.rows), f"the files of {entity.code}"
                    assert sum(part.rows for part in entity.parts) == entity.rows
                    for part in entity.parts:
                        listed[part.key] += 1
                        data = self.objects[part.key]
                        assert (len(data), hashlib.sha256(data).hexdigest()) == (part.size_bytes, part.sha256)
                        assert len(gzip.decompress(data)) == part.content_bytes
        assert set(listed.values()) <= {1}
        assert set(listed) == set(self.objects)

    def replayed(self, of: Chain | None = None) -> Contents:
        """What a consumer holds after loading everything, in the order of a chain: the only one, if none is named."""
        (one,) = self.chains if of is None else (of,)
        held: Contents = {}
        for manifest in one.manifests:
            for entity in manifest.entities:
                records = self.records(manifest, entity)
                if entity.mode is Mode.FULL:
                    held[entity.code] = {}
                _apply(held[entity.code], records, entity)
        return held

    def records(self, manifest: Manifest, entity: ManifestEntity) -> list[Row]:
        """The records of an entity in one run, values as text, ``deleted`` last."""
        names = [field.name for field in entity.fields]
        found: list[Row] = []
        for part in entity.parts:
            content = gzip.decompress(self.objects[part.key])
            if manifest.format is ExportFormat.JSONL:
                records = [{name: _text(value) for name, value in row.items()} for row in jsonl_rows(content)]
            else:
                header, *rows = csv_rows(content)
                assert header == names
                records = [dict(zip(names, row, strict=True)) for row in rows]
            assert all(list(record) == names for record in records)
            assert len(records) == part.rows
            found += records
        return found


def _apply(held: dict[Key, Row], records: list[Row], entity: ManifestEntity) -> None:
    keys = [tuple(str(record[name]) for name in entity.key) for record in records]
    assert len(set(keys)) == len(keys), f"{entity.code}: a key comes twice in one run"
    deleted = 0
    for key, record in zip(keys, records, strict=True):
        if record.pop("deleted") == "true":
            deleted += 1
            held.pop(key, None)
        else:
            held[key] = record
    assert deleted == entity.deleted_rows


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)
