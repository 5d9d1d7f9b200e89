"""What the catalog file may contain. The text below a key is shown where the key is missing, and in docs/catalog.md."""

import re
import unicodedata
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from exportd.catalog.expressions import problems_of_expression
from exportd.catalog.names import MAX_ENTITY_CODE_LENGTH, MAX_FIELD_NAME_BYTES, parse_table_name
from exportd.model.entity import DELETED_FIELD, TableName
from exportd.model.foreign_text import (
    check_name,
)
from exportd.settings.section import (
    Section,
    check_not_empty,
)

FieldType = Literal["string", "integer", "float", "boolean", "json"]
FieldFormat = Literal["uuid", "date", "date-time"]

_ENTITY_CODE = re.compile(rf"[A-Z][A-Z0-9_]{{0,{MAX_ENTITY_CODE_LENGTH - 1}}}")
_TYPE_TOKEN = re.compile(r"[a-z0-9]{1,80}")


def _check_entity_code(code: str) -> str:
    if not _ENTITY_CODE.fullmatch(code):
        raise ValueError(
            "should be capitals, digits and underscores, such as ORDER_ITEMS, "
            f"beginning with a letter, at most {MAX_ENTITY_CODE_LENGTH} characters"
        )
    if code == "ALL":
        raise ValueError("should be another word: ALL means every entity in a schedule")
    return code


def _check_type_token(token: str) -> str:
    if not _TYPE_TOKEN.fullmatch(token):
        raise ValueError("should be small letters and digits, such as orderitem: it is part of file names")
    return token


def _check_column(column: str) -> str:
    if not column or "\x00" in column:
        raise ValueError("should be the name of a column")
    return column


def _check_field_name(name: str) -> str:
    if not name or any(unicodedata.category(character) == "Cc" for character in name):
        raise ValueError("should be a name without control characters")
    if len(name.encode(errors="surrogatepass")) > MAX_FIELD_NAME_BYTES:
        raise ValueError(f"should have at most {MAX_FIELD_NAME_BYTES} bytes; Postgres cuts longer ones")
    if name == DELETED_FIELD:
        raise ValueError(
            f"should be another name: the last field of every record is {DELETED_FIELD}, "
            "which says whether it was deleted"
        )
    return name


def _check_expression(expression: str) -> str:
    sentences = problems_of_expression(expression)
    if sentences:
        raise ValueError("; it ".join(sentences))
    return expression


def _table(value: object) -> TableName:
    if isinstance(value, str):
        return parse_table_name(value)
    raise ValueError('should be a schema and a table in quotes, such as "public.accounts"')


def _tenant(value: object) -> str | None:
    """The column, or None for false; true says nothing."""
    match value:
        case False:
            return None
        case str() if value and "\x00" not in value:
            return value
        case _:
            raise ValueError(
                'should be the column that holds the organization, such as "organization_id", '
                "or false when every organization may read every row"
            )


def _long_form(value: object) -> object:
    match value:
        case str():
            return {"name": value}
        case dict() | FieldEntry():
            return value
        case _:
            raise ValueError('should be a name in quotes or a table such as { name = "id", column = "id" }')


class FieldEntry(Section):
    """One field of an entity. With neither column nor expression, the column is the name in snake_case."""

    name: Annotated[str, AfterValidator(_check_field_name)]
    """The field's name in the files, such as `dtCreated`."""

    column: Annotated[str, AfterValidator(_check_column)] | None = None
    """The column, exactly as the database names it."""

    expression: Annotated[str, AfterValidator(_check_expression)] | None = None
    """An SQL expression over the columns of the row, instead of a column."""

    type: FieldType | None = None
    """What the values are; taken from the database when left out."""

    format: FieldFormat | None = None
    """What kind of text a string is."""

    reference: str | None = None
    """The entity whose key the values are."""


class CatalogEntry(Section):
    """One entity."""

    code: Annotated[str, AfterValidator(_check_entity_code)]
    """The name that schedules use, such as `ACCOUNTS`."""

    label: Annotated[str, AfterValidator(check_name)]
    """A name for people to read, such as `Accounts`."""

    type_token: Annotated[str, AfterValidator(_check_type_token)]
    """The `type=` part of paths and the end of file names, such as `account`."""

    table: Annotated[TableName, BeforeValidator(_table)]
    """The table with its schema, such as `public.accounts`."""

    key: Annotated[
        tuple[Annotated[str, AfterValidator(_check_column)], ...], AfterValidator(check_not_empty), Field(strict=False)
    ]
    """The columns that identify a record, such as `["id"]`: never null, and unique together."""

    tenant: Annotated[str | None, BeforeValidator(_tenant)]
    """The column that holds the organization, such as `"organization_id"`; or `false`, which lets every
    organization read every row."""

    modified: Annotated[str, AfterValidator(_check_column)] | None = None
    """The column with the time of a row's last change, such as `"updated_at"`: a `timestamptz`, `timestamp` or `date`,
    which the application keeps up to date. Needed for an export with a start date, and for nothing else."""

    capture: Literal["statement", "row"] = "statement"
    """Whether changes are recorded once for each statement, or for each row. Postgres keeps all rows of a statement for
    triggers of statements, in temporary files where they are many, and `temp_file_limit` counts them. Triggers of rows
    need no such files, and take several times as long for a statement that changes many rows."""

    fields: (
        Annotated[
            tuple[Annotated[FieldEntry, BeforeValidator(_long_form)], ...],
            AfterValidator(check_not_empty),
            Field(strict=False),
        ]
        | None
    ) = None
    """The fields in the order of the files; every column in camelCase when left out."""


class FileEntry(Section):
    """The catalog file."""

    entity: Annotated[tuple[CatalogEntry, ...], AfterValidator(check_not_empty), Field(strict=False)]
    """Every kind of record that can be exported, each under its own `[[entity]]`. `exportd catalog draft`
    proposes them."""
