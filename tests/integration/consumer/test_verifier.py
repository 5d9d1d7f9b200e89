"""A delivered directory, damaged in every way that may happen: each damage is found, named, and has a remedy."""

import gzip
import json
import shutil
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from exportd.cli.delivered import print_statements, verification_document, verify_place
from exportd.cli.output import Exit
from exportd.consumer import inventory_reader
from exportd.consumer.findings import FindingKind
from exportd.consumer.verifier import Verification, verify
from exportd.manifest.chain import ChainFindingKind
from exportd.manifest.document import Manifest, parse, render
from exportd.model.errors import PermanentError, SettingsError
from exportd.model.extraction import Mode
from exportd.model.schedule import DialectName, ExportFormat
from exportd.stores.directory.store import DirectoryStore
from exportd.stores.layout import ObjectKey
from exportd.stores.location import parse_location
from exportd.stores.opener import open_location
from tests.fixtures.daemon import files_in
from tests.fixtures.deliveries import Change, Lake, Table

ACCOUNTS = Table("ACCOUNTS", (("id", "integer", None), ("name", "string", None)))
BILLS = Table("BILLS", (("id", "string", "uuid"), ("total", "float", None)))


def lake_of(
    directory: Path, *, prefix: str = "", file_format: ExportFormat = ExportFormat.CSV, empty_files: bool = True
) -> Lake:
    """Four runs: complete, two increments of which the second holds the first again, and one without changes."""
    directory.mkdir(parents=True, exist_ok=True)
    lake = Lake(directory, prefix=prefix, file_format=file_format, part_rows=2, empty_files=empty_files)
    accounts = [("1", "a"), ("2", None), ("3", ""), ("4", 'say "x",\n'), ("5", "true")]
    lake.run(Change(ACCOUNTS, accounts, full=True), Change(BILLS, [("b1", "1.50")], full=True))
    lake.run(Change(ACCOUNTS, [("6", "f")], deleted=[("1", "a")]), Change(BILLS))
    lake.run(Change(ACCOUNTS, [("6", "g")], deleted=[("1", "a"), ("2", None)]), Change(BILLS), redelivers=1)
    lake.run(Change(ACCOUNTS), Change(BILLS))
    return lake


async def verified(place: Path | str) -> Verification:
    location = parse_location(str(place))
    store = open_location(location)
    return await verify(store, location)


@pytest.mark.parametrize("file_format", list(ExportFormat))
@pytest.mark.parametrize(("prefix", "empty_files"), [("", True), ("product/eu", True), ("", False)])
async def test_a_whole_delivery_is_found_whole(
    tmp_path: Path, prefix: str, empty_files: bool, file_format: ExportFormat
) -> None:
    lake_of(tmp_path, prefix=prefix, file_format=file_format, empty_files=empty_files)
    found = await verified(tmp_path)
    assert (found.findings, found.unlisted) == ((), ())
    (report,) = found.destinations
    assert [(len(chain.manifests), chain.complete) for chain in report.chains] == [(4, True)]
    assert found.objects == sum(len(entity.parts) for run in report.chains[0].manifests for entity in run.entities)
    assert found.size_bytes == sum(path.stat().st_size for path in files_in(tmp_path) if path.suffix == ".gz")


async def test_an_export_with_a_start_date_is_verified_beside_the_runs(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    dated = lake.dated_export(Change(BILLS, [("b1", "9")]))
    found = await verified(tmp_path)
    assert (found.findings, found.unlisted) == ((), ())
    assert {len(chain.manifests) for report in found.destinations for chain in report.chains} == {1, 4}
    (tmp_path / dated.entities[0].parts[0].key).unlink()
    assert [finding.job for finding in (await verified(tmp_path)).findings] == [dated.job_id]


async def test_a_copy_may_lie_deeper_or_less_deep_and_hold_several_destinations(tmp_path: Path) -> None:
    lake_of(tmp_path / "made", prefix="product")
    shutil.copytree(tmp_path / "made" / "product", tmp_path / "copies" / "of" / "it")
    lake_of(tmp_path / "copies")
    assert (await verified(tmp_path / "copies")).findings == ()
    assert (await verified(tmp_path / "made" / "product")).findings == ()
    assert len((await verified(tmp_path / "copies")).destinations) == 2


def of_part(damage: Callable[[bytes], bytes], part: int = 1) -> Callable[[Lake], None]:
    """Changes the bytes of a file of the first run."""

    def apply(lake: Lake) -> None:
        path = lake.path(lake.runs[0], "ACCOUNTS", part)
        path.write_bytes(damage(path.read_bytes()))

    return apply


def flipped(data: bytes) -> bytes:
    return data[:20] + bytes([data[20] ^ 1]) + data[21:]


def remove_part(lake: Lake) -> None:
    lake.path(lake.runs[0], "ACCOUNTS", 2).unlink()


def swap_parts(lake: Lake) -> None:
    one, other = (lake.path(lake.runs[0], "ACCOUNTS", part) for part in (1, 2))
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)


