"""The API as an ASGI application, and its OpenAPI document. The collaborators are passed in.

The document has one shape of errors, and limits for everything that is sent in either direction. Requests are limited
by their own schemas, which refuse larger ones. Answers contain what was limited when it came in, or what exportd makes
of a catalog, a configuration or rows that are limited. Here they get the limits on which clients may rely.
"""

from collections.abc import Iterator
from threading import Lock
from typing import Any

import anyio.to_thread
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from exportd import __version__
from exportd.api.collaborators import Collaborators
from exportd.api.dependencies import person_of
from exportd.api.problems import install_handlers
from exportd.api.routers import ROUTERS
from exportd.api.schemas.fields import ErrorAnswer
from exportd.api.transport.client_limits import RateLimit
from exportd.api.transport.gate import REFUSALS_A_SECOND, Gate

MAX_ANSWER_LENGTH = 1_000_000
"""The length of a text in an answer, such as the SQL of a trigger."""

MAX_ANSWER_ITEMS = 100_000
"""The items of a list or a table in an answer. Lists in pages have as many as the page."""

_MAX_INTEGER = 2**63 - 1

_BOUNDED_ALREADY = {"maxLength", "enum", "const"}


class DescribedApi(FastAPI):
    """Makes its OpenAPI document when it is first requested, in a thread, because that takes as long as the rest of a
    start.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(openapi_url=None, **options)
        self._making = Lock()
        self.add_route("/openapi.json", self._send_document, include_in_schema=False)

    def openapi(self) -> dict[str, Any]:
        with self._making:
            if self.openapi_schema is None:
                self.openapi_schema = completed_document(super().openapi())
            return self.openapi_schema

    async def _send_document(self, _: Request) -> Response:
        return JSONResponse(await anyio.to_thread.run_sync(self.openapi))


def application(using: Collaborators) -> FastAPI:
    """The operations, the OpenAPI document and the answers to errors, without the gate in front of them."""
    api = DescribedApi(
        title="exportd",
        version=__version__,
        summary="Scheduled exports of operational data, as m3ter's API has them, and the daemon's own operations.",
        docs_url=None,  # would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    api.state.collaborators = using
    install_handlers(api)
    for router in ROUTERS:
        api.include_router(router)
    return api


def guarded(
    api: FastAPI, using: Collaborators, *, hosts: frozenset[str], refusals_a_second: int = REFUSALS_A_SECOND
) -> ASGIApp:
    """The application behind its gate. ``hosts`` are the names by which it may be called over TCP."""
    return Gate(
        api,
        hosts=hosts,
        address_limit=RateLimit(20_000, 300.0),
        clock=using.clock,
        refusals_a_second=refusals_a_second,
        person_of=person_of(api),
    )


def completed_document(document: dict[str, Any]) -> dict[str, Any]:
    """Complete the document: invalid requests are answered with 400, and all errors have one shape."""
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    schemas = document["components"]["schemas"]
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    schemas["Problem"] = ErrorAnswer.model_json_schema()
    asked = request_schemas(document)
    for name, schema in schemas.items():
        if name not in asked:
            _bound(schema)
    for path in document["paths"].values():
        for operation in path.values():
            for answer in operation["responses"].values():
                _bound(answer)
    return document


def request_schemas(document: dict[str, Any]) -> frozenset[str]:
    """The names of the components that requests use."""
    components, found = document["components"]["schemas"], set[str]()
    waiting = [
        name
        for path in document["paths"].values()
        for operation in path.values()
        for part in (operation.get("requestBody", {}), operation.get("parameters", []))
        for name in _references(part)
    ]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(_references(components[name]))
    return frozenset(found)


def _references(schema: Any) -> Iterator[str]:
    for part in schema_parts(schema):
        if "$ref" in part:
            yield part["$ref"].rpartition("/")[2]


def schema_parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object inside a piece of the document, itself included."""
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from schema_parts(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from schema_parts(value)


def _bound(schema: Any) -> None:
    for part in schema_parts(schema):
        kind = part.get("type")
        if kind == "string" and not _BOUNDED_ALREADY & part.keys():
            part["maxLength"] = MAX_ANSWER_LENGTH
        elif kind == "array":
            part.setdefault("maxItems", MAX_ANSWER_ITEMS)
        elif kind == "integer":
            part.setdefault("maximum", _MAX_INTEGER)
        elif kind == "object" and "additionalProperties" in part and part["additionalProperties"] is not False:
            part.setdefault("maxProperties", MAX_ANSWER_ITEMS)
