"""Turns the errors of pydantic into plain sentences with file, line and key.

Every kind of error that our schemas can raise has its sentence here; a test feeds every kind of value to each key and
looks for words of the library.
"""

from collections.abc import Iterable, Iterator
from datetime import date, time
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from exportd.model.errors import Problem
from exportd.model.foreign_text import names_a_secret
from exportd.settings.document import Document, KeyPath, format_path, sorted_by_line

_MAX_VALUE_LENGTH = 60

_EXPECTED = {
    "string_type": "a text in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
}


def problems_of(error: ValidationError, *, document: Document, model: type[BaseModel]) -> list[Problem]:
    """One problem for each error, in the order of the lines. ``model`` is the model of the document."""
    found = []
    for detail in error.errors(include_url=False):
        path, owner = _locate(detail["loc"], model)
        if detail["type"] == "extra_forbidden":
            problem = document.problem(path, _unknown_key(path, owner, model), about=path[:-1])
        elif detail["type"] == "union_tag_invalid":
            kind, kinds = detail["ctx"]["tag"], detail["ctx"]["expected_tags"]
            problem = document.problem((*path, "type"), _not_one_of(kind, _choices(kinds), describe(kind)))
        else:
            problem = document.problem(path, _sentence(detail, path, owner))
        found.append(problem)
    return sorted_by_line(found)


def describe(value: object, *, key: str = "") -> str:
    """A TOML value as a person wrote it, shortened; a secret is not shown."""
    if names_a_secret(key) or key in {"dsn", "reader_dsn"}:
        return "something else"
    match value:
        case bool():
            shown = "true" if value else "false"
        case str():
            shown = f'"{_printable(value)}"'
        case int() if abs(value) >= 10**18:
            shown = "a huge number"
        case int() | float():
            shown = f"the number {value}"
        case date() | time():
            shown = f"the date or time {value.isoformat()}"
        case dict():
            shown = "a table"
        case list() | tuple():
            shown = "a list"
        case _:
            shown = "something else"
    return shown if len(shown) <= _MAX_VALUE_LENGTH else f"{shown[:_MAX_VALUE_LENGTH]}…"


