"""What becomes of destinations that are declared again, or otherwise, or not any more."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from exportd.destinations.record import DestinationDeclaration, DestinationRecord
from exportd.model.declared import Declared, key_of, reconcile
from exportd.model.entity import OrganizationId
from exportd.model.schedule import DestinationCode, Origin

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LAKE = DestinationDeclaration(OrganizationId("acme"), DestinationCode("lake"), "Lake", {"directory": "/lake"})
MOVED = replace(LAKE, settings={"directory": "/elsewhere"})
KEY = key_of(LAKE)


def record(declaration: DestinationDeclaration = LAKE, origin: Origin = Origin.CONFIGURATION) -> DestinationRecord:
    return DestinationRecord(uuid4(), declaration, origin, 1, NOON, NOON, "ann", "ann")


def test_what_is_declared_and_there_stays() -> None:
    assert not reconcile([LAKE], [record()])


def test_what_is_new_edited_or_gone() -> None:
    there, elsewhere = record(), replace(LAKE, organization=OrganizationId("other"))
    assert reconcile([LAKE], []).new == (LAKE,)
    assert reconcile([MOVED], [there]).edits == ((there, MOVED),)
    plan = reconcile([elsewhere], [there])
    assert (plan.new, plan.gone) == ((elsewhere,), (there,))


def test_what_the_api_made_is_left_alone_until_it_is_declared() -> None:
    made = record(origin=Origin.API)
    assert not reconcile([], [made])
    assert reconcile([LAKE], [made]).edits == ((made, LAKE),)


def test_what_another_daemon_declares_stays_as_that_one_wrote_it_later() -> None:
    others = Declared({KEY: LAKE.to_json()}, {KEY: [MOVED.to_json()]})
    assert not reconcile([LAKE], [record(MOVED)], others)
    assert not reconcile([], [record(MOVED)], others)


def test_only_where_files_are_is_the_place() -> None:
    assert replace(LAKE, name="Other", settings={**LAKE.settings, "checksum": "NONE"}).place == LAKE.place
    assert MOVED.place != LAKE.place
