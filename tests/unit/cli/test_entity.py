"""The export schema and its relationships, for people and programs."""

from exportd.cli.entity import Reference, around, diagram, document, references, type_of
from exportd.model.entity import Entity, EntityCode, Field, TableName

ACCOUNTS, ORDERS, COUNTRIES = map(EntityCode, ("ACCOUNTS", "ORDERS", "COUNTRIES"))


def entity(code: EntityCode, *fields: Field) -> Entity:
    token = code.lower()
    return Entity(
        code, token, token, TableName("public", token), ("id",), None, (Field("id", "id", type="integer"), *fields)
    )


ENTITIES = {
    ACCOUNTS: entity(ACCOUNTS, Field("openedAt", "opened_at", format="date-time")),
    ORDERS: entity(ORDERS, Field("accountId", "account_id", type="integer", reference=ACCOUNTS)),
    COUNTRIES: entity(COUNTRIES),
}
TO_ACCOUNTS = Reference(ORDERS, "accountId", ACCOUNTS)


def test_references_are_found_from_both_ends() -> None:
    found = references(ENTITIES.values())
    assert found == [TO_ACCOUNTS]
    assert str(TO_ACCOUNTS) == "ORDERS.accountId ──▶ ACCOUNTS"
    assert around(ACCOUNTS, found) == around(ORDERS, found) == [TO_ACCOUNTS]
    assert around(COUNTRIES, found) == []


def test_a_type_has_its_format() -> None:
    assert type_of(ENTITIES[ACCOUNTS], "openedAt") == "string (date-time)"
    assert type_of(ENTITIES[ORDERS], "accountId") == "integer"


def test_a_document_has_fields_and_both_directions() -> None:
    shown = document(ENTITIES[ACCOUNTS], [TO_ACCOUNTS])
    assert shown["referenced_by"] == [{"entity": "ORDERS", "field": "accountId"}]
    assert shown["fields"][1] == {"name": "openedAt", "type": "string", "format": "date-time", "reference": None}


def test_diagram_draws_each_entity_once() -> None:
    assert diagram(ENTITIES, [TO_ACCOUNTS], [ACCOUNTS]).splitlines() == [
        "erDiagram",
        "    ACCOUNTS {",
        "        integer id PK",
        "        string openedAt",
        "    }",
        "    ORDERS {",
        "        integer id PK",
        "        integer accountId FK",
        "    }",
        "    ACCOUNTS ||--o{ ORDERS : accountId",
    ]
    assert "COUNTRIES {" in diagram(ENTITIES, [], ENTITIES)