def remove_manifest(number: int) -> Callable[[Lake], None]:
    return lambda lake: lake.manifest_path(lake.runs[number]).unlink()


def edit(number: int, change: Callable[[Manifest], Manifest]) -> Callable[[Lake], None]:
    """Rewrites a manifest as exportd would have written it."""

    def apply(lake: Lake) -> None:
        path = lake.manifest_path(lake.runs[number])
        path.write_bytes(render(change(parse(path.read_bytes()))))

    return apply


def reformat(lake: Lake) -> None:
    path = lake.manifest_path(lake.runs[3])
    path.write_text(json.dumps(json.loads(path.read_bytes()), indent=2))


def garble(lake: Lake) -> None:
    lake.manifest_path(lake.runs[1]).write_bytes(b'{"schema_version": 1')


def swap_manifests(lake: Lake) -> None:
    one, other = (lake.manifest_path(lake.runs[number]) for number in (1, 2))
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)


def forget_deletion(manifest: Manifest) -> Manifest:
    first = replace(manifest.entities[0], deleted_rows=0)
    return replace(manifest, entities=(first, *manifest.entities[1:]))


def move_rows(manifest: Manifest) -> Manifest:
    """Another count in two parts, and the same sum."""
    first = manifest.entities[0]
    one, other, *others = first.parts
    parts = (replace(one, rows=one.rows - 1), replace(other, rows=other.rows + 1), *others)
    return replace(manifest, entities=(replace(first, parts=parts), *manifest.entities[1:]))


def rename_field(manifest: Manifest) -> Manifest:
    first = manifest.entities[0]
    fields = (first.fields[0], replace(first.fields[1], name="title"), *first.fields[2:])
    return replace(manifest, entities=(replace(first, fields=fields), *manifest.entities[1:]))


def skip_window(manifest: Manifest) -> Manifest:
    first = manifest.entities[0]
    window = replace(first.window, previous="7:7:")
    return replace(manifest, entities=(replace(first, window=window), *manifest.entities[1:]))


def unmark(manifest: Manifest) -> Manifest:
    return replace(manifest, redelivers=())


def repack(lake: Lake) -> None:
    """A record more, in a file that is a good gzip file."""
    path = lake.path(lake.runs[3], "ACCOUNTS")
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + b"9,more,false\n", mtime=0))


