"""Reads the bodies of requests, strictly: anything but good JSON is refused before it reaches a schema.

Nothing of a body is read before it is decided who may make the request: a stranger's is refused by its head alone.

Parsed by pydantic's reader, which stops at depth 200, refuses lone surrogates and takes numbers of any size; not by
Python's, which overflows its stack.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin

from fastapi.params import Depends
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response

from exportd.api.problems import Refusal
from exportd.model.foreign_text import MAX_DOCUMENT_BYTES

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""A NUL in a text of a JSON document, for which Postgres has no place: an escape that is not itself escaped. Looked for
in the bytes, for walking through a hundred thousand values would hold everything else up.
"""

Decision = TypeVar("Decision")


class Admission(Generic[Decision]):
    """A dependency of an operation that lets a request in, by its head alone. Decided once for each request.

    ``decide`` says what the operation is given, and raises Refusal.
    """

    def __init__(self, decide: Callable[[Request], Awaitable[Decision]]) -> None:
        self._decide = decide

    async def __call__(self, request: Request) -> Decision:
        return await self.of(request)

    async def of(self, request: Request) -> Decision:
        decisions: dict[object, Decision] = request.scope.setdefault("state", {}).setdefault("admissions", {})
        if self not in decisions:
            decisions[self] = await self._decide(request)
        return decisions[self]


class StrictRequest(Request):
    """A request whose ``json`` raises Refusal for what is not JSON."""

    async def json(self) -> Any:
        body = await self.body()
        if len(body) > MAX_DOCUMENT_BYTES:
            raise Refusal(413, f"The body is too large: a JSON document has at most {MAX_DOCUMENT_BYTES} bytes here.")
        try:
            document = from_json(body, allow_inf_nan=False)
        except ValueError as error:
            raise Refusal(400, f"The body is not JSON that can be read: {error}.") from error
        if _NUL.search(body):
            raise Refusal(400, "The body has a NUL character (\\u0000) in a text. Leave it out.")
        return document


class StrictRoute(APIRoute):
    """An operation that reads its requests so."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        admissions = _admissions(self.endpoint)

        async def read_strictly(request: Request) -> Response:
            for admission in admissions:
                await admission.of(request)
            if b"%00" in request.scope["query_string"]:
                raise Refusal(400, "The query has a NUL character (%00) in a parameter. Leave it out.")
            return await handle(StrictRequest(request.scope, request.receive))

        return read_strictly


def _admissions(operation: Callable[..., Any]) -> list[Admission[Any]]:
    return [
        mark.dependency
        for parameter in inspect.signature(operation).parameters.values()
        if get_origin(parameter.annotation) is Annotated
        for mark in get_args(parameter.annotation)[1:]
        if isinstance(mark, Depends) and isinstance(mark.dependency, Admission)
    ]
