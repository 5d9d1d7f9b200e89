"""One screen for a person, from the status document."""

from typing import Any

from exportd.cli.status import StatusTable, head, tables, warnings

STATUS: dict[str, Any] = {
    "version": "1.2",
    "database": "shop on db.example.com as exportd",
    "startedAt": "2026-03-09T04:00:00.000Z",
    "uptimeSeconds": 93_784.5,
    "services": {"ticker": {"running": True}, "dispatcher": {"running": False}},
    "listener": {"listening": False},
    "wheel": {"schedules": 3, "paused": 1, "nextDue": "2026-03-10T06:15:00.000Z"},
    "queue": {"pending": 2, "running": 1, "oldestWaiting": "2026-03-10T05:59:58.123Z"},
    "leases": [],
    "spool": {"id": "1", "directory": "/spool", "usedBytes": 1_500_000, "budgetBytes": 6_000_000_000},
    "entities": {},
    "destinations": [],
}


def test_the_head_says_what_is_wrong() -> None:
    assert head(STATUS) == {
        "daemon": "exportd 1.2, up 1 d 2 h, shop on db.example.com as exportd",
        "paused": "no",
        "services": "stopped: dispatcher",
        "changes": "polling",
        "schedules": "3, 1 paused, next due 2026-03-10 06:15:00Z",
        "jobs": "1 running, 2 waiting, waiting since 2026-03-10 05:59:58Z",
        "spool": "1.5 MB of 6.0 GB in /spool",
    }
    assert head({**STATUS, "listener": {"listening": True}})["changes"] == "LISTEN"
    paused = head({**STATUS, "paused": {"since": "2026-03-10T05:00:00.000Z", "by": "unix:ann"}})
    assert paused["paused"] == "since 2026-03-10 05:00:00Z by unix:ann"


def test_only_tables_with_rows_are_shown() -> None:
    assert list(tables(STATUS)) == []


def test_several_daemons_are_listed_and_one_alone_is_not() -> None:
    here = {
        "id": "1",
        "host": "north",
        "pid": 7,
        "version": "1.2",
        "running": True,
        "startedAt": "2026-03-09T04:00:00.000Z",
        "seenAt": "2026-03-10T06:00:00.000Z",
    }
    there = {**here, "id": "2", "host": "south", "running": False}
    assert list(tables({**STATUS, "daemons": [here]})) == []
    (shown,) = tables({**STATUS, "daemons": [here, there]})
    assert shown.rows == (
        ("1", "north, process 7", "1.2", "since 2026-03-09 04:00:00Z", "this one"),
        ("2", "south, process 7", "1.2", "not seen since 2026-03-10 06:00:00Z", ""),
    )


def test_disagreements_are_told_as_they_are() -> None:
    assert warnings(STATUS) == []
    assert warnings({**STATUS, "disagreements": [{"message": "They differ."}]}) == ["They differ."]


def test_trouble_with_the_database_and_entities_out_of_order_come_first() -> None:
    status = {
        **STATUS,
        "listener": {"listening": False, "trouble": "It refuses."},
        "entities": {"BILLS": {"outOfOrder": "there is no table."}, "COINS": {}, "DEALS": {"stalled": "it sleeps"}},
        "leases": [
            {"jobId": "7", "stalls": [{"since": "2026-03-10T05:00:00.000Z", "message": "It waits for a lock."}]}
        ],
        "disagreements": [{"message": "They differ."}],
    }
    assert warnings(status) == [
        "The database: It refuses.",
        "BILLS is out of order, its jobs fail: there is no table.",
        "Job 7 waits since 2026-03-10 05:00:00Z: It waits for a lock.",
        "DEALS stalls: it sleeps.",
        "They differ.",
    ]


def test_a_running_job_tells_what_it_does() -> None:
    lease = {"jobId": "1", "organization": "acme", "phase": "EXTRACTING", "startedAt": "2026-03-10T05:00:00.000Z"}
    leases = [
        {**lease, "attempt": 1, "schedule": "hourly", "progress": "1 of 2 entities"},
        {**lease, "attempt": 2, "phase": "PUBLISHING"},
    ]
    (shown,) = tables({**STATUS, "leases": leases})
    assert shown.rows == (
        ("1", "hourly of acme", "extracting since 2026-03-10 05:00:00Z: 1 of 2 entities"),
        ("1", "(ad hoc) of acme", "publishing since 2026-03-10 05:00:00Z, attempt 2"),
    )


def test_a_destination_tells_what_is_known_of_it() -> None:
    destinations = [
        {"code": "good", "organization": "acme", "lastSuccess": "2026-03-10T05:00:00.000Z"},
        {
            "code": "bad",
            "organization": "acme",
            "condition": "circuit open",
            "lastFailure": {"at": "2026-03-10T05:00:00.000Z", "reason": "DENIED", "message": "…"},
        },
    ]
    (shown,) = tables({**STATUS, "destinations": destinations})
    assert shown.rows == (
        ("good", "acme", "healthy", "2026-03-10 05:00:00Z", ""),
        ("bad", "acme", "circuit open", "", "2026-03-10 05:00:00Z DENIED"),
    )


def test_entities_that_are_furthest_behind_come_first_and_do_not_fill_more_than_a_screen() -> None:
    entities: dict[str, dict[str, Any]] = {f"E{number}": {"lagSeconds": float(number)} for number in range(40)}
    entities["NEW"] = {"changesSince": "2026-03-10T05:00:00.000Z"}
    (shown,) = tables({**STATUS, "entities": entities})
    assert isinstance(shown, StatusTable)
    assert shown.rows[0] == ("E39", "39 s", "", "none")
    assert len(shown.rows) == 31
    assert shown.rows[-1][0] == "… and 11 more"
