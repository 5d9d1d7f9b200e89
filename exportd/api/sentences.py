"""What pydantic found in a request, said in one plain sentence for each fault. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from exportd.model.bounds import MAX_SENTENCE_LENGTH, MAX_SENTENCES
from exportd.settings.destination_schema import Scheme
from exportd.settings.sentences import describe

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
    """``operationalDataTypes[1]``: without where FastAPI found it and the tags that pydantic adds for variants."""
    text = ""
    for step in location:
        if isinstance(step, int):
            text += f"[{step}]"
        elif not (text == "" and step in _PLACES | _BUCKETS.keys()):
            text += f".{step}" if text else step
    return text
