"""What the schemas have in common: field types, and how strict bodies are. Pure."""

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import WithJsonSchema

from exportd.model.schedule import Pause
from exportd.settings.section import MAX_CODE_LENGTH, check_code

_CODE_PATTERN = r"^[^\x00-\x20\x7f](?:[^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?$"

READ_ONLY = frozenset({"id", "dtCreated", "dtLastModified", "createdBy", "lastModifiedBy"})
"""Fields that only we set. A client may send them back; they are ignored."""


def parse_instant(text: object) -> datetime:
    """An ISO 8601 date-time with a time zone, in UTC. Raises ValueError with a sentence."""
    try:
        instant = datetime.fromisoformat(text) if isinstance(text, str) else None
        if instant is not None and instant.tzinfo is not None:
            return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError("should be a date and time such as 2026-01-31T00:00:00Z")


def _format_instant(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Code = Annotated[
    str,
    AfterValidator(check_code),
    Field(description="A short name, unique within the organization.", examples=["nightly"]),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_CODE_LENGTH, "pattern": _CODE_PATTERN}),
]
Instant = Annotated[
    datetime,
    BeforeValidator(parse_instant),
    PlainSerializer(_format_instant),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""An instant in a request."""

Moment = Annotated[
    datetime, PlainSerializer(_format_instant), WithJsonSchema({"type": "string", "format": "date-time"})
]
"""An instant in an answer."""


class RequestBody(BaseModel):
    """A JSON object in which unknown fields are errors, a text is never taken for a number, and null means the same as
    leaving a field out.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    ignored: ClassVar[frozenset[str]] = READ_ONLY

    @model_validator(mode="before")
    @classmethod
    def _without_ignored(cls, document: Any) -> Any:
        if not isinstance(document, dict):
            return document
        known = {field.alias for field in cls.model_fields.values()}
        return {
            key: value
            for key, value in document.items()
            if key not in cls.ignored and not (value is None and key in known)
        }


class Answer(BaseModel):
    """A JSON object that we send; fields without a value are left out."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, frozen=True)


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
    """The ids of a filter, repeated or separated by commas; None when there is none. What is no id is left out."""
    words = [word.strip() for text in texts for word in text.split(",")]
    if not any(words):
        return None
    return [found for word in words if (found := parse_id(word)) is not None]


def parse_id(text: str) -> UUID | None:
    """A uuid in its usual form, None for anything else."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text.lower() else None
