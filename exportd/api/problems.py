"""Errors as answers: a status, one sentence in ``message`` that a person can act on, and a header with the reason code.

The statuses are those that m3ter publishes, with two choices of exportd: 409 for a stale version or for something that
a state does not allow, marked so that clients do not repeat it; and 503 while the database is out of reach, so that
they do.

Each problem that pydantic finds in a request becomes one plain sentence.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from exportd.model.errors import ExportdError, Reason, TransientError
from exportd.model.foreign_text import MAX_SENTENCE_LENGTH, MAX_SENTENCES
from exportd.settings.destination_schema import Scheme
from exportd.settings.sentences import describe

_logger = structlog.get_logger()

_REASON_HEADER = "x-exportd-reason"
_HEADERS: Mapping[int, Mapping[str, str]] = {
    409: {"x-should-retry": "false"},
    429: {"retry-after": "10"},
    503: {"retry-after": "1"},
}
_STATUSES: Mapping[Reason, int] = {
    Reason.NOT_FOUND: 404,
    Reason.DECLARED: 403,
    Reason.VERSION_STALE: 409,
    Reason.JOB_UNFINISHED: 409,
    Reason.JOB_STATE_UNFIT: 409,
    Reason.STILL_RUNNING: 409,
    Reason.TABLE_MISSING: 409,
    Reason.CATALOG_MISMATCH: 409,
    Reason.PRIVILEGE_MISSING: 409,
    Reason.QUOTA_REACHED: 403,
    Reason.QUOTA_BUSY: 429,
    Reason.CODE_TAKEN: 400,
    Reason.IN_USE: 400,
    Reason.DESTINATION_MISSING: 400,
    Reason.SETTINGS_INVALID: 400,
    Reason.ENTITY_OUT_OF_ORDER: 409,
    Reason.DATABASE_REFUSED: 503,
}
_WORDS = {
    404: "There is nothing at this path. The paths are those of the OpenAPI document at /openapi.json.",
    405: "This path does not know that method. The OpenAPI document at /openapi.json says which ones it does.",
}

_EXPECTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "model_attributes_type": "a JSON object",
    "model_type": "a JSON object",
    "dict_type": "a JSON object",
}
_PLACES = {"body", "query", "path", "header"}
_BUCKETS = {kind.name: kind for kind in Scheme if kind is not Scheme.DIRECTORY}


class Refusal(HTTPException):
    """Ends a request with a status and a sentence."""

    def __init__(self, status: int, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, message, headers)


def problem_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer that says what was wrong."""
    return JSONResponse({"message": message}, status, headers)


def install_handlers(application: FastAPI) -> None:
    """Make every error of an application one of these answers."""
    for kind in (HTTPException, RequestValidationError, ExportdError, ClientDisconnect, Exception):
        application.add_exception_handler(kind, _answer)


async def _answer(_request: Request, error: Exception) -> Response:
    match error:
        case HTTPException():
            message = error.detail if isinstance(error, Refusal) else _WORDS.get(error.status_code, str(error.detail))
            return problem_response(error.status_code, message, error.headers)
        case RequestValidationError():
            return problem_response(400, sentence_of(error.errors()))
        case ExportdError():
            return _failure(error)
        case ClientDisconnect():
            return problem_response(400, "The connection ended in the middle of the request's body.")
        case _:
            return problem_response(500, "exportd has made a mistake here. Its log says more.")


def _failure(error: ExportdError) -> Response:
    status = _STATUSES.get(error.reason)
    reason = {_REASON_HEADER: error.reason.value}
    if status is not None:
        return problem_response(status, error.sentence, {**reason, **_HEADERS.get(status, {})})
    if isinstance(error, TransientError):
        _logger.warning("request failed", reason=error.reason, error=error.sentence)
        return problem_response(503, error.sentence, reason | {"retry-after": "1"})
    _logger.error("request failed", reason=error.reason, error=error.sentence)
    return problem_response(500, error.sentence, reason)


async def answered(request: Request, error: HTTPException | RequestValidationError | ExportdError) -> tuple[int, str]:
    """The status and the sentence with which the API answers an error. Details that only operators should see are
    logged.
    """
    answer = await _answer(request, error)
    return answer.status_code, json.loads(bytes(answer.body))["message"]


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI document: the errors that an operation answers with."""
    body = {"$ref": "#/components/schemas/Problem"}
    meanings = {
        400: "The request is wrong",
        401: "The credentials are missing or wrong",
        403: "Not allowed",
        404: "There is no such thing",
        416: "The file has no such range of bytes",
        409: "Not possible in its present state, or it has been edited since",
    }
    usual = {
        400: meanings[400],
        413: "The body is too large",
        429: "Too many requests",
        500: "A mistake of exportd",
        503: "The database is away",
    }
    return {
        status: {"description": meaning, "content": {"application/json": {"schema": body}}}
        for status, meaning in {**{status: meanings[status] for status in statuses}, **usual}.items()
    }


def sentence_of(errors: Iterable[Mapping[str, Any]]) -> str:
    """All faults in one line: ``period: should be at least 1, but is the number 0; code: is missing``."""
    sentences = list(dict.fromkeys(_sentence(error)[:MAX_SENTENCE_LENGTH] for error in errors))
    further = len(sentences) - MAX_SENTENCES
    return "; ".join(sentences[:MAX_SENTENCES]) + (f"; and {further} more" if further > 0 else "")


def shown(value: object) -> str:
    """A JSON value as a person wrote it, shortened."""
    if value is None:
        return "null"
    return "an object" if isinstance(value, dict) else describe(value)


def _sentence(error: Mapping[str, Any]) -> str:
    place = _place(error["loc"])
    context: Mapping[str, Any] = error.get("ctx") or {}
    kind, value = error["type"], error.get("input")
    match kind:
        case "missing":
            words = "is missing" if place else "the body is missing: send a JSON object"
        case "extra_forbidden":
            return f"unknown field {shown(error['loc'][-1])}"
        case "value_error":
            words = str(context["error"])
        case "union_tag_not_found" | "union_tag_invalid":
            words = f"destinationType should be {' or '.join(_BUCKETS)}"
        case _:
            expected = _EXPECTED.get(kind) or _expected(kind, context)
            words = f"should be {expected}, but is {shown(value)}" if expected else str(error.get("msg"))
            if not place:
                words = f"the body {words}"
    return f"{place}: {words}" if place else words


_BOUNDS = {
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "literal_error": "one of {expected}",
    "enum": "one of {expected}",
    "string_too_short": "at least {min_length} characters long",
    "string_too_long": "at most {max_length} characters long",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
}


def _expected(kind: str, context: Mapping[str, Any]) -> str | None:
    bound = _BOUNDS.get(kind)
    return None if bound is None else bound.format(**context).replace("'", "")


def _place(location: Iterable[int | str]) -> str:
    """The field, such as ``operationalDataTypes[1]``, without the source that FastAPI adds and the tags that pydantic
    adds for variants.
    """
    text = ""
    for step in location:
        if isinstance(step, int):
            text += f"[{step}]"
        elif not (text == "" and step in _PLACES | _BUCKETS.keys()):
            text += f".{step}" if text else step
    return text
