"""The entities of the catalog, and why one cannot be exported."""

from dataclasses import replace
from datetime import UTC, datetime

from exportd.api.identity.client_table import Role
from exportd.api.schemas.entity import EntityStanding
from exportd.model.entity import EntityCode
from exportd.model.foreign_text import url_segment
from tests.integration.api.made_objects import got
from tests.integration.api.standalone_api import ApiServer, local_status
from tests.unit.model.test_foreign_text import HOSTILE

NOON = datetime(2026, 3, 9, 12, tzinfo=UTC)


async def test_an_entity_that_cannot_be_exported_says_why(api: ApiServer) -> None:
    trouble = {EntityCode("THINGS"): "public.things has no column id."}
    status = replace(local_status(), out_of_order=trouble)
    object.__setattr__(api.using.status, "local", lambda: status)
    (listed,) = (await got(api, "/v1/entities"))["data"]
    assert (listed, listed["outOfOrder"]) == (await got(api, "/v1/entities/THINGS"), trouble[EntityCode("THINGS")])
    shown = await api.tcp.get("/v1/entities/THINGS", headers=await api.bearer(role=Role.READER))
    assert shown.json()["outOfOrder"].startswith("It does not fit its table")
    assert "public." not in shown.text


async def test_entities_of_other_names_are_not_found(api: ApiServer) -> None:
    for name in (*HOSTILE.values(), "THINGZ", "things"):
        sent = url_segment(name.replace("\udcff", "\ufffd"))  # what cannot be sent
        answer = await api.http.get(f"/v1/entities/{sent}")
        assert answer.status_code == (400 if len(name) > 80 else 404), name
    assert "did you mean THINGS" in (await api.http.get("/v1/entities/THINGZ")).json()["message"]


async def test_entities_are_those_of_the_catalog(api: ApiServer) -> None:
    assert (await got(api, "/v1/entities"))["data"] == [
        {
            "entity": "THINGS",
            "label": "Things",
            "typeToken": "thing",
            "table": "public.things",
            "key": ["id"],
            "modified": None,
            "fields": [{"name": "id", "type": "string", "format": None, "column": "id", "reference": None}],
            "referencedBy": [],
            "outOfOrder": None,
            "estimatedRows": None,
            "capture": None,
            "lookedAt": None,
        }
    ]


async def test_rows_and_capture_of_an_entity_are_for_users_of_the_machine(api: ApiServer) -> None:
    """The rows are those of every organization together."""
    things = EntityCode("THINGS")
    status = replace(local_status(), standings={things: EntityStanding(70_001, "DAMAGED", NOON)})
    object.__setattr__(api.using.status, "local", lambda: status)
    (listed,) = (await got(api, "/v1/entities"))["data"]
    names = ("estimatedRows", "capture", "lookedAt")
    assert [listed[name] for name in names] == [70_001, "DAMAGED", "2026-03-09T12:00:00.000Z"]
    assert listed == await got(api, "/v1/entities/THINGS")
    for role in (Role.READER, Role.OPERATOR):
        program = await api.bearer(role=role)
        (hidden,) = (await api.tcp.get("/v1/entities", headers=program)).json()["data"]
        assert hidden == (await api.tcp.get("/v1/entities/THINGS", headers=program)).json()
        assert [hidden[name] for name in names] == [None, None, None], role
