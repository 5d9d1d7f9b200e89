"""Every view of jobs, schedules, destinations and status, with names that would do harm as anything but text."""

import json
import sys
from typing import Any

import pytest

from exportd.cli.main import app
from exportd.cli.socket_client import SocketClient
from tests.unit.cli.test_output import Terminal
from tests.unit.cli.test_status import STATUS
from tests.unit.model.test_foreign_text import HOSTILE

WHEN = "2026-03-09T04:00:00.000Z"
VIEWS = {
    "status": ["status"],
    "jobs": ["job", "list"],
    "job": ["job", "show", "1"],
    "schedules": ["schedule", "list"],
    "schedule": ["schedule", "show", "1", "--organization", "acme"],
    "destinations": ["destination", "list"],
    "destination": ["destination", "show", "1", "--organization", "acme"],
    "pause": ["pause"],
    "audit": ["audit"],
}


def documents(name: str) -> dict[str, Any]:
    """What a daemon answers, by the last word of the path, where everything that others choose is ``name``."""
    paused = {"paused": True, "since": WHEN, "by": name}
    edited = {"dtCreated": WHEN, "createdBy": name, "dtLastModified": WHEN, "lastModifiedBy": name, "version": 1}
    owned = {"id": "1", "organization": name, "code": name, "name": name, "origin": name, "paused": paused, **edited}
    entity = {"mode": "FULL", "reason": name, "rows": 1, "deletedRows": 0, "files": 1, "sizeBytes": 5}
    job = {
        **{"id": "1", "organization": name, "schedule": name, "dueAt": WHEN, "status": "FAILED", "phase": "SEALED"},
        **{
            "attempt": 1,
            "reason": name,
            "message": name,
            "deliveredTo": [name],
            "entities": {name: entity},
            "parts": [],
            "totals": {"rows": 1, "deletedRows": 0, "files": 1, "sizeBytes": 5},
            "deliveries": [{"destination": name, "publishedAt": WHEN, "manifestSha256": name}],
            "attempts": [{"number": 1, "holder": name, "startedAt": WHEN, "reason": name, "message": name}] * 2,
        },
    }
    schedule = {
        **{"operationalDataTypes": [name], "exportFileFormat": "CSV", "destinations": [name], "nextDueAt": WHEN},
        "lastJob": {"id": name, "status": name, "reason": name, "finishedAt": WHEN, "rows": 1},
        **{"frequency": name, "cronExpression": name, **owned},
    }
    destination = {"destinationType": "S3", "place": name, "bucketName": name, "prefix": name, **owned}
    failure = {"at": WHEN, "reason": name}
    stalls = [{"entities": [name], "reason": name, "message": name, "since": WHEN}]
    job["stalls"] = stalls
    status = {
        **STATUS,
        "database": name,
        "paused": paused,
        "services": {name: {"running": False}},
        "entities": {name: {}},
        "disagreements": [{"message": name}],
        "destinations": [{"code": name, "organization": name, "condition": name, "lastFailure": failure}],
        "leases": [
            {
                **{"jobId": "1", "schedule": name, "organization": name, "phase": "SEALED", "startedAt": WHEN},
                **{"attempt": 2, "stalls": stalls},
            }
        ],
    }
    entry = {"at": WHEN, "actor": name, "action": name, "organization": name, "details": {"code": name}}
    return {
        "audit": entry,
        "jobs": job,
        "schedules": schedule,
        "destinations": destination,
        "status": status,
        "pause": paused,
    }


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_view_shows_names_as_text(
    monkeypatch: pytest.MonkeyPatch, view: list[str], name: str, encoding: str, *, as_json: bool
) -> None:
    answers = documents(name)

    def request(_self: SocketClient, _method: str, path: str, **_options: object) -> Any:
        *_, collection, last = path.split("/")
        return (
            {"data": [answers[last]]}
            if last in answers.keys() - {"status", "pause"}
            else answers.get(last, answers.get(collection))
        )

    out = Terminal(encoding, is_terminal=False)
    monkeypatch.setattr(SocketClient, "request", request)
    monkeypatch.setattr(sys, "stdout", out)
    app([*view, *(["--json"] if as_json else [])], exit_on_error=False, result_action="return_value")
    assert out.text
    assert all(line.isprintable() for line in out.text.split("\n"))
    if as_json:
        assert json.dumps(name) in json.dumps(json.loads(out.text))
