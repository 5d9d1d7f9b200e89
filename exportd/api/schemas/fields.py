"""Field types and base classes of the schemas, which decide how strict bodies are. Pure."""

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import WithJsonSchema

from exportd.model.foreign_text import (
    CODE_PATTERN,
    MAX_CODE_LENGTH,
    MAX_COUNT,
    MAX_ENTITIES,
    MAX_FIELDS,
    MAX_IDS,
    MAX_INSTANT_LENGTH,
    MAX_NAME_LENGTH,
    MAX_TEXT_LENGTH,
    MAX_WORD_LENGTH,
    check_code,
    check_printable,
)
from exportd.model.schedule import Pause

READ_ONLY = frozenset({"id", "dtCreated", "dtLastModified", "createdBy", "lastModifiedBy"})
"""Fields that only we set. A client may send them back; they are ignored."""


_FIRST_YEAR, _LAST_YEAR = 1970, 9998


def parse_instant(text: object) -> datetime:
    """An ISO 8601 date-time with a time zone, in UTC. Raises ValueError with a sentence."""
    try:
        short = isinstance(text, str) and len(text) <= MAX_INSTANT_LENGTH
        instant = datetime.fromisoformat(text) if isinstance(text, str) and short else None
        if instant is not None and instant.tzinfo is not None:
            return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError("should be a date and time such as 2026-01-31T00:00:00Z")


def _check_start_date(instant: datetime) -> datetime:
    if not _FIRST_YEAR <= instant.year <= _LAST_YEAR:
        raise ValueError(f"should be in the years {_FIRST_YEAR} to {_LAST_YEAR}; leave it out to export everything")
    return instant


def _format_instant(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _format_exactly(instant: datetime) -> str:
    """In milliseconds, or in microseconds where these would not be all."""
    timespec = "microseconds" if instant.microsecond % 1000 else "milliseconds"
    return instant.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


Code = Annotated[
    str,
    AfterValidator(check_code),
    Field(description="A short name, unique within the organization.", examples=["nightly"]),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_CODE_LENGTH, "pattern": f"^{CODE_PATTERN}$"}),
]
DATE_TIME = WithJsonSchema({"type": "string", "format": "date-time", "maxLength": MAX_INSTANT_LENGTH})

Instant = Annotated[datetime, BeforeValidator(parse_instant), PlainSerializer(_format_instant), DATE_TIME]
"""An instant in a request."""

Moment = Annotated[datetime, PlainSerializer(_format_instant), DATE_TIME]
"""An instant in an answer."""

StartDate = Annotated[Instant, AfterValidator(_check_start_date)]
"""From when on something is to be exported: an instant that a manifest can have."""

ExactMoment = Annotated[datetime, PlainSerializer(_format_exactly), DATE_TIME]
"""An instant in an answer, as it was asked for: to the microsecond."""

Id = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, UUID) else value)]
"""An id in an answer that is made of a record (``Answer.of``), which has it as a uuid."""

Word = Annotated[str, Field(min_length=1, max_length=MAX_WORD_LENGTH), AfterValidator(check_printable)]
"""An id or a short text of another system."""

DisplayName = Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH), AfterValidator(check_printable)]
"""A name for people to read."""

EntityName = Annotated[str, Field(max_length=MAX_CODE_LENGTH)]
"""An entity, as the catalog calls it."""

EntityNames = Annotated[list[EntityName], Field(max_length=MAX_ENTITIES, fail_fast=True)]
"""A list is read up to its first wrong item, because thousands of sentences would not help."""

Version = Annotated[
    int, Field(ge=0, le=MAX_COUNT, description="The version that was read; 409 when there is a newer one.")
]


class RequestBody(BaseModel):
    """A JSON object in which unknown fields are errors, a text is never taken for a number, and null means the same as
    leaving a field out. Every field has a bound; ``str_max_length`` is that of a text that has no lower one.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        str_max_length=MAX_TEXT_LENGTH,
    )

    ignored: ClassVar[frozenset[str]] = READ_ONLY

    @model_validator(mode="before")
    @classmethod
    def _without_ignored(cls, document: Any) -> Any:
        if not isinstance(document, dict):
            return document
        if len(document) > MAX_FIELDS:
            raise ValueError(f"the body should have at most {MAX_FIELDS} fields, but has {len(document)}")
        known = {field.alias for field in cls.model_fields.values()}
        return {
            key: value
            for key, value in document.items()
            if key not in cls.ignored and not (value is None and key in known)
        }


class Answer(BaseModel):
    """A JSON object that we send. It has all its keys: null where there is nothing.

    A key that belongs to one kind of a noun only (``OfOneKind``) is left out where it has no value.
    """

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, frozen=True)

    @classmethod
    def of(cls, record: object) -> Self:
        """What a record says whose attributes are called like the fields; it may have more of them."""
        return cls.model_validate(record, from_attributes=True)


OfOneKind = Annotated[str | None, Field(exclude_if=lambda value: value is None)]
"""A text of an answer that only one kind of the noun has. The official client knows the kinds by such keys."""


class ErrorAnswer(Answer):
    """Why a request was refused, in one sentence."""

    message: str


class PauseStatus(Answer):
    """Since when something is paused, and who paused it."""

    since: Moment
    by: str


def pause_status(pause: Pause | None) -> PauseStatus | None:
    return None if pause is None else PauseStatus(since=pause.paused_at, by=pause.paused_by)


def parse_ids(texts: list[str]) -> list[UUID] | None:
    """The ids of a filter, repeated or separated by commas; None when there is none. What is no id is left out.

    Raises ValueError for more than ``MAX_IDS``.
    """
    words = [word.strip() for text in texts for word in text.split(",")]
    if not any(words):
        return None
    if len(words) > MAX_IDS:
        raise ValueError(f"should be at most {MAX_IDS} ids, but are {len(words)}")
    return [found for word in words if (found := parse_id(word)) is not None]


def parse_id(text: str) -> UUID | None:
    """A uuid in its usual form, None for anything else."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text.lower() else None
