"""Which type and format a column's values have for the consumer, and whether the catalog declares them so. Pure."""

from dataclasses import dataclass

_TYPES = {
    "int2": "integer",
    "int4": "integer",
    "int8": "integer",
    "float4": "float",
    "float8": "float",
    "numeric": "float",
    "bool": "boolean",
    "json": "json",
    "jsonb": "json",
}
_FORMATS = {"uuid": "uuid", "date": "date", "timestamp": "date-time", "timestamptz": "date-time"}
_TEXTS = frozenset({"text", "varchar", "bpchar", "name", "citext"})

INSTANTS = frozenset({"date", "timestamp", "timestamptz"})
"""Types of pg_catalog whose values are points in time: days, or times with or without a zone."""

# What a declared type accepts beside its own: looser, where no reader is misled.
_ALSO: dict[str, frozenset[str]] = {
    "integer": frozenset({"numeric"}),  # numeric(20,0) is how some spell a large integer
    "float": frozenset({"int2", "int4", "int8"}),
    "json": _TEXTS,  # JSON kept as text
}


@dataclass(frozen=True, slots=True)
class ValueType:
    """A type as the database has it. ``name`` is for people, ``base`` the pg_type name below domains.

    ``is_nested``: an array or a composite, which is Postgres's own text in CSV and nested in JSONL.
    """

    name: str
    base: str
    is_nested: bool = False


def is_instant(type_: ValueType) -> bool:
    """Whether the values are points in time."""
    return not type_.is_nested and type_.base in INSTANTS


def field_type(type_: ValueType) -> tuple[str, str | None]:
    """The type and format to declare for such a column."""
    if type_.is_nested:
        return "string", None
    return _TYPES.get(type_.base, "string"), _FORMATS.get(type_.base)


def accepts(declared: str, type_: ValueType) -> bool:
    """Whether a field of the ``declared`` type may hold such values."""
    if type_.is_nested:
        return declared in {"string", "json"}
    return _TYPES.get(type_.base, "string") == declared or type_.base in _ALSO.get(declared, ())


def accepts_format(declared: str | None, type_: ValueType) -> bool:
    """Whether the ``declared`` format is not contradicted: a text may hold anything, a date is no uuid."""
    if declared is None or type_.base in _TEXTS:
        return True
    return not type_.is_nested and _FORMATS.get(type_.base) == declared
