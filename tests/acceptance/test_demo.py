"""``exportd demo`` as a person runs it."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.acceptance.console_browser import browser_at, origin
from tests.fixtures.daemon import run
from tests.fixtures.terminal import at_a_terminal

EQUAL = "EQUAL: replaying the exports gives the tables."


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the account of the demo's Postgres may enter, also where the tests run as root."""
    with TemporaryDirectory() as path:
        Path(path).chmod(0o711)
        yield Path(path) / "demo"


def demo(folder: Path, *arguments: str) -> tuple[int, str, str]:
    outcome = run([sys.executable, "-m", "exportd", "demo", "--dir", str(folder), *arguments])
    return outcome.returncode, outcome.stdout, outcome.stderr


@pytest.mark.slow
async def test_the_demo_ends_with_equal_tables_and_leads_to_the_console_at_a_terminal(folder: Path) -> None:
    code, output, errors = await asyncio.to_thread(demo, folder, "--rows", "1000")
    assert (code, errors) == (0, "")
    assert EQUAL in output.splitlines()
    assert {path.name for path in (folder / "rebuilt").iterdir()} == {
        "org-acme.duckdb",
        "org-globex.duckdb",
        "org-initech.duckdb",
    }
    with at_a_terminal(["demo", "--dir", str(folder), "--rows", "1000"]) as terminal:
        await terminal.shows(EQUAL)
        await terminal.shows("The console is at ")
        await terminal.shows("Ctrl-C ends it.")
        address = terminal.screen.partition("The console is at ")[2].split()[0]
        with browser_at(origin(address)) as browser:
            page = await asyncio.to_thread(browser.open, address)
        assert "org-acme" in page.text
        await terminal.interrupt()
        assert await terminal.ended() == 0
        assert "Traceback" not in terminal.screen


def test_a_directory_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    code, output, errors = demo(tmp_path, "--once")
    assert code != 0
    assert output == ""
    assert "not of an earlier demo; give another --dir" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_without_duckdb_the_demo_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "duckdb.py").write_text("raise ModuleNotFoundError(\"No module named 'duckdb'\", name='duckdb')")
    folder = tmp_path / "demo"
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['exportd', 'demo', '--dir', {str(folder)!r}]"
    )
    outcome = run([sys.executable, "-c", f"{code}; from exportd.__main__ import main; main()"])
    assert outcome.returncode != 0
    assert "pip install 'exportd[replay]'" in outcome.stderr
    assert not folder.exists()
