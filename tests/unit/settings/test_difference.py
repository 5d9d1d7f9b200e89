"""What a reload would change."""

from pathlib import Path
from typing import Any

import pytest

from exportd.model.entity import Entity, EntityCode, TableName
from exportd.settings.difference import Change, ChangeKind, agreed, compare, effective
from exportd.settings.schema import Settings

DSN = "postgresql://exportd:first@db.example.com/product"


def settings(**sections: Any) -> Settings:
    return Settings.model_validate({"database": {"dsn": DSN}, **sections})


def changes(old: Settings, new: Settings) -> list[tuple[ChangeKind, str]]:
    found = compare(old, new, old_entities={}, new_entities={}).changes
    return [(change.kind, change.subject) for change in found]


def destination(code: str, **others: str) -> dict[str, str]:
    return {"code": code, "organization": "acme", "directory": "/srv", **others}


def schedule(code: str, **others: Any) -> dict[str, Any]:
    return {"code": code, "organization": "acme", "entities": "ALL", "unit": "DAY", "period": 1, **others}


def entity(code: str, table: str = "bills") -> Entity:
    return Entity(EntityCode(code), code, code.lower(), TableName("public", table), ("id",), None, ())


def test_the_same_settings_differ_in_nothing() -> None:
    one = settings(destination=[destination("lake")], schedule=[schedule("daily")])
    assert changes(one, one.model_copy(deep=True)) == []


def test_a_value_holds_at_once_or_after_a_restart() -> None:
    old = settings()
    new = settings(limits={"jobs": 7}, spool={"directory": Path("/elsewhere"), "budget": "1 GB"})
    assert changes(old, new) == [
        (ChangeKind.NEEDS_RESTART, "spool.directory"),
        (ChangeKind.CHANGED, "spool.budget"),
        (ChangeKind.CHANGED, "limits.jobs"),
    ]
    held = effective(old, new)
    assert held.spool.directory == old.spool.directory
    assert held.spool.budget == new.spool.budget
    assert held.limits.jobs == 7


def test_a_restart_is_asked_for_until_it_happens() -> None:
    old, new = settings(), settings(control={"socket": "/elsewhere.sock"})
    held = effective(old, new)
    assert held == old
    assert changes(held, new) == [(ChangeKind.NEEDS_RESTART, "control.socket")]


@pytest.mark.parametrize(
    "dsn", [DSN.replace("first", "second"), DSN.replace("exportd:first@", "other@"), f"{DSN}?sslmode=require"]
)
def test_other_credentials_hold_at_once(dsn: str) -> None:
    new = settings(database={"dsn": dsn})
    assert changes(settings(), new) == [(ChangeKind.CHANGED, "database.dsn")]
    assert effective(settings(), new).database.dsn == dsn


@pytest.mark.parametrize(
    "dsn",
    [DSN.replace("product", "other"), DSN.replace("db.", "db2."), f"{DSN}?host=db2", DSN.replace(".com/", ".com:6/")],
)
def test_another_database_waits_for_a_restart(dsn: str) -> None:
    new = settings(database={"dsn": dsn})
    assert changes(settings(), new) == [(ChangeKind.NEEDS_RESTART, "database.dsn")]
    assert effective(settings(), new).database.dsn == DSN


def test_a_difference_holds_no_password() -> None:
    new = settings(database={"dsn": DSN.replace("first", "second")})
    difference = compare(settings(), new, old_entities={}, new_entities={})
    text = f"{difference.to_json()} {difference}"
    assert "first" not in text
    assert "second" not in text
    assert "***" in text


def test_things_are_known_by_organization_and_code() -> None:
    old = settings(
        destination=[destination("lake"), destination("attic")], schedule=[schedule("daily"), schedule("weekly")]
    )
    new = settings(
        destination=[destination("lake", prefix="new"), destination("shed")],
        schedule=[schedule("weekly"), schedule("daily", period=2), schedule("daily", organization="other")],
    )
    found = compare(old, new, old_entities={}, new_entities={}).changes
    assert found == (
        Change(ChangeKind.CHANGED, "destination lake of acme", "prefix"),
        Change(ChangeKind.ADDED, "destination shed of acme"),
        Change(ChangeKind.REMOVED, "destination attic of acme"),
        Change(ChangeKind.CHANGED, "schedule daily of acme", "period"),
        Change(ChangeKind.ADDED, "schedule daily of other"),
    )


def test_the_catalogs_entities_are_compared() -> None:
    one = settings()
    before, after = entity("BILLS"), entity("BILLS", "invoices")
    difference = compare(
        one,
        one,
        old_entities={before.code: before, EntityCode("PLANS"): entity("PLANS")},
        new_entities={after.code: after, EntityCode("USERS"): entity("USERS")},
    )
    assert [str(change) for change in difference.changes] == [
        "entity BILLS: changed (table)",
        "entity USERS: added",
        "entity PLANS: removed",
    ]


def test_a_difference_tells_itself_as_json() -> None:
    difference = compare(settings(), settings(control={"listen": "127.0.0.1:80"}), old_entities={}, new_entities={})
    assert difference.to_json() == {
        "added": [],
        "removed": [],
        "changed": [],
        "needsRestart": [{"subject": "control.listen", "details": '"" → 127.0.0.1:80'}],
    }
    assert [str(change) for change in difference.changes] == [
        'control.listen: changed, but needs a restart ("" → 127.0.0.1:80)'
    ]


def test_values_are_compared_as_they_hold_whether_written_down_or_not() -> None:
    usual = settings()
    same = settings(capture={"horizon_hours": 168.0}, limits={"jobs": 9})
    other = settings(s3={"endpoint": "https://s3.example.com"})
    assert agreed(usual) == agreed(same)
    assert agreed(usual)["spool.retention_hours"] == "24.0"
    assert {key for key, value in agreed(other).items() if agreed(usual)[key] != value} == {"s3.endpoint"}
