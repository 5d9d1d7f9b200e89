"""The test of the test: an exporter that is wrong in a small way does not get past the oracle."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from exportd.extraction.statement import Statements
from exportd.extraction.window import SnapshotText
from tests.fixtures.postgres import Database
from tests.integration.exactness.exactness_run import ExactnessRun, WrongWindowError

_RUNS = 400
"""By then the oracle must have noticed; it takes a few runs."""


def _only_transactions_that_began_later(_: Statements, begins: Any) -> str:
    """Misses what was open during the previous run and has committed since."""
    return f"l.xid >= pg_snapshot_xmax({begins.snapshot})"


def _everything_from_the_oldest_open_transaction_on(_: Statements, begins: Any) -> str:
    """Sends again what the previous run has sent already."""
    return f"l.xid >= {begins.xmin}"


def _changed_in(method: str, change: Callable[[str], str]) -> Callable[..., str]:
    """The statement that a method makes, changed."""
    made = getattr(Statements, method)
    return lambda *arguments, **options: change(made(*arguments, **options))


def _deletions_of_records_that_are_there(statement: str) -> str:
    return statement.replace("WHERE NOT EXISTS", "WHERE true OR NOT EXISTS")


def _the_first_image(statement: str) -> str:
    return statement.replace("l.seq DESC", "l.seq")


def _changes_of_every_organization(statement: str) -> str:
    return re.sub(
        r"""t\."org" OPERATOR\("pg_catalog"\.=\) ('o\d'|k\.organization|asked\.organization)""", "true", statement
    )


def _one_key_of_each_statement(statement: str) -> str:
    return re.sub(r"(l\.key_\d)(?=[,)])", r"\1[1:1]", statement)


def _another_place(statement: str) -> str:
    """What is read together gets into the hands of the next."""
    return statement.replace("asked.place - 1 AS place", "asked.place % 2 AS place")


def _nothing_is_unlogged(statements: Statements, _: SnapshotText, __: object) -> str:
    return f"SELECT FROM {statements.entity.table} WHERE false"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "wrong", "words"),
    [
        ("_since", _only_transactions_that_began_later, "missed"),
        ("_since", _everything_from_the_oldest_open_transaction_on, "without a change|never was"),
        *(
            (method, _changed_in(method, change), words)
            for methods, change, words in (
                (("deleted", "deleted_of"), _deletions_of_records_that_are_there, "not gone|keys twice"),
                (("deleted", "deleted_of"), _the_first_image, "not the last image"),
                (("changed", "changed_of", "full_of"), _changes_of_every_organization, "not the table's"),
                (("changed", "changed_of"), _one_key_of_each_statement, "changes missed"),
                (("changed_of", "full_of"), _another_place, "missed|not the table's"),
            )
            for method in methods
        ),
        ("unlogged", _nothing_is_unlogged, "changes missed"),
    ],
)
async def test_a_wrong_window_is_noticed(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    wrong: Callable[..., str],
    words: str,
) -> None:
    monkeypatch.setattr(Statements, method, wrong)
    with pytest.raises(WrongWindowError, match=words):
        # Windows in which a record is deleted, comes back and is deleted again have to be long.
        await ExactnessRun(database, seed=1, max_pause_s=0.5, growing=method == "unlogged").run(_many)


def _many(counts: Counter[str]) -> bool:
    return counts["runs"] >= _RUNS
