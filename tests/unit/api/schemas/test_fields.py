"""What the schemas take and refuse."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from fastapi.routing import APIRoute
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from exportd.api.routers import ROUTERS
from exportd.api.schemas.destination import DestinationDetails, DestinationDocument
from exportd.api.schemas.entity import EntityDocument
from exportd.api.schemas.fields import ExactMoment, StartDate, parse_id, parse_ids, parse_instant
from exportd.api.schemas.job import JobDetails
from exportd.api.schemas.schedule import ScheduleDetails


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)), st.integers(-720, 720))
def test_an_instant_is_read_in_any_time_zone(instant: datetime, minutes: int) -> None:
    text = instant.astimezone(timezone(timedelta(minutes=minutes))).isoformat()
    assert parse_instant(text) == instant


@given(st.text() | st.integers() | st.none())
def test_nothing_else_is_an_instant(value: object) -> None:
    with pytest.raises(ValueError, match="should be a date and time"):
        parse_instant(value)


@given(st.uuids())
def test_an_id_is_read_in_its_usual_form_alone(found: UUID) -> None:
    assert parse_id(str(found)) == parse_id(str(found).upper()) == found
    for other in (found.hex, f"{{{found}}}", found.urn, f" {found}", f"{found}\n"):
        assert parse_id(other) is None


@given(st.lists(st.uuids(), min_size=1, max_size=5))
def test_ids_come_repeated_or_with_commas(ids: list[UUID]) -> None:
    texts = [str(id_) for id_ in ids]
    assert parse_ids(texts) == parse_ids([",".join(texts)]) == parse_ids([", ".join([*texts, "x"])]) == ids


def test_no_ids_are_no_filter_and_nonsense_is_one() -> None:
    assert parse_ids([]) is parse_ids([""]) is parse_ids([","]) is None
    assert parse_ids(["nonsense"]) == []


@given(st.datetimes(datetime(1970, 1, 1), datetime(9998, 12, 31, 23, 59, 59, 999999), timezones=st.just(UTC)))
def test_a_start_date_is_shown_as_exactly_as_it_was_asked_for(instant: datetime) -> None:
    shown = TypeAdapter(ExactMoment).dump_python(instant, mode="json")
    assert shown.endswith("Z")
    assert TypeAdapter(StartDate).validate_python(shown) == instant


@pytest.mark.parametrize("text", ["1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00+00:01", "9999-01-01T00:00:00Z"])
def test_a_start_date_is_one_that_a_manifest_can_have(text: str) -> None:
    with pytest.raises(ValidationError, match="should be in the years 1970 to 9998"):
        TypeAdapter(StartDate).validate_python(text)


def test_an_answer_leaves_no_key_out_but_those_of_another_kind_of_destination() -> None:
    absent = set()
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            assert not (route.response_model_exclude_none or route.response_model_exclude_unset), route.path
    for document in (DestinationDocument, DestinationDetails, JobDetails, ScheduleDetails, EntityDocument):
        absent |= {name for name, field in document.model_fields.items() if field.exclude_if is not None}
    assert absent == {
        *("bucket_name", "iam_role_arn", "project_number", "pool_id", "provider_id", "service_account_email"),
    }
