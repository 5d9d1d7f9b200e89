"""Reads the forms of pages: as they were filled in, as the body of the API's request, and as the configuration and the
command line would have them. Pure.
"""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import parse_qs, quote

from pydantic import TypeAdapter, ValidationError

from exportd.api.dependencies import Tenant
from exportd.api.identity.access import Identity
from exportd.api.pagination import organization_of
from exportd.api.problems import Refusal, sentence_of
from exportd.api.schemas.destination import CREATIONS, DestinationDetails
from exportd.api.schemas.schedule import ScheduleDetails
from exportd.model.errors import ExportdError, Reason
from exportd.model.foreign_text import MAX_ENTITIES

_MAX_FIELDS = MAX_ENTITIES + 200

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form, each name with its values."""

    fields: dict[str, list[str]]

    @classmethod
    def of(cls, body: bytes) -> "Form":
        """Read a form. Raises Refusal 400 for data that no form sends."""
        try:
            text = body.decode("utf-8")
            return cls(parse_qs(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=_MAX_FIELDS))
        except ValueError as error:
            raise Refusal(400, f"The form cannot be read: {error}. Go back and send it again.") from error

    def text(self, name: str) -> str:
        """The text of a field, without surrounding blanks; empty when nothing was filled in."""
        return self.fields.get(name, [""])[-1].strip()

    def texts(self, name: str) -> list[str]:
        """The ticked values of a field."""
        return [text for text in self.fields.get(name, []) if text]


class FormRefusal(Refusal):
    """The form is not a valid request of the API. ``problems`` are sentences, by the API's names of fields."""

    def __init__(self, errors: Iterable[Mapping[str, Any]]) -> None:
        found = list(errors)
        super().__init__(400, sentence_of(found))
        self.problems: dict[str, str] = {}
        for error in found:
            name, _, words = sentence_of([error]).partition(": ")
            self.problems.setdefault(name, words)


def body_of(kind: TypeAdapter[T], document: object) -> T:
    """The request for the API. Raises FormRefusal with the problems."""
    try:
        return kind.validate_python(document)
    except ValidationError as error:
        raise FormRefusal(map(dict, error.errors(include_url=False))) from error


