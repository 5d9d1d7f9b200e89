"""Which settings all daemons of a database have to agree on."""

from exportd.settings.difference import EFFECTS, OF_THE_DATABASE, OF_THE_HOST, agreed
from exportd.settings.schema import Settings

DSN = "postgresql://exportd:secret@db.example.com/product"


def test_every_key_is_the_databases_or_the_hosts() -> None:
    """Somebody who adds a key has to say whether two daemons may differ in it."""
    assert set(EFFECTS) == OF_THE_DATABASE | OF_THE_HOST
    assert not OF_THE_DATABASE & OF_THE_HOST


def test_values_are_compared_as_they_hold_whether_written_down_or_not() -> None:
    usual = Settings.model_validate({"database": {"dsn": DSN}})
    same = Settings.model_validate(
        {"database": {"dsn": DSN}, "capture": {"horizon_hours": 168.0}, "limits": {"jobs": 9}}
    )
    other = Settings.model_validate({"database": {"dsn": DSN}, "s3": {"endpoint": "https://s3.example.com"}})
    assert agreed(usual) == agreed(same)
    assert agreed(usual)["spool.retention_hours"] == "24.0"
    assert {key for key, value in agreed(other).items() if agreed(usual)[key] != value} == {"s3.endpoint"}
