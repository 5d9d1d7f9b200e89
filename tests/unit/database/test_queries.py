"""Named queries: how a file of them is read, and that the code and the files name the same ones."""

import ast
from pathlib import Path

import pytest

from exportd.database import queries

_FILE = """
-- Everything about firing.

-- name: fire_schedule
-- Moves the due time on.
-- $1 id
UPDATE schedule
-- only once
SET next_due_at = $2;

-- name: all
SELECT * FROM schedule
-- the last word
"""


def test_a_file_gives_its_statements_by_name() -> None:
    found = queries.parse(_FILE, source="schedules.sql")
    assert dict(found) == {
        "fire_schedule": "UPDATE schedule\n-- only once\nSET next_due_at = $2",
        "all": "SELECT * FROM schedule",
    }


def test_an_unknown_name_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        queries.parse(_FILE, source="schedules.sql")["fire"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("SELECT 1\n-- name: one\nSELECT 1", "before the first"),
        ("SELECT 1", "before the first"),
        ("-- name: one\nSELECT 1\n-- name: one\nSELECT 2", "two queries are named one"),
        ("-- name: one\n-- nothing but words\n-- name: two\nSELECT 2", "one has no statement"),
        ("-- name: Fire It\nSELECT 1", "is no name"),
    ],
)
def test_a_malformed_file_says_what_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as raised:
        queries.parse(text, source="schedules.sql")
    assert str(raised.value).startswith("schedules.sql:")


def test_queries_are_found_where_they_are_used() -> None:
    assert _used("_SQL = queries.load('jobs')\nrun(_SQL['claim'])") == {("jobs", "claim")}
    assert _used("run(queries.load('jobs')['claim'])") == {("jobs", "claim")}
    for text in ("_SQL = queries.load('jobs')\nrun(_SQL[name])", "run(queries.load(file)['claim'])"):
        with pytest.raises(AssertionError):
            _used(text)


def test_every_query_that_is_named_exists_and_every_query_is_used() -> None:
    there = {(file.stem, name) for file in _FOLDER.glob("*.sql") for name in queries.load(file.stem)}
    used = {query for module in _PACKAGE.rglob("*.py") for query in _used(module.read_text(encoding="utf-8"))}
    assert len(there) > 100
    assert used == there


_PACKAGE = Path(queries.__file__).parents[1]
_FOLDER = Path(queries.__file__).parent / "queries"


def _used(text: str) -> set[tuple[str, str]]:
    """The queries that a module names: ``_SQL["claim"]`` where ``_SQL = queries.load("jobs")``; by file and name."""
    tree = ast.parse(text)
    files = {
        ast.unparse(node.targets[0]): _file(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and _loads(node.value)
    }
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Subscript):
            continue
        file = _file(node.value) if _loads(node.value) else files.get(ast.unparse(node.value))
        if file is not None:
            assert isinstance(node.slice, ast.Constant), f"{ast.unparse(node)}: name the query where it is used"
            found.add((file, str(node.slice.value)))
    return found


def _loads(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "queries.load"


def _file(node: ast.AST) -> str:
    assert isinstance(node, ast.Call)
    assert isinstance(node.args[0], ast.Constant), f"{ast.unparse(node)}: name the file"
    return str(node.args[0].value)
