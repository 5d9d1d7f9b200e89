"""Everything that comes in has a bound: which the OpenAPI document shows, and whose breach is refused, at little cost.

Generated over the document: a new operation, field or parameter is tried too.
"""

import asyncio
import gc
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest

from exportd.api.application import application, request_schemas, schema_parts
from exportd.api.transport.gate import MAX_BODY_BYTES
from exportd.model.foreign_text import MAX_DOCUMENT_BYTES, MAX_IDS, MAX_SENTENCE_LENGTH, MAX_SENTENCES
from tests.integration.api.request_bodies import bucket, gcs_bucket, schedule
from tests.integration.api.standalone_api import ACME, ApiServer

REFUSED = {400, 413, 422}
ID = "00000000-0000-4000-8000-00000000000a"
MAX_STEP_S = 0.05
"""How long one step of the event loop may compute."""

BODIES: dict[str, list[dict[str, Any]]] = {
    "ScheduleCreation": [schedule(destinationIds=[ID])],
    "ScheduleUpdate": [schedule(version=1)],
    "AdHocRequest": [{"sourceType": "OPERATIONAL", "operationalDataTypes": ["ACCOUNTS"]}],
    "S3Creation": [bucket()],
    "GcsCreation": [gcs_bucket()],
    "S3Update": [bucket(version=1)],
    "GcsUpdate": [gcs_bucket(version=1)],
    "ClientCreation": [{"organization": ACME, "name": "x"}],
    "RefreshRequest": [{"entity": "ACCOUNTS"}],
    "BackfillBody": [{"job": ID}],
    "LogLevel": [{"level": "info"}],
    "CaptureRequest": [{"entities": ["THINGS"], "dryRun": True}],
}
"""Good bodies by schema."""

Operation = tuple[str, str, dict[str, Any]]
"""Method, path, what the document says."""


def operations(document: dict[str, Any]) -> Iterator[Operation]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def address(path: str, **instead: str) -> str:
    for name, value in {"orgId": ACME, "id": ID, "name": "manifest.json", "token": "x", **instead}.items():
        path = path.replace("{" + name + "}", quote(value, safe=""))
    return path


def body_schemas(operation: dict[str, Any]) -> list[str]:
    """The schemas of an operation's JSON body."""
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    return [part["$ref"].rpartition("/")[2] for part in schema_parts(schema) if "$ref" in part]


def is_of(kind: str, schema: dict[str, Any]) -> bool:
    return any(part.get("type") == kind for part in [schema, *schema.get("anyOf", [])])


def too_much(schema: dict[str, Any]) -> Iterator[Any]:
    """Values of a field that exceed its bound, by little and by much."""
    for part in [schema, *schema.get("anyOf", [])]:
        match part.get("type"):
            case "string":
                yield "x" * (part.get("maxLength", 100) + 1)
                yield "x" * 60_000
            case "array":
                item = part["items"]
                known = item.get("enum", ["x"])[0]
                yield [known] * (part["maxItems"] + 1)
                yield [known] * 10_000
                yield [1] * 10_000
                yield ["x" * (item.get("maxLength", 100) + 1)]
            case "integer":
                yield int(part["maximum"]) + 1
                yield 10**400
            case "boolean":
                yield "x" * 60_000
            case _:
                pass


def assert_refused(answer: httpx.Response, what: object, *, among: set[int] = REFUSED) -> None:
    assert answer.status_code in among, (what, answer.status_code, answer.text[:300])
    message = answer.json()["message"]
    assert 10 < len(message) <= MAX_SENTENCES * (MAX_SENTENCE_LENGTH + 2) + 40, what


async def document_of(api: ApiServer) -> dict[str, Any]:
    found: dict[str, Any] = (await api.http.get("/openapi.json")).json()
    return found


async def test_the_document_is_made_when_it_is_first_asked_for(api: ApiServer) -> None:
    described = application(api.using)
    assert described.openapi_schema is None, "the daemon's start does not wait for it"
    first, second = [await document_of(api) for _ in range(2)]
    assert first == second == json.loads(json.dumps(described.openapi()))


async def test_every_text_list_and_number_of_the_document_has_a_bound(api: ApiServer) -> None:
    document = application(api.using).openapi()
    seen = 0
    for where, schema in [*document["paths"].items(), *document["components"]["schemas"].items()]:
        for part in schema_parts(schema):
            kind = part.get("type")
            seen += kind in ("string", "array", "integer")  # a property may be called type
            assert kind != "string" or {"maxLength", "enum", "const"} & part.keys(), (where, part)
            assert kind != "array" or "maxItems" in part, (where, part)
            assert kind != "integer" or "maximum" in part, (where, part)
    assert seen > 300
    assert request_schemas(document) >= BODIES.keys()


async def test_a_field_of_a_body_that_is_too_large_is_refused(api: ApiServer) -> None:
    document = await document_of(api)
    tried = 0
    for method, path, operation in operations(document):
        for name in body_schemas(operation):
            for good, (field, schema) in itertools.product(
                BODIES[name], document["components"]["schemas"][name]["properties"].items()
            ):
                for value in too_much(schema):
                    answer = await api.http.request(method, address(path), json={**good, field: value})
                    assert_refused(answer, (method, path, field, str(value)[:20]))
                    assert field in answer.json()["message"] or answer.status_code == 413, (field, answer.text[:300])
                    tried += 1
    assert tried > 150
    assert await api.pool.fetchval("SELECT count(*) FROM exportd.audit") == 0


