"""What we send to Postgres is ASCII, so that a database of any encoding takes it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[3] / "exportd"

FILES = sorted(PACKAGE.rglob("*.sql"))
MODULES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = PACKAGE / "consumer" / "loaders"
"""Scripts for consumers' databases are written to destinations, and sent by their owners."""

SQL = re.compile(
    r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM|MERGE|TRUNCATE|CREATE|ALTER|DROP|GRANT|REVOKE|COMMENT ON|LOCK TABLE|SET"
    r"|NOTIFY|LISTEN|COPY|DECLARE|BEGIN|RAISE|PERFORM)\b"
)


def sql_literals(text: str) -> Iterator[str]:
    """The parts of strings of a module that hold SQL; documentation is none."""
    tree = ast.parse(text)
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value for part in node.values if isinstance(part, ast.Constant)]
        elif isinstance(node, ast.Constant) and id(node) not in documentation | inner:
            parts = [node.value]
        else:
            continue
        words = "".join(part for part in parts if isinstance(part, str))
        if SQL.search(words):
            yield words


def test_there_is_something_to_look_at() -> None:
    assert any(path.parent.name == "migrations" for path in FILES)
    assert sum(len(list(sql_literals(path.read_text(encoding="utf-8")))) for path in MODULES) > 50


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_of_sql_is_ascii(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if not line.isascii()] == []


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if SCRIPTS not in path.parents],
    ids=lambda path: path.relative_to(PACKAGE).as_posix(),
)
def test_sql_in_a_module_is_ascii(path: Path) -> None:
    found = [words for words in sql_literals(path.read_text(encoding="utf-8")) if not words.isascii()]
    assert found == []


@pytest.mark.parametrize(
    ("module", "found"),
    [
        ('"""CREATE …"""', []),
        ('x = "CREATE TABLE …"', ["CREATE TABLE …"]),
        ('x = f"-- …\\nSELECT {y}"', ["-- …\nSELECT "]),
        ('x = "…"', []),
    ],
)
def test_what_counts_as_sql(module: str, found: list[str]) -> None:
    assert [words for words in sql_literals(module) if not words.isascii()] == found
