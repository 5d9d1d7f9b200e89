"""What a person fills in becomes the API's document of a schedule."""

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.api.problems import Refusal
from exportd.api.schemas.schedule import ScheduleCreation
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
