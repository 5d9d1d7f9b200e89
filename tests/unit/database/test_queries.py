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


def test_every_file_of_queries_can_be_loaded() -> None:
    assert "migrator" in queries.stations()
    for station in queries.stations():
        assert queries.load(station)
