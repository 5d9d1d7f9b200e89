"""What a person fills in becomes the API's document of a schedule."""

import shlex
import tomllib
from dataclasses import asdict, replace
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exportd.api.problems import Refusal
from exportd.api.schemas.schedule import ScheduleCreation
from exportd.cli.main import app
from exportd.console.forms import Form, ScheduleForm, code_of

FILLED = {
    "organization": "acme",
    "name": " Nightly copy ",
    "code": "",
    "destination": ["1", "2"],
    "format": "JSONL",
    "kind": "simple",
    "unit": "HOUR",
    "period": "6",
    "offset": "15",
    "cron": "",
    "entity": ["PLANS", "METERS"],
}


def sent(**changed: object) -> ScheduleForm:
    return ScheduleForm.sent(Form.of(urlencode(FILLED | changed, doseq=True).encode()))


def test_the_simple_form_becomes_a_period() -> None:
    document = sent().document
    assert document == {
        "name": "Nightly copy",
        "code": "nightly-copy",
        "sourceType": "OPERATIONAL",
        "operationalDataTypes": ["PLANS", "METERS"],
        "destinationIds": ["1", "2"],
        "exportFileFormat": "JSONL",
        "scheduleType": "HOUR",
        "period": 6,
        "offset": 15,
    }
    assert ScheduleCreation.model_validate(document).period == 6


def test_the_advanced_form_becomes_a_cron_expression_alone() -> None:
    assert sent(kind="advanced", cron="5 4 * * *").rule == {"cronExpression": "5 4 * * *"}


def test_minutes_have_no_offset_and_what_is_no_number_stays_text() -> None:
    assert sent(unit="MINUTE", period="30").rule == {"scheduleType": "MINUTE", "period": 30}
    assert sent(period="six", offset="-1").rule == {"scheduleType": "HOUR", "period": "six", "offset": "-1"}
    assert sent(period="9" * 5000).rule["period"] == "9" * 5000


def test_a_version_is_sent_with_an_edit_only() -> None:
    assert sent(version="3").document["version"] == 3
    assert "version" not in sent(version="").document


@pytest.mark.parametrize(
    ("name", "code"), [("Nightly copy", "nightly-copy"), ("  A/B & C ", "a-b-c"), ("!", ""), ("Größe 2", "größe-2")]
)
def test_a_code_is_made_of_the_name(name: str, code: str) -> None:
    assert code_of(name) == code


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(str.strip).filter(bool)


@settings(max_examples=30)
@given(name=NAMES, advanced=st.booleans(), unit=st.sampled_from(["HOUR", "MINUTE"]))
def test_the_configuration_and_the_command_line_read_the_same_schedule(name: str, advanced: bool, unit: str) -> None:
    form = replace(
        sent(), name=name, advanced=advanced, cron_expression="5 4 * * *", schedule_type=unit, period="45", offset="5"
    )
    (declared,) = tomllib.loads(form.declaration(["lake", "pond"]))["schedule"]
    rule: dict[str, object] = {"cron": "5 4 * * *"} if advanced else {"unit": unit, "period": 45}
    if not advanced and unit == "HOUR":
        rule["offset"] = 5
    assert declared == {
        "code": "nightly-copy",
        "organization": "acme",
        "name": name,
        "entities": ["PLANS", "METERS"],
        "destinations": ["lake", "pond"],
        "format": "JSONL",
        **rule,
    }
    words = shlex.split(form.command(["lake", "pond"]))
    assert words[:4] == ["exportd", "schedule", "create", "nightly-copy"]
    _, given_options, _ = app.parse_args(words[1:], print_error=False, exit_on_error=False)
    options = asdict(given_options.arguments["options"])
    assert {option: options[option] for option in ("name", "entities", "destinations")} == {
        "name": name,
        "entities": ["PLANS", "METERS"],
        "destinations": ["lake", "pond"],
    }
    assert {option: options[option] for option in rule} == rule


@given(st.binary(max_size=200))
def test_any_body_is_a_form_or_refused(body: bytes) -> None:
    try:
        form = Form.of(body)
    except Refusal as refused:
        assert refused.status_code == 400
    else:
        assert isinstance(ScheduleForm.sent(form).document, dict)


def test_a_form_has_so_many_fields() -> None:
    with pytest.raises(Refusal):
        Form.of("&".join(f"entity={number}" for number in range(1000)).encode())
