"""Every deed leaves a row in the audit log: a table of all operations that change something."""

import getpass
from collections.abc import Mapping
from typing import Any

import pytest

from tests.integration.api.request_bodies import bucket, schedule
from tests.integration.api.standalone_api import ACME, ApiServer, path

EXPORT = {"sourceType": "OPERATIONAL", "operationalDataTypes": ["ACCOUNTS"]}
TENANT = "/organizations/{orgId}/dataexports"

DEEDS: list[tuple[str, str, str, Mapping[str, Any] | None, str]] = [
    ("POST", f"{TENANT}/destinations", "", bucket("new"), "destination created"),
    ("PUT", f"{TENANT}/destinations/{{id}}", "destination", bucket(version=1, name="other"), "destination edited"),
    ("POST", "/v1/destinations/{id}/pause", "destination", None, "destination paused"),
    ("POST", "/v1/destinations/{id}/resume", "destination", None, "destination resumed"),
    ("DELETE", f"{TENANT}/destinations/{{id}}", "destination", None, "destination deleted"),
    ("POST", f"{TENANT}/schedules", "", schedule("new"), "schedule created"),
    ("PUT", f"{TENANT}/schedules/{{id}}", "schedule", schedule(version=1, name="other"), "schedule edited"),
    ("POST", "/v1/schedules/{id}/pause", "schedule", None, "schedule paused"),
    ("POST", "/v1/schedules/{id}/resume", "schedule", None, "schedule resumed"),
    ("POST", "/v1/schedules/{id}/refresh", "schedule", {"entity": "ACCOUNTS"}, "refresh requested"),
    ("POST", "/v1/schedules/{id}/run", "schedule", None, "schedule run"),
    ("DELETE", f"{TENANT}/schedules/{{id}}", "schedule", None, "schedule deleted"),
    ("POST", f"{TENANT}/adhoc", "", {**EXPORT, "exportFileFormat": "JSONL"}, "export requested"),
    ("POST", "/v1/jobs/{id}/cancel", "job", None, "job cancelled"),
    ("POST", "/v1/jobs/{id}/retry", "job", None, "job retried"),
    ("POST", "/v1/clients", "", {"organization": ACME, "name": "x"}, "client created"),
    ("DELETE", "/v1/clients/{id}", "client", None, "client deactivated"),
    ("POST", "/v1/pause", "", None, "daemon paused"),
    ("POST", "/v1/resume", "", None, "daemon resumed"),
    ("PUT", "/v1/log-level", "", {"level": "info"}, "log level set"),
    ("POST", "/v1/reload", "", None, "configuration reloaded"),
]
"""Method, path, what its id is of, body, and the action, in an order in which each is possible."""

ELSEWHERE = {
    ("POST", "/v1/schedules/{id}/backfill"): "test_operations_api: needs a run that has succeeded",
    ("POST", "/v1/capture/install"): "test_operations_api: needs a table",
    ("POST", "/v1/capture/uninstall"): "test_operations_api: needs a table",
    ("DELETE", "/v1/daemons/{id}"): "tests/integration/fleet/test_presence.py: needs another daemon",
    ("POST", "/oauth/token"): "changes nothing",
}


@pytest.mark.usefixtures("log_level_kept")
async def test_every_deed_is_in_the_audit_log_with_who_did_it(api: ApiServer) -> None:
    ids = {
        "destination": (await api.http.post(path(ACME, "destinations"), json=bucket())).json()["id"],
        "schedule": (await api.http.post(path(ACME, "schedules"), json=schedule())).json()["id"],
        "job": (await api.http.post(path(ACME, "adhoc"), json=EXPORT)).json()["jobId"],
        "client": (await api.http.post("/v1/clients", json={"organization": ACME, "name": "y"})).json()["id"],
    }
    for method, url, kind, body, action in DEEDS:
        before = len(await api.audit())
        where = url.replace("{orgId}", ACME).replace("{id}", ids.get(kind, ""))
        answer = await api.http.request(method, where, json=body)
        assert answer.status_code == 200, (method, url, answer.text)
        assert (await api.audit())[before:] == [(f"unix:{getpass.getuser()}", action)], (method, url)


async def test_the_table_has_every_operation_that_changes_something(api: ApiServer) -> None:
    document = (await api.http.get("/openapi.json")).json()
    changing = {
        (method.upper(), url)
        for url, operations in document["paths"].items()
        for method in operations
        if method != "get"
    }
    assert changing == {(method, url) for method, url, *_ in DEEDS} | ELSEWHERE.keys()