DAMAGES = [
    (remove_part, {FindingKind.OBJECT_MISSING}, "0002"),
    (of_part(flipped), {FindingKind.OBJECT_ALTERED}, "SHA-256"),
    (of_part(lambda data: data[:-5]), {FindingKind.OBJECT_ALTERED}, "bytes; the manifest says"),
    (of_part(lambda data: data + b"x", 2), {FindingKind.OBJECT_ALTERED}, "0002"),
    (of_part(lambda data: b"", 2), {FindingKind.OBJECT_ALTERED}, "has 0 bytes"),
    (swap_parts, {FindingKind.OBJECT_ALTERED}, "account"),
    (repack, {FindingKind.OBJECT_ALTERED}, "the manifest says"),
    # The third run repeats from where the first one ended, which cannot be seen any more.
    (remove_manifest(0), {ChainFindingKind.PREDECESSOR_MISSING, ChainFindingKind.GAP}, "which is not here"),
    (remove_manifest(1), {ChainFindingKind.PREDECESSOR_MISSING}, "which is not here"),
    (garble, {ChainFindingKind.UNREADABLE, ChainFindingKind.PREDECESSOR_MISSING}, "cannot be read"),
    (reformat, {FindingKind.MANIFEST_ALTERED}, "it was edited"),
    (swap_manifests, {FindingKind.MANIFEST_MISPLACED}, "under a wrong name"),
    (
        edit(1, forget_deletion),
        {FindingKind.OBJECT_MISCOUNTED, ChainFindingKind.PREDECESSOR_CHANGED},
        "hold 1 deletions; the manifest says 0",
    ),
    (edit(2, unmark), {ChainFindingKind.OVERLAP_UNMARKED, ChainFindingKind.PREDECESSOR_CHANGED}, "without saying so"),
    (edit(3, skip_window), {ChainFindingKind.GAP}, "changes in between may be missing"),
    (edit(3, rename_field), {FindingKind.OBJECT_MISCOUNTED}, "another header line"),
    (edit(0, move_rows), {FindingKind.OBJECT_MISCOUNTED, ChainFindingKind.PREDECESSOR_CHANGED}, "holds 2 records"),
]


