"""The OpenAPI document, completed: one shape of errors, and a bound on everything that is sent either way. Pure.

What comes in is bounded by its own schema, which is what refuses it. What goes out was bounded when it came in, or is
made by us of a catalog, a configuration or rows that are: here it gets the bound within which a client may rely on it.
"""

from collections.abc import Iterator
from typing import Any

from exportd.api.schemas.fields import ErrorAnswer

MAX_ANSWER_LENGTH = 1_000_000
"""Of a text in an answer, such as the SQL of a trigger."""

MAX_ANSWER_ITEMS = 100_000
"""Of a list or a table in an answer. Lists in pages have as many as the page."""

_MAX_INTEGER = 2**63 - 1

_BOUNDED_ALREADY = {"maxLength", "enum", "const"}


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """The same document. Invalid requests are answered with 400, and errors have one shape."""
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
    """The names of the components that requests are made of."""
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
    for part in parts(schema):
        if "$ref" in part:
            yield part["$ref"].rpartition("/")[2]


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object inside a piece of the document, itself included."""
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from parts(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from parts(value)


def _bound(schema: Any) -> None:
    for part in parts(schema):
        kind = part.get("type")
        if kind == "string" and not _BOUNDED_ALREADY & part.keys():
            part["maxLength"] = MAX_ANSWER_LENGTH
        elif kind == "array":
            part.setdefault("maxItems", MAX_ANSWER_ITEMS)
        elif kind == "integer":
            part.setdefault("maximum", _MAX_INTEGER)
        elif kind == "object" and "additionalProperties" in part and part["additionalProperties"] is not False:
            part.setdefault("maxProperties", MAX_ANSWER_ITEMS)
