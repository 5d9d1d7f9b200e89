"""The OpenAPI document is kept: whatever its own document allows, and what it forbids, gets no 5xx, and every answer is
as the document says.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fixtures.control_clients import bare
from tests.fixtures.runs import fire_now
from tests.integration.api.request_bodies import bucket, schedule
from tests.integration.api.standalone_api import ACME, ApiServer, path

_CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
_EXAMPLES = 15


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode), ids=str)
async def test_no_request_makes_a_mistake_of_ours_and_every_answer_is_as_described(
    api: ApiServer, mode: GenerationMode
) -> None:
    document = (await api.tcp.get("/openapi.json")).json()
    # A stream of all jobs does not end; test_live_progress_api follows it.
    del document["paths"]["/v1/events"]
    created = await api.http.post("/v1/clients", json={"organization": ACME, "name": "schemathesis"})
    key, secret = created.json()["id"], created.json()["apiSecret"]
    ids = [
        (await api.http.post(path(ACME, "destinations"), json=bucket())).json()["id"],
        (await api.http.post(path(ACME, "schedules"), json=schedule())).json()["id"],
    ]
    answer = await api.tcp.post("/oauth/token", auth=(key, secret), json={"grant_type": "client_credentials"})
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}", "Host": "localhost"}
    await asyncio.to_thread(_attack, document, str(api.tcp.base_url), headers, ids, mode)
    assert (await api.http.get(path(ACME, "jobs"))).status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode), ids=str)
@pytest.mark.usefixtures("log_level_kept")
async def test_the_daemons_own_verbs_are_as_described_too(api: ApiServer, mode: GenerationMode) -> None:
    """As an administrator of the machine, on the Unix socket: programs get no further than 403."""
    document = (await api.http.get("/openapi.json")).json()
    # The streams end with their jobs, of which there is none here that would; test_live_progress_api follows them.
    document["paths"] = {
        url: operations
        for url, operations in document["paths"].items()
        if url.startswith("/v1/") and not url.endswith("/events")
    }
    ids = [
        (await api.http.post(path(ACME, "destinations"), json=bucket())).json()["id"],
        (await api.http.post(path(ACME, "schedules"), json=schedule())).json()["id"],
        str(await fire_now(api.pool, "nightly")),
    ]
    await asyncio.to_thread(_attack_socket, document, api.socket, ids, mode)
    assert (await api.http.get("/v1/status")).status_code == 200


def _attack_socket(document: dict[str, Any], socket: Path, ids: list[str], mode: GenerationMode) -> None:
    """Blocking."""
    with bare(socket) as http:

        def call(case: Any) -> httpx.Response:
            asked = case.as_transport_kwargs(base_url="http://localhost")
            words = {"method", "url", "params", "headers", "json"}
            body = asked.get("data")
            return http.request(
                **{key: value for key, value in asked.items() if key in words},
                content=body if isinstance(body, bytes | str) else None,
            )

        attacked = _attack_operations(document, ids, mode, call)
    assert attacked > len(document["paths"])


def _attack(
    document: dict[str, Any], base_url: str, headers: dict[str, str], ids: list[str], mode: GenerationMode
) -> None:
    """Blocking. The organization and, half of the time, the ids are real ones, so that requests get somewhere."""
    assert len(document["paths"]) >= 18

    def call(case: Any) -> Any:
        answer = case.call(base_url=base_url, headers=headers)
        assert answer.status_code != 429
        return answer

    assert _attack_operations(document, ids, mode, call) > len(document["paths"])


def _attack_operations(
    document: dict[str, Any], ids: list[str], mode: GenerationMode, call: Callable[[Any], Any]
) -> int:
    """Make requests of every operation and compare the answers with the document; how many there were."""
    schema = schemathesis.openapi.from_dict(document)
    operations: list[Any] = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    attacked = 0
    for operation in operations:

        @settings(
            max_examples=_EXAMPLES,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode), real=st.sampled_from([*ids, None, None]))
        def attack(case: Any, real: str | None) -> None:
            if "orgId" in case.path_parameters:
                case.path_parameters["orgId"] = ACME
            if "id" in case.path_parameters and real is not None:
                case.path_parameters["id"] = real
            nonlocal attacked
            try:
                answer = call(case)
            except httpx.InvalidURL:  # longer than what the client can send
                reject()
            attacked += 1
            case.validate_response(answer, checks=_CHECKS)

        with suppress(Unsatisfiable):  # what takes any text cannot be given a wrong one
            attack()
    return attacked
