"""The configuration reference, made from the schema: ``python -m exportd.settings.reference >
docs/configuration.md``.

A test compares the file in the repository with what this makes.
"""

import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from exportd.settings.schema import Settings
from exportd.settings.section import format_size, parse_size
from exportd.settings.sentences import models_in

_INTRODUCTION = """\
# Configuration

`exportd` reads one TOML file. It is read strictly: an unknown key is an error, a text is not taken for a
number, and all problems are reported at once, each with its file, line and key. Nothing runs with a file that
has a problem; a reload with one changes nothing.

- Paths are relative to the folder of the configuration file.
- Sizes are numbers of bytes, or texts such as `"6 GB"` (decimal) and `"512 MiB"` (binary).
- The environment changes one thing only: `EXPORTD_DATABASE_DSN` goes before `database.dsn` and
  `database.dsn_file`.
- A commented example is [`config/exportd.toml`](../config/exportd.toml).

This page is made from the schema by `python -m exportd.settings.reference`; do not edit it by hand.
"""


def render() -> str:
    """The reference as Markdown."""
    return "\n".join([_INTRODUCTION, *_sections()])


def key_table(model: type[BaseModel]) -> str:
    """The keys of one table of a TOML file, as a Markdown table."""
    rows = [
        f"| `{key}` | {_value(field)} | {_default(field)} | {_one_line(field.description)} |"
        for key, field in model.model_fields.items()
    ]
    return "\n".join(["| key | value | default | meaning |", "| --- | --- | --- | --- |", *rows]) + "\n"


def _sections() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        models = models_in(field.annotation)
        header = f"[[{name}]]" if get_origin(field.annotation) is tuple else f"[{name}]"
        yield f"## `{header}`\n"
        if len(models) > 1:
            yield f"{_one_line(field.description)} Of one of these kinds:\n"
        for model in models:
            if len(models) > 1:
                yield f"### `{header}` with `type = {_value(model.model_fields['type']).strip('`')}`\n"
            yield f"{_one_line(model.__doc__)}\n"
            yield key_table(model)


def _value(field: FieldInfo) -> str:
    kind = _kind(field.annotation)
    if _is_size(field):
        return "size"
    if get_origin(kind) is Literal:
        return " or ".join(f"`{_toml(get_argument)}`" for get_argument in get_args(kind))
    if get_origin(kind) is tuple:
        return "list"
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return " or ".join(f"`{_toml(each.value)}`" for each in kind)
    return f"{_KINDS.get(kind, 'text')}{_bounds(field)}"


_KINDS: dict[Any, str] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    Path: "path",
}


def _kind(annotation: Any) -> Any:
    """The type without ``Annotated`` and ``| None``."""
    if get_origin(annotation) is Annotated:
        return _kind(get_args(annotation)[0])
    if NoneType in get_args(annotation):
        return _kind(next(get_argument for get_argument in get_args(annotation) if get_argument is not NoneType))
    return annotation


def _is_size(field: FieldInfo) -> bool:
    return any(getattr(each, "func", None) is parse_size for each in field.metadata)


def _bounds(field: FieldInfo) -> str:
    bounds = []
    for each in field.metadata:
        for name, word in (("ge", "from"), ("gt", "above"), ("le", "to")):
            if hasattr(each, name):
                bounds.append(f"{word} {getattr(each, name)}")
    return f", {' '.join(bounds)}" if bounds else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is None:
        return "–"
    if _is_size(field):
        return f"`{_toml(format_size(field.default))}`"
    return f"`{_toml(field.default)}`"


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str() | Path():
            return f'"{value}"'
        case tuple():
            return "[]"
        case float() if value.is_integer():
            return str(int(value))
        case _:
            return str(value)


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(render())
