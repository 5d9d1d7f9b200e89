import pytest

from exportd.catalog.shape import ValueType, accepts, accepts_format, field_type


def of(base: str, *, is_nested: bool = False) -> ValueType:
    return ValueType(base, base, is_nested)


@pytest.mark.parametrize(
    ("type_", "declared"),
    [
        (of("int4"), ("integer", None)),
        (of("int8"), ("integer", None)),
        (of("numeric"), ("float", None)),
        (of("float8"), ("float", None)),
        (of("bool"), ("boolean", None)),
        (of("jsonb"), ("json", None)),
        (of("text"), ("string", None)),
        (of("uuid"), ("string", "uuid")),
        (of("date"), ("string", "date")),
        (of("timestamptz"), ("string", "date-time")),
        (of("bytea"), ("string", None)),
        (of("oid"), ("string", None)),
        (of("_int4", is_nested=True), ("string", None)),
    ],
)
def test_what_to_declare_for_a_column_is_accepted_for_it(type_: ValueType, declared: tuple[str, str | None]) -> None:
    assert field_type(type_) == declared
    assert accepts(declared[0], type_)
    assert accepts_format(declared[1], type_)


@pytest.mark.parametrize(
    ("declared", "type_"),
    [
        ("integer", of("numeric")),
        ("float", of("int4")),
        ("json", of("text")),
        ("json", of("_text", is_nested=True)),
        ("string", of("color")),
    ],
)
def test_looser_declarations_that_do_not_mislead_are_accepted(declared: str, type_: ValueType) -> None:
    assert accepts(declared, type_)


@pytest.mark.parametrize(
    ("declared", "type_"),
    [
        ("integer", of("text")),
        ("integer", of("float8")),
        ("integer", of("bool")),
        ("float", of("text")),
        ("boolean", of("int4")),
        ("boolean", of("text")),
        ("json", of("int4")),
        ("json", of("uuid")),
        ("string", of("int4")),
        ("string", of("bool")),
        ("string", of("jsonb")),
        ("integer", of("_int4", is_nested=True)),
    ],
)
def test_declarations_that_mislead_a_reader_are_not(declared: str, type_: ValueType) -> None:
    assert not accepts(declared, type_)


@pytest.mark.parametrize(
    ("declared", "type_", "is_good"),
    [
        (None, of("uuid"), True),
        ("uuid", of("text"), True),
        ("date", of("varchar"), True),
        ("date-time", of("timestamp"), True),
        ("date", of("timestamptz"), False),
        ("date-time", of("date"), False),
        ("uuid", of("int4"), False),
        ("uuid", of("_uuid", is_nested=True), False),
    ],
)
def test_a_format_must_not_be_contradicted(declared: str | None, type_: ValueType, is_good: bool) -> None:
    assert accepts_format(declared, type_) is is_good