def _printable(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _sentence(detail: ErrorDetails, path: KeyPath, owner: type[BaseModel] | None) -> str:
    kind = detail["type"]
    context: dict[str, Any] = detail.get("ctx", {})
    if kind == "missing":
        return f"is missing: {_explanation(path, owner)}"
    if kind == "value_error":  # raised by our own validators, whose words are sentences already
        return str(context["error"])
    given = describe(detail["input"], key=next((step for step in reversed(path) if isinstance(step, str)), ""))
    if kind in {"literal_error", "enum"}:
        return _not_one_of(detail["input"], _choices(context["expected"]), given)
    expected = _EXPECTED.get(kind) or _expected(kind, context, path, detail["input"])
    return f"should be {expected or _explanation(path, owner)}, but is {given}"


_BOUNDS = {
    "greater_than_equal": "at least {ge:g}",
    "less_than_equal": "at most {le:g}",
    "greater_than": "more than {gt:g}",
    "string_too_long": "at most {max_length} characters long",
    "too_long": "a list of at most {max_length}",
}


def _expected(kind: str, context: dict[str, Any], path: KeyPath, given: object) -> str | None:
    bound = _BOUNDS.get(kind)
    if bound is not None:
        return bound.format(**context)
    match kind:
        case "tuple_type" | "list_type":
            return _list_form(path, given)
        case "model_type" | "model_attributes_type" | "dict_type":
            return _table_form(path)
        case _:
            return None


def _not_one_of(value: object, choices: list[str], given: str) -> str:
    meant = closest(value, choices) if isinstance(value, str) else None
    if len(choices) == 1:
        return f'can only be "{choices[0]}", but is {given}'
    suggestion = f'; did you mean "{meant}"?' if meant else ""
    return f"should be one of {', '.join(choices)}, but is {given}{suggestion}"


def _choices(expected: str) -> list[str]:
    """The names in pydantic's ``'A', 'B' or 'C'``."""
    return expected.replace(" or ", ", ").replace("'", "").split(", ")


def _list_form(path: KeyPath, value: object) -> str:
    if len(path) == 1 and isinstance(value, dict):
        return f"a list of tables (write [[{path[0]}]] with double brackets)"
    return "a list in brackets, such as [" + (describe(value) if isinstance(value, str) else '"…"') + "]"


def _table_form(path: KeyPath) -> str:
    if len(path) == 1:
        return f"a table (write [{path[0]}] with single brackets)"
    return "a table"


def _unknown_key(path: KeyPath, owner: type[BaseModel] | None, model: type[BaseModel]) -> str:
    key = str(path[-1])
    known = [] if owner is None else list(owner.model_fields)
    elsewhere = [] if closest(key, known) else [place for place in _places_of(key, model) if place != path]
    if elsewhere:
        hint = f"{format_path((key,))} belongs in {format_path(elsewhere[0][:-1]) or 'the top of the file'}"
    else:
        hint = did_you_mean(key, known, what="keys here")
    return f"unknown key {format_path((key,))}; {hint}"


def _explanation(path: KeyPath, owner: type[BaseModel] | None) -> str:
    field = owner.model_fields.get(str(path[-1])) if owner is not None else None
    text = " ".join((field.description or "").split()) if field is not None else ""
    return text or "see the documentation of this key"


def _places_of(key: str, model: type[BaseModel], path: KeyPath = ()) -> Iterator[KeyPath]:
    """The other tables of the schema that have a key of this name."""
    for name, field in model.model_fields.items():
        if name == key:
            yield (*path, name)
        for inner in models_in(field.annotation):
            yield from _places_of(key, inner, (*path, name))


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models in an annotation: itself, the items of a list, the variants of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in {tuple, list, Union, UnionType, Annotated}:
        return [model for argument in get_args(annotation) for model in models_in(argument)]
    return []


def _variant(annotation: Any, tag: object) -> type[BaseModel] | None:
    """The variant of a union that has this tag."""
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated and any(
        isinstance(argument, Tag) and argument.tag == tag for argument in arguments
    ):
        return models_in(arguments[0])[0]
    found = (_variant(argument, tag) for argument in arguments)
    return next((variant for variant in found if variant is not None), None)


def _locate(location: tuple[int | str, ...], model: type[BaseModel]) -> tuple[KeyPath, type[BaseModel] | None]:
    """The key path of an error's location, without the tags that pydantic adds for the variants of a union; and the
    table in which its last key stands.
    """
    path: KeyPath = ()
    owner: type[BaseModel] | None = model
    annotation: Any = model
    for number, step in enumerate(location, 1):
        field = owner.model_fields.get(str(step)) if owner is not None else None
        variant = _variant(annotation, step)
        if variant is not None:
            owner = variant
        elif number == len(location) or isinstance(step, int):
            path = (*path, step)
        elif field is not None:
            path, annotation = (*path, step), field.annotation
            owner = next(iter(models_in(annotation)), None)
    return path, owner


def closest(word: str, known: Iterable[str]) -> str | None:
    """The most similar of the known names, upper and lower case being the same; None when nothing is similar."""
    by_lower_case = {name.lower(): name for name in known}
    matches = get_close_matches(word.lower(), by_lower_case, n=1, cutoff=0.6)
    return by_lower_case[matches[0]] if matches else None


def did_you_mean(word: str, known: Iterable[str], *, what: str) -> str:
    """The end of a sentence about an unknown name: the closest known one, or all if they are few."""
    names = list(known)
    match = closest(word, names)
    if match is not None:
        return f"did you mean {match}?"
    if not names:
        return f"there are no {what}"
    if len(names) > 25:
        return f"none of the {len(names)} {what} is similar"
    return f"the {what} are {', '.join(names)}" if len(names) > 1 else f"the only one of the {what} is {names[0]}"
