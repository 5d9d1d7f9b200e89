"""What must change so that the destinations are those that are declared."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from exportd.destinations.reconciliation import compare
from exportd.destinations.record import DestinationDeclaration, DestinationRecord, declaration_to_json
from exportd.model.declared import Declared
from exportd.model.entity import OrganizationId
from exportd.model.schedule import DestinationCode, Origin

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LAKE = DestinationDeclaration(OrganizationId("acme"), DestinationCode("lake"), "Lake", {"directory": "/lake"})
MOVED = replace(LAKE, settings={"directory": "/elsewhere"})
KEY = (LAKE.organization, LAKE.code)


def record(declaration: DestinationDeclaration = LAKE, origin: Origin = Origin.CONFIGURATION) -> DestinationRecord:
    return DestinationRecord(uuid4(), declaration, origin, 1, NOON, NOON, "somebody", "somebody")


def test_what_is_declared_and_there_stays() -> None:
    assert not compare([LAKE], [record()])


def test_what_is_new_edited_or_gone() -> None:
    there, elsewhere = record(), replace(LAKE, organization=OrganizationId("other"))
    assert compare([LAKE], []).new == (LAKE,)
    (edit,) = compare([MOVED], [there]).edits
    assert (edit.destination, edit.declaration) == (there, MOVED)
    plan = compare([elsewhere], [there])
    assert (plan.new, plan.gone) == ((elsewhere,), (there,))


def test_what_the_api_made_is_left_alone_until_it_is_declared() -> None:
    made = record(origin=Origin.API)
    assert not compare([], [made])
    (edit,) = compare([LAKE], [made]).edits
    assert edit.destination == made


def test_what_another_daemon_declares_stays_as_that_one_wrote_it_later() -> None:
    others = Declared({KEY: declaration_to_json(LAKE)}, {KEY: [declaration_to_json(MOVED)]})
    assert not compare([LAKE], [record(MOVED)], others)
    assert not compare([], [record(MOVED)], others)