def tenant_of(organization: str, who: Identity) -> Tenant:
    """The organization for which something is done. Raises Refusal 400 for an invalid one, 403 for one that the visitor
    may not see.
    """
    named = organization_of(organization)
    if who.organization not in {None, named}:
        raise Refusal(403, "organization: this is not one that you may see.")
    return Tenant(named, who.name)


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a form was refused: the ``status`` of the answer, a sentence, and the problems by the API's names of fields.

    ``is_stale`` says that another person has edited the same object since.
    """

    status: int = 200
    sentence: str = ""
    problems: Mapping[str, str] = field(default_factory=dict)
    is_stale: bool = False

    @classmethod
    def of(cls, error: Exception, status: int, sentence: str) -> "Refused":
        """The API begins a sentence about one field with its name."""
        if isinstance(error, FormRefusal):
            return cls(status, sentence, error.problems)
        is_stale = isinstance(error, ExportdError) and error.reason is Reason.VERSION_STALE
        name, colon, words = sentence.partition(": ")
        return cls(status, sentence, {name: words} if colon and name.isidentifier() else {}, is_stale)


NOT_REFUSED = Refused()
"""The value for a form that was not sent yet."""


UNITS = {"HOUR": "Hours", "DAY": "Days", "MINUTE": "Minutes"}
_OPTIONS = {"cron": "--cron", "unit": "--unit", "period": "--period", "offset": "--offset"}
OFFSET_UNITS = {"HOUR": "minutes into the hour", "DAY": "hours into the day"}
"""The meaning of the offset, by the unit of the period. Minutes have no offset."""


@dataclass(frozen=True, slots=True)
class ScheduleForm:
    """Every field as text, as the browser shows it. ``version`` is empty in the form of a new schedule."""

    organization: str = ""
    name: str = ""
    code: str = ""
    destination_ids: tuple[str, ...] = ()
    file_format: str = "CSV"
    advanced: bool = False
    schedule_type: str = "HOUR"
    period: str = "1"
    offset: str = ""
    cron_expression: str = ""
    entities: tuple[str, ...] = ()
    version: str = ""

    @classmethod
    def sent(cls, form: Form) -> "ScheduleForm":
        """Read what a browser sends."""
        return cls(
            organization=form.text("organization"),
            name=form.text("name"),
            code=form.text("code") or code_of(form.text("name")),
            destination_ids=tuple(form.texts("destination")),
            file_format=form.text("format"),
            advanced=form.text("kind") == "advanced",
            schedule_type=form.text("unit"),
            period=form.text("period"),
            offset=form.text("offset"),
            cron_expression=form.text("cron"),
            entities=tuple(form.texts("entity")),
            version=form.text("version"),
        )

    @classmethod
    def of(cls, schedule: ScheduleDetails) -> "ScheduleForm":
        """The form in which a schedule is edited."""
        usual = cls()
        return replace(
            usual,
            organization=schedule.organization,
            name=schedule.name,
            code=schedule.code,
            destination_ids=tuple(schedule.destination_ids),
            file_format=schedule.export_file_format,
            advanced=schedule.cron_expression is not None,
            schedule_type=schedule.schedule_type or usual.schedule_type,
            period=usual.period if schedule.period is None else str(schedule.period),
            offset="" if schedule.offset is None else str(schedule.offset),
            cron_expression=schedule.cron_expression or "",
            entities=tuple(schedule.operational_data_types),
            version=str(schedule.version),
        )

    @property
    def rule(self) -> dict[str, object]:
        """The fields of the rule, by the API's names. Values that are not numbers stay text, so that the API says what
        is wrong.
        """
        if self.advanced:
            return {"cronExpression": self.cron_expression}
        offset = {} if self.schedule_type == "MINUTE" or not self.offset else {"offset": _number(self.offset)}
        return {"scheduleType": self.schedule_type, "period": _number(self.period), **offset}

    @property
    def document(self) -> dict[str, object]:
        """The body of the API's request."""
        return {
            "name": self.name,
            "code": self.code,
            "sourceType": "OPERATIONAL",
            "operationalDataTypes": list(self.entities),
            "destinationIds": list(self.destination_ids),
            "exportFileFormat": self.file_format,
            **self.rule,
            **({"version": _number(self.version)} if self.version else {}),
        }

    def declaration(self, destinations: Sequence[str]) -> str:
        """The same schedule in the configuration; ``destinations`` are codes."""
        keys = {
            "code": self.code,
            "organization": self.organization,
            "name": self.name,
            "entities": list(self.entities),
            "destinations": list(destinations),
            "format": self.file_format,
            **self._own_rule,
        }
        return "\n".join(["[[schedule]]", *(f"{key} = {_toml(value)}" for key, value in keys.items())])

    def command(self, destinations: Sequence[str]) -> str:
        """The command that makes the same schedule; ``destinations`` are codes."""
        # With the value after an equals sign, it may begin with a hyphen.
        words = ["exportd", "schedule", "create", self.code]
        words += [f"--organization={self.organization}", f"--name={self.name}"]
        for option, values in (("--entities", self.entities), ("--destinations", destinations)):
            words += [option, *values] if values else []
        words += [f"--format={self.file_format}"]
        words += [f"{_OPTIONS[name]}={value}" for name, value in self._own_rule.items()]
        return shlex.join(words)

    @property
    def request(self) -> str:
        """The request of the API that makes the same schedule."""
        path = f"/organizations/{quote(self.organization, safe='')}/dataexports/schedules"
        return f"POST {path}\n\n{json.dumps(self.document, indent=2, ensure_ascii=False)}"

    @property
    def _own_rule(self) -> dict[str, object]:
        """The rule's fields, as the configuration and the command line call them."""
        names = {"cronExpression": "cron", "scheduleType": "unit"}
        return {names.get(name, name): value for name, value in self.rule.items()}


