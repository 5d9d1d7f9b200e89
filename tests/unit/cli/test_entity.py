"""The export schema and its relationships, for people and programs."""

from exportd.api.schemas.entity import entity_documents
from exportd.cli.entity import type_of
from exportd.console.diagram import EntityReference, mermaid, mermaid_of, references
from exportd.model.entity import Entity, EntityCode, Field, TableName

ACCOUNTS, ORDERS, COUNTRIES = map(EntityCode, ("ACCOUNTS", "ORDERS", "COUNTRIES"))


def entity(code: EntityCode, *fields: Field) -> Entity:
    token = code.lower()
    return Entity(
        code, token, token, TableName("public", token), ("id",), None, (Field("id", "id", type="integer"), *fields)
    )


CATALOG = [
    entity(ACCOUNTS, Field("openedAt", "opened_at", format="date-time")),
    entity(ORDERS, Field("accountId", "account_id", type="integer", reference=ACCOUNTS)),
    entity(COUNTRIES),
]
DOCUMENTS = list(entity_documents(CATALOG, CATALOG, {}))
ENTITIES = [document.model_dump(mode="json", by_alias=True) for document in DOCUMENTS]
TO_ACCOUNTS = EntityReference(ORDERS, "accountId", ACCOUNTS)


def test_references_are_found() -> None:
    assert references(ENTITIES) == [TO_ACCOUNTS]
    assert str(TO_ACCOUNTS) == "ORDERS.accountId ──▶ ACCOUNTS"


def test_a_type_has_its_format() -> None:
    assert type_of(ENTITIES[0]["fields"][1]) == "string (date-time)"
    assert type_of(ENTITIES[1]["fields"][1]) == "integer"


def test_a_document_has_fields_and_both_directions() -> None:
    accounts, orders, countries = ENTITIES
    assert accounts == {
        "entity": "ACCOUNTS",
        "label": "accounts",
        "typeToken": "accounts",
        "table": "public.accounts",
        "key": ["id"],
        "fields": [
            {"name": "id", "type": "integer", "format": None, "column": "id", "reference": None},
            {"name": "openedAt", "type": "string", "format": "date-time", "column": "opened_at", "reference": None},
        ],
        "referencedBy": [{"entity": "ORDERS", "field": "accountId"}],
        "modified": None,
        "outOfOrder": None,
        "estimatedRows": None,
        "capture": None,
        "lookedAt": None,
    }
    assert orders["fields"][1]["reference"] == "ACCOUNTS"
    assert orders["referencedBy"] == countries["referencedBy"] == []


def test_diagram_draws_each_entity_once() -> None:
    assert mermaid(DOCUMENTS[:2]).splitlines() == mermaid_of(ENTITIES[:2], [TO_ACCOUNTS]).splitlines()
    assert "accountId :" not in mermaid(DOCUMENTS[1:])
    assert mermaid_of(ENTITIES[:2], [TO_ACCOUNTS]).splitlines() == [
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
    assert "COUNTRIES {" in mermaid_of(ENTITIES, [])
