"""Exported lines are what the JSON Schema of their entity says: every entity of the demo, and every awkward value."""

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from exportd.api.schemas.entity import record_schema
from exportd.catalog import document
from exportd.catalog.checker import resolve
from exportd.catalog.document import Catalog
from exportd.demo.generator import create_tables, fill, organization_ids
from exportd.model.entity import DELETED_FIELD, Entity, EntityCode
from exportd.model.schedule import ExportFormat
from tests.fixtures.postgres import Database
from tests.fixtures.snapshot_exports import Exported, Exporter, Schedule
from tests.integration.fidelity.conftest import Awkward
from tests.integration.fidelity.values import ROWS

CATALOG = document.load(Path(__file__).parents[3] / "config" / "entities.toml")


def validator_of(entity: Entity) -> Any:
    jsonschema: Any = import_module("jsonschema")  # it has no type information
    schema = json.loads(json.dumps(record_schema(entity)))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def refused(entity: Entity, records: list[dict[str, Any]]) -> list[str]:
    validator = validator_of(entity)
    return [f"{entity.code}: {error.message}" for record in records for error in validator.iter_errors(record)]


def records_of(exported: Exported) -> list[dict[str, Any]]:
    return [json.loads(line) for line in exported.content.decode().split("\n")[:-1]]


async def test_the_records_of_every_entity_of_the_demo_are_as_their_schema_says(database: Database) -> None:
    connection = await database.connect()
    await create_tables(connection)
    await fill(connection, rows=400, organizations=1)
    entities = list(CATALOG.entities.values())
    exporter = Exporter(database.dsn, entities)
    await exporter.install()
    schedule = Schedule(organization_ids(1)[0])
    export = await exporter.run(schedule, ExportFormat.JSONL)
    for entity in entities:
        records = records_of(export[entity.code])
        assert records, entity.code
        assert refused(entity, records) == []
    await connection.execute("DELETE FROM public.bill_line_items")
    deleted = records_of((await exporter.run(schedule, ExportFormat.JSONL))["BILL_LINE_ITEMS"])
    assert {record[DELETED_FIELD] for record in deleted} == {True}
    assert refused(CATALOG.entities[EntityCode("BILL_LINE_ITEMS")], deleted) == []
    await connection.close()


@pytest.mark.every_postgres
async def test_every_awkward_value_is_as_the_schema_of_its_type_says(awkward: Awkward) -> None:
    asked = Catalog({awkward.entity.code: replace(awkward.entity, fields=())})
    entity = (await resolve(asked, awkward.judge)).entities[awkward.entity.code]
    assert {field.type for field in entity.fields} == {"string", "integer", "float", "boolean", "json"}
    export = await Exporter(awkward.database.dsn, [entity]).run(awkward.schedule(), ExportFormat.JSONL)
    records = records_of(export["AWKWARD"])
    assert len(records) == ROWS + 1
    assert refused(entity, records) == []


def test_what_is_no_record_is_refused() -> None:
    entity = next(
        found for found in CATALOG.entities.values() if {field.type for field in found.fields} >= {"integer", "float"}
    )
    record: dict[str, Any] = {**dict.fromkeys(entity.field_names), DELETED_FIELD: False}
    assert refused(entity, [record]) == []
    for name, wrong in (
        *((field.name, True) for field in entity.fields if field.type in {"integer", "float", "string"}),
        *((field.name, "text") for field in entity.fields if field.type in {"integer", "float", "boolean"}),
        *((field.name, []) for field in entity.fields if field.format is not None),
        *((DELETED_FIELD, value) for value in (None, "false")),
        ("surprise", 1),
    ):
        assert refused(entity, [{**record, name: wrong}]), (name, wrong)
    for name in entity.field_names:
        assert refused(entity, [{other: value for other, value in record.items() if other != name}]), name