def _toml(value: object) -> str:
    """Write a value for TOML. Strings and lists are written as in JSON, except one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


@dataclass(frozen=True, slots=True)
class AdHocForm:
    """An export without a schedule. ``start_date`` is in UTC, as a browser writes it."""

    organization: str = ""
    destination_ids: tuple[str, ...] = ()
    file_format: str = "CSV"
    start_date: str = ""
    entities: tuple[str, ...] = ()

    @classmethod
    def sent(cls, form: Form) -> "AdHocForm":
        """Read what a browser sends."""
        return cls(
            organization=form.text("organization"),
            destination_ids=tuple(form.texts("destination")),
            file_format=form.text("format"),
            start_date=form.text("start"),
            entities=tuple(form.texts("entity")),
        )

    @property
    def document(self) -> dict[str, object]:
        """The body of the API's request."""
        return {
            "sourceType": "OPERATIONAL",
            "operationalDataTypes": list(self.entities),
            "destinationIds": list(self.destination_ids),
            "exportFileFormat": self.file_format,
            **({"startDate": f"{self.start_date.removesuffix('Z')}Z"} if self.start_date else {}),
        }


@dataclass(frozen=True, slots=True)
class DestinationForm:
    """A destination of one ``kind``. ``details`` are what that kind has, by the API's names of fields."""

    kind: str
    organization: str = ""
    name: str = ""
    code: str = ""
    details: Mapping[str, str] = field(default_factory=dict)
    version: str = ""

    @classmethod
    def sent(cls, form: Form) -> "DestinationForm":
        """Read what a browser sends. Raises Refusal 400 for a kind that the API cannot create."""
        kind = form.text("kind")
        return cls(
            kind=kind,
            organization=form.text("organization"),
            name=form.text("name"),
            code=form.text("code") or code_of(form.text("name")),
            details={name: form.text(name) for name in details_of(kind)},
            version=form.text("version"),
        )

    @classmethod
    def of(cls, destination: DestinationDetails) -> "DestinationForm":
        """The form in which a destination is edited."""
        document = destination.model_dump(by_alias=True)
        return cls(
            kind=destination.destination_type,
            organization=destination.organization,
            name=destination.name,
            code=destination.code,
            details={name: _as_text(document.get(name)) for name in details_of(destination.destination_type)},
            version=str(destination.version),
        )

    @property
    def document(self) -> dict[str, object]:
        """The body of the API's request. Empty fields are left out."""
        switched = self.details.get("emptyFiles")
        return {
            "destinationType": self.kind,
            "name": self.name,
            "code": self.code,
            **{name: text for name, text in self.details.items() if text},
            **({"emptyFiles": _SWITCH.get(switched, switched)} if switched else {}),
            **({"version": _number(self.version)} if self.version else {}),
        }


_SWITCH: Mapping[str, object] = {"true": True, "false": False}


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value or "")


def details_of(kind: str) -> list[str]:
    """The fields of a kind of destination, besides name and code. Raises Refusal 400 for an unknown kind."""
    if kind not in CREATIONS:
        raise Refusal(400, f"destinationType: should be {' or '.join(CREATIONS)}. Choose one of them.")
    names = [str(known.alias) for known in CREATIONS[kind].model_fields.values()]
    return [name for name in names if name not in {"name", "code", "destinationType"}]


def code_of(name: str) -> str:
    """A code made of a name: small letters and digits, with hyphens between the words."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())


def _number(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else text


def differences(filled: Mapping[str, object], stored: Mapping[str, object]) -> dict[str, object]:
    """The fields that are stored with another value than was filled in, without the version."""
    return {name: stored.get(name) for name in {**stored, **filled} if filled.get(name) != stored.get(name)} | {
        "version": stored["version"]
    }
