"""The form of an export schedule: what a person has filled in, and the API's document of it. Pure."""

from dataclasses import dataclass, replace

from exportd.api.schemas.schedule import ScheduleDetails
from exportd.console.forms import Form

UNITS = {"HOUR": "Hours", "DAY": "Days", "MINUTE": "Minutes"}
OFFSET_UNITS = {"HOUR": "minutes into the hour", "DAY": "hours into the day"}
"""By the unit of the period. Minutes have no offset."""


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
        """What a browser sends."""
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
        """The rule's fields, as the API calls them. What is no number stays text: the API says what is wrong."""
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


def code_of(name: str) -> str:
    """A code made of a name: small letters and digits, with hyphens between the words."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())


def _number(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else text