@pytest.mark.parametrize(("damage", "kinds", "words"), DAMAGES)
async def test_damage_is_found_and_named(
    tmp_path: Path,
    damage: Callable[[Lake], None],
    kinds: set[FindingKind | ChainFindingKind],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(lake_of(tmp_path))
    assert await verify_place(str(tmp_path), None, as_json=True) is Exit.FAILED
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert {finding["kind"] for finding in report["findings"]} == kinds
    assert any(words in finding["sentence"] for finding in report["findings"])
    assert all(finding["remedy"] for finding in report["findings"])


async def test_both_of_two_swapped_files_are_named(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    swap_parts(lake)
    found = await verified(tmp_path)
    keys = [part.key for part in lake.runs[0].entities[0].parts[:2]]
    assert [(finding.key, finding.job, finding.entity) for finding in found.findings] == [
        (key, lake.runs[0].job_id, "ACCOUNTS") for key in keys
    ]


async def test_objects_of_a_removed_last_manifest_are_reported_and_no_error(tmp_path: Path) -> None:
    """It may be the run that is being published now."""
    lake = lake_of(tmp_path)
    remove_manifest(3)(lake)
    (tmp_path / "notes.txt").write_text("another program's")
    found = await verified(tmp_path)
    assert found.findings == ()
    expected = [part.key for entity in lake.runs[3].entities for part in entity.parts]
    assert set(found.unlisted) == {*expected, "notes.txt"}
    assert verification_document("here", found)["ok"] is True


async def test_a_person_reads_what_was_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = lake_of(tmp_path)
    assert await verify_place(str(tmp_path), "org-1", as_json=False) is Exit.DONE
    printed = capsys.readouterr()
    assert "nothing is missing, nothing was altered" in printed.out
    assert "2026-03-09 05:16:00Z" in printed.out
    assert printed.err == ""
    remove_part(lake)
    assert await verify_place(f"file://{tmp_path}", None, as_json=False) is Exit.FAILED
    said = capsys.readouterr().out
    assert "OBJECT_MISSING" in said
    assert "exportd download" in said


async def test_organizations_are_looked_at_apart(tmp_path: Path) -> None:
    lake_of(tmp_path)
    other = Lake(tmp_path, organization="org/2")
    other.run(Change(ACCOUNTS, [("1", "x")], full=True))
    other.path(other.runs[0], "ACCOUNTS").unlink()
    assert len((await verified(tmp_path)).findings) == 1
    location = parse_location(str(tmp_path))
    found = await verify(open_location(location), location, organization=lake_of(tmp_path).runs[0].organization)
    assert (found.findings, found.unlisted) == ((), ())


async def test_a_place_without_manifests_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PermanentError, match="There are no manifests"):
        await verified(tmp_path)
    with pytest.raises(PermanentError, match="is no directory"):
        await verified(tmp_path / "nowhere")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with pytest.raises(SettingsError, match="GOOGLE_APPLICATION_CREDENTIALS"):
        await verified("gs://bucket/prefix")


def test_the_example_is_what_it_says(tmp_path: Path) -> None:
    modes = [{entity.mode for entity in run.entities} for run in lake_of(tmp_path).runs]
    assert modes == [{Mode.FULL}, *[{Mode.INCREMENTAL}] * 3]


class EndlessStore(DirectoryStore):
    """Its data files never end; counts the bytes that are taken from them."""

    taken_bytes = 0

    async def read(self, key: ObjectKey) -> AsyncGenerator[bytes]:
        if not key.endswith(".gz"):
            async for chunk in super().read(key):
                yield chunk
            return
        while True:
            await anyio.lowlevel.checkpoint()
            self.taken_bytes += 1000
            yield b"x" * 1000


async def test_an_object_without_end_is_left_where_the_manifest_ends(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    store = EndlessStore(tmp_path)
    with anyio.fail_after(30):
        found = await verify(store, parse_location(str(tmp_path)))
    assert {finding.kind for finding in found.findings} == {FindingKind.OBJECT_ALTERED}
    assert all("has more than the" in finding.sentence for finding in found.findings)
    files = sum(len(entity.parts) for run in lake.runs for entity in run.entities)
    assert (len(found.findings), store.taken_bytes) == (files, files * 1000)


HOSTILE_DOCUMENTS = [
    b"",
    b"\0",
    b"[" * 200_000,
    b'{"a":' * 200_000,
    b'{"schema_version":2,"x":' + b"[" * 1_000,
    b'{"schema_version":' + b"9" * 5_000 + b"}",
    b"[" + b"[]," * 600_000 + b"[]]",
]


@pytest.mark.parametrize("document_bytes", HOSTILE_DOCUMENTS, ids=range(len(HOSTILE_DOCUMENTS)))
async def test_a_hostile_manifest_is_a_finding(
    tmp_path: Path, document_bytes: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = lake_of(tmp_path)
    path = lake.manifest_path(lake.runs[3])
    path.write_bytes(document_bytes)
    assert await verify_place(str(tmp_path), None, as_json=True) is Exit.FAILED
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert finding["kind"] == ChainFindingKind.UNREADABLE
    assert len(finding["sentence"]) < 5_000
    for place, job in ((path, None), (tmp_path, str(lake.runs[3].job_id))):
        with pytest.raises(PermanentError, match="cannot be read"):
            await print_statements(str(place), job, DialectName.DUCKDB)


async def test_more_manifests_than_are_read_at_once_are_a_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is small enough; a person who may write there could add as many as fill the memory of who reads them."""
    size_bytes = sum(len(render(run)) for run in lake_of(tmp_path).runs)
    monkeypatch.setattr(inventory_reader, "MAX_MANIFESTS_BYTES", size_bytes)
    assert await verify_place(str(tmp_path), None, as_json=True) is Exit.DONE
    capsys.readouterr()
    monkeypatch.setattr(inventory_reader, "MAX_MANIFESTS_BYTES", size_bytes - 1)
    assert await verify_place(str(tmp_path), None, as_json=True) is Exit.FAILED
    shown = json.loads(capsys.readouterr().out)
    (finding,) = shown["findings"]
    assert finding["kind"] == FindingKind.MANIFESTS_TOO_LARGE
    assert str(tmp_path) in finding["sentence"]
    assert (shown["ok"], shown["chains"], shown["objects"]) == (False, [], 0)
    with pytest.raises(PermanentError, match="bytes together, and are not read"):
        await inventory_reader.read_inventory(open_location(location := parse_location(str(tmp_path))), location)


@pytest.mark.parametrize("value", ["", "A\0", "x" * 5_000, "\n-- "])
async def test_a_manifest_with_a_code_that_is_none_is_a_finding(tmp_path: Path, value: str) -> None:
    lake = lake_of(tmp_path)
    path = lake.manifest_path(lake.runs[3])
    written = json.loads(path.read_bytes())
    written["entities"][0]["code"] = value
    path.write_text(json.dumps(written))
    assert {finding.kind for finding in (await verified(tmp_path)).findings} == {ChainFindingKind.UNREADABLE}
