"""Reads the bodies of requests, strictly: anything but good JSON is refused before it reaches a schema.

Parsed by pydantic's reader, which stops at depth 200, refuses lone surrogates and takes numbers of any size; not by
Python's, which overflows its stack.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response

from exportd.api.problems import Refusal


class StrictRequest(Request):
    """A request whose ``json`` raises Refusal for what is not JSON."""

    async def json(self) -> Any:
        body = await self.body()
        try:
            document = from_json(body, allow_inf_nan=False)
        except ValueError as error:
            raise Refusal(400, f"The body is not JSON that can be read: {error}.") from error
        if _has_nul(document):
            raise Refusal(400, "The body has a NUL character (\\u0000) in a text. Leave it out.")
        return document


class StrictRoute(APIRoute):
    """An operation that reads its requests so."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def read_strictly(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return read_strictly


def _has_nul(value: object) -> bool:
    """Postgres has no place for it."""
    match value:
        case str():
            return "\x00" in value
        case list():
            return any(_has_nul(item) for item in value)
        case dict():
            return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
        case _:
            return False
