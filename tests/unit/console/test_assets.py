"""What pages load: of others, word for word, with its licence; by addresses that never mean anything else."""

import gzip
import hashlib
import re
import tomllib
from pathlib import Path

import pytest

from exportd.console.rendering import Renderer

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("folder", ["exportd/console/static/vendor", "tests/vendor"])
def test_what_others_wrote_is_as_they_published_it_with_their_licence_beside_it(folder: str) -> None:
    listed = tomllib.loads((ROOT / folder / "vendored.toml").read_text(encoding="utf-8"))
    assert listed.keys() == {path.name for path in (ROOT / folder).glob("*.js")}
    for name, entry in listed.items():
        assert hashlib.sha256((ROOT / folder / name).read_bytes()).hexdigest() == entry["sha256"]
        assert entry["version"] in name
        assert (ROOT / folder / entry["licence_file"]).stat().st_size > 500


def test_an_address_holds_the_hash_of_what_is_there_and_is_kept_for_ever() -> None:
    for address, asset in Renderer.load().assets.items():
        assert hashlib.sha256(asset.content).hexdigest().startswith(address.split(".")[-2])
        plain, compressed = asset.answer("identity"), asset.answer("br, gzip")
        assert (plain.body, gzip.decompress(bytes(compressed.body))) == (asset.content, asset.content)
        assert compressed.headers["content-encoding"] == "gzip"
        assert "immutable" in plain.headers["cache-control"]
        assert plain.headers["x-content-type-options"] == "nosniff"


def test_nothing_moves_for_who_wants_no_motion() -> None:
    sheet = (ROOT / "exportd/console/static/console.css").read_text(encoding="utf-8")
    wanted, still = "@media (prefers-reduced-motion: no-preference) {", []
    before, *moving = sheet.split(wanted)
    assert moving
    for part in moving:
        assert "transition" in part.partition("\n}\n")[0]
        still.append(part.partition("\n}\n")[2])
    assert re.findall(r"transition|animation|@keyframes|smooth", "".join([before, *still])) == []


def test_no_page_has_a_script_or_a_style_of_its_own() -> None:
    for template in (ROOT / "exportd/console/templates").iterdir():
        text = template.read_text(encoding="utf-8")
        assert re.findall(r"<script(?! src=\"\{\{)|<style|\sstyle=|\son[a-z]+=|hx-on|javascript:", text) == [], template
