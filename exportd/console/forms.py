"""Reads what a form of a page sends. Pure."""

from dataclasses import dataclass
from urllib.parse import parse_qs

from exportd.api.problems import Refusal
from exportd.model.bounds import MAX_ENTITIES

_MAX_FIELDS = MAX_ENTITIES + 200


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form: each name with what was given for it."""

    fields: dict[str, list[str]]

    @classmethod
    def of(cls, body: bytes) -> "Form":
        """Raises Refusal 400 for what no form sends."""
        try:
            text = body.decode("utf-8")
            return cls(parse_qs(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=_MAX_FIELDS))
        except ValueError as error:
            raise Refusal(400, f"The form cannot be read: {error}. Go back and send it again.") from error

    def text(self, name: str) -> str:
        """What was written in a field, without blanks around it; empty when nothing was."""
        return self.fields.get(name, [""])[-1].strip()

    def texts(self, name: str) -> list[str]:
        """What was ticked of several."""
        return [text for text in self.fields.get(name, []) if text]
