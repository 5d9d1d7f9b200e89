"""What every table of the configuration is built from: strictness, and the kinds of values. Pure."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationInfo

from exportd.settings.codes import check_code, check_name, check_organization
from exportd.settings.sizes import parse_size


class Section(BaseModel):
    """A table of the configuration: unknown keys are errors, and a text is never taken for a number."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        validate_default=True,
    )


def _absolute(value: object, info: ValidationInfo) -> object:
    """Paths are relative to the configuration file's folder, which the loader hands in as the context."""
    match value:
        case Path():
            path = value
        case str() if value.startswith("~"):
            raise ValueError("should be a whole path: ~ is not expanded here")
        case str() if value and "\x00" not in value:
            path = Path(value)
        case _:
            raise ValueError("should be a path in quotes")
    folder = (info.context or {}).get("folder")
    return path if folder is None else folder / path


def _absolute_if_given(value: object, info: ValidationInfo) -> object:
    return None if value is None or value == "" else _absolute(value, info)


FilePath = Annotated[Path, BeforeValidator(_absolute)]
OptionalFilePath = Annotated[Path | None, BeforeValidator(_absolute_if_given)]
SizeBytes = Annotated[int, BeforeValidator(parse_size)]
Code = Annotated[str, AfterValidator(check_code)]
Organization = Annotated[str, AfterValidator(check_organization)]
Name = Annotated[str, AfterValidator(check_name)]
