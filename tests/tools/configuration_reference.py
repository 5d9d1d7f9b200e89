"""Makes the configuration reference, docs/configuration.md, from the schema.

A test compares the file in the repository with what this makes.
"""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from exportd.settings.schema import Settings
from exportd.settings.section import Setting, format_size, parse_size
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
- *Takes effect* says when a value that a reload brings is used: at once, by the next job (a job that runs ends with the
  value with which it began), or after a restart. Destinations and schedules change at once.
- *Set for* says whose a setting is. The daemons of one database may differ in a setting for the host; they must have
  the same value of a setting for the database, and report it when they do not.

This page is made from the schema by `make docs`; do not edit it by hand.
"""


def render() -> str:
    """The reference as Markdown."""
    return "\n".join([_INTRODUCTION, *_sections()])


def key_table(model: type[BaseModel]) -> str:
    """The keys of one table of a TOML file, as a Markdown table; with effect and scope where the keys declare them."""
    fields = model.model_fields
    columns: dict[str, list[str]] = {
        "key": [f"`{key}`" for key in fields],
        "value": [_value(field) for field in fields.values()],
        "default": [_default(field) for field in fields.values()],
    }
    settings = [item for field in fields.values() for item in field.metadata if isinstance(item, Setting)]
    if settings:
        columns["takes effect"] = [setting.effect.value for setting in settings]
        columns["set for"] = [setting.scope.value for setting in settings]
    columns["meaning"] = [_one_line(field.description) for field in fields.values()]
    rows = [tuple(columns), ("---",) * len(columns), *zip(*columns.values(), strict=True)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


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
            for key, inner in model.model_fields.items():
                for item in models_in(inner.annotation):
                    yield f"### `[[{name}.{key}]]`\n\n{_one_line(item.__doc__)}\n"
                    yield key_table(item)


def _value(field: FieldInfo) -> str:
    kind = _kind(field.annotation)
    if _is_size(field):
        return "size"
    if get_origin(kind) is Literal:
        return " or ".join(f"`{_toml(choice)}`" for choice in get_args(kind))
    if get_origin(kind) is tuple:
        return "list"
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return " or ".join(f"`{_toml(member.value)}`" for member in kind)
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
        return _kind(next(argument for argument in get_args(annotation) if argument is not NoneType))
    return annotation


def _is_size(field: FieldInfo) -> bool:
    return any(getattr(item, "func", None) is parse_size for item in field.metadata)


def _bounds(field: FieldInfo) -> str:
    bounds = []
    for limit in field.metadata:
        for name, word in (("ge", "from"), ("gt", "above"), ("le", "to")):
            if hasattr(limit, name):
                bounds.append(f"{word} {getattr(limit, name)}")
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