async def test_a_parameter_that_is_too_large_is_refused(api: ApiServer) -> None:
    document = await document_of(api)
    tried = 0
    for method, path, operation in operations(document):
        for parameter in operation.get("parameters", []):
            name, schema = parameter["name"], parameter["schema"]
            for value in too_much(schema):
                tried += 1
                if parameter["in"] == "path":
                    # An id that is too long is no id: not found, or no organization that one may see.
                    answer = await api.http.request(method, address(path, **{name: str(value)}))
                    assert_refused(answer, (method, path, name), among=REFUSED | {403, 404})
                    continue
                items = value if isinstance(value, list) else [value]
                if len(query := urlencode([(name, item) for item in items])) > 62_000:
                    continue  # more than the head of a request may have
                answer = await api.http.request(method, f"{address(path)}?{query}")
                assert_refused(answer, (method, path, name, str(value)[:20]))
    assert tried > 80


async def test_ids_separated_by_commas_are_counted_too(api: ApiServer) -> None:
    for kind in ("schedules", "destinations", "jobs"):
        where = f"/organizations/{ACME}/dataexports/{kind}"
        assert (await api.http.get(where, params={"ids": ",".join([ID] * MAX_IDS)})).status_code == 200
        assert_refused(await api.http.get(where, params={"ids": ",".join([ID] * (MAX_IDS + 1))}), kind)


async def test_the_token_form_is_bounded(api: ApiServer) -> None:
    form, local = {"content-type": "application/x-www-form-urlencoded"}, ("local", "-")
    for body in (b"a&" * 400_000, b"a=1&" * 1000, b"grant_type=client_credentials&scope=" + b"x" * 3000):
        assert_refused(await api.http.post("/oauth/token", content=body, headers=form, auth=local), body[:20])
        assert (await api.http.post("/oauth/token", content=body, headers=form)).status_code == 401
    good = {"grant_type": "client_credentials"}
    assert_refused(await api.http.post("/oauth/token", json={**good, "scope": "x" * 3000}, auth=local), "scope")


def filled(unit: bytes, size: int) -> bytes:
    return unit * (size // len(unit) - 1)


def listed(unit: bytes, size: int) -> bytes:
    return b"[" + filled(unit + b",", size - 10) + unit + b"]"


VALUES: dict[str, Callable[[int], bytes]] = {
    "a text": lambda size: b'"' + filled(b"x", size) + b'"',
    "escapes": lambda size: b'"' + filled(b"\\u0041", size) + b'"',
    "texts": lambda size: listed(b'"a"', size),
    "ids": lambda size: b"[" + b",".join(b'"%s%08x"' % (ID[:-8].encode(), n) for n in range(size // 40)) + b"]",
    "wrong items": lambda size: listed(b"1", size),
    "objects": lambda size: listed(b"{}", size),
    "lists": lambda size: listed(b"[1]", size),
    "digits": lambda size: filled(b"1", size),
    "backslashes": lambda size: b'"' + filled(b"\\\\", size) + b'"',
    "cron": lambda size: b'"0 0 * * ' + filled(b"1,", size) + b'1"',
}

WHOLE: dict[str, Callable[[int], bytes]] = {
    **VALUES,
    "unknown fields": lambda size: b"{" + b",".join(b'"f%d":1' % n for n in range(size // 12)) + b"}",
    "NUL at the end": lambda size: b"[" + filled(b"1,", size - 20) + b'"\\u0000"]',
}


async def longest_step_s(monkeypatch: pytest.MonkeyPatch, work: Callable[[], Awaitable[object]]) -> float:
    """For how long, in CPU time, the longest step of the event loop has computed.

    Without the garbage collector, which would look through everything that the tests have made, in any step.
    """
    longest, run = 0.0, asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        nonlocal longest
        begun = time.thread_time()
        run(handle)
        longest = max(longest, time.thread_time() - begun)

    with monkeypatch.context() as patched:
        patched.setattr(asyncio.Handle, "_run", timed)
        gc.disable()
        try:
            await work()
        finally:
            gc.enable()
    return longest


@pytest.mark.parametrize("size", [MAX_BODY_BYTES - 2000, MAX_DOCUMENT_BYTES - 2000])
async def test_no_body_holds_the_event_loop(api: ApiServer, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """The client has its own thread, so that this loop has the server's steps alone."""
    document = await document_of(api)

    def bodies() -> Iterator[tuple[str, str, str, bytes]]:
        for method, path, operation in operations(document):
            names = body_schemas(operation)
            if names or "requestBody" in operation:
                for kind, make in WHOLE.items():
                    yield method, address(path), kind, make(size)
            # What is larger than a document may be is refused as a whole, whatever its fields are.
            for name in names if size < MAX_DOCUMENT_BYTES else ():
                good = BODIES[name][0]
                for field, (kind, make) in itertools.product(
                    document["components"]["schemas"][name]["properties"], VALUES.items()
                ):
                    rest = json.dumps({key: value for key, value in good.items() if key != field}).encode()
                    yield (
                        method,
                        address(path),
                        f"{field}: {kind}",
                        rest[:-1] + b', "%s": ' % field.encode() + make(size) + b"}",
                    )

    with httpx.Client(transport=httpx.HTTPTransport(uds=str(api.socket)), base_url="http://localhost") as client:

        async def send(method: str, url: str, body: bytes) -> httpx.Response:
            headers = {"content-type": "application/json"}
            return await asyncio.to_thread(client.request, method, url, content=body, headers=headers)

        tried = 0
        for method, url, kind, body in bodies():
            step_s, again = MAX_STEP_S, 3  # another process may have emptied the caches of the CPU in one
            while step_s >= MAX_STEP_S and again:
                step_s = await longest_step_s(monkeypatch, lambda: send(method, url, body))  # noqa: B023 - at once
                again -= 1
            assert step_s < MAX_STEP_S, (method, url, kind, step_s)
            tried += 1
        assert_refused(await send(method, url, body), kind)
    assert tried > (500 if size < MAX_DOCUMENT_BYTES else 120)
