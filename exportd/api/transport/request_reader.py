"""Reads the bodies of requests, strictly: anything but good JSON is refused before it reaches a schema.

Parsed by pydantic's reader, which stops at depth 200, refuses lone surrogates and takes numbers of any size; not by
Python's, which overflows its stack.
"""

import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response

from exportd.api.problems import Refusal
from exportd.model.bounds import MAX_DOCUMENT_BYTES

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""A NUL in a text of a JSON document, for which Postgres has no place: an escape that is not itself escaped. Looked for
in the bytes, for walking through a hundred thousand values would hold everything else up.
"""


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

        async def read_strictly(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return read_strictly
