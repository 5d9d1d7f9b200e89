"""Operational data entities: what can be exported."""

import json
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from exportd.api.routers.entities import list_entities, show_entity
from exportd.api.schemas.entity import EntityDocument, record_schema
from exportd.console.diagram import around, mermaid, of_all
from exportd.console.rendering import HEADERS
from exportd.console.visitor import PageRoute, Visiting, Visitor
from exportd.model.entity import EntityCode
from exportd.model.foreign_text import MAX_CODE_LENGTH, url_segment

router = APIRouter(prefix="/console/entities", route_class=PageRoute, include_in_schema=False)


@router.get("")
async def list_all(
    visitor: Visiting,
    search: Annotated[str, Query(max_length=MAX_CODE_LENGTH)] = "",
    show: Literal["diagram", ""] = "",
) -> Response:
    """The catalog; ``search`` is looked for in the names of entities, tables and fields."""
    found = await list_entities(visitor.viewer, visitor.using.host, visitor.using.status)
    wanted = [entity for entity in found.data if search.lower() in _text_of(entity)]
    diagram = of_all(wanted) if show else None
    text = mermaid(wanted) if show else None
    return visitor.page("entities.html", entities=wanted, search=search, diagram=diagram, mermaid=text)


@router.get("/{name}")
async def show_one(visitor: Visiting, name: Annotated[str, Path(max_length=MAX_CODE_LENGTH)]) -> Response:
    """Its fields, what they refer to, what refers to it, and how far it has been read."""
    entity = await show_entity(visitor.viewer, visitor.using.host, visitor.using.status, name)
    labels = {str(code): known.label for code, known in visitor.using.host.entities.items()}
    daemon = await visitor.daemon()
    reading = None if daemon is None else daemon.entities.get(entity.entity)
    schema = _schema_text(visitor, entity)
    return visitor.page("entity.html", entity=entity, reading=reading, diagram=around(entity, labels), schema=schema)


@router.get("/{name}/schema")
async def download_schema(visitor: Visiting, name: Annotated[str, Path(max_length=MAX_CODE_LENGTH)]) -> Response:
    """The JSON Schema of its records, as a file."""
    entity = await show_entity(visitor.viewer, visitor.using.host, visitor.using.status, name)
    file = {"content-disposition": f'attachment; filename="{url_segment(entity.entity)}.schema.json"'}
    return Response(_schema_text(visitor, entity), 200, HEADERS | file, "application/schema+json")


def _schema_text(visitor: Visitor, entity: EntityDocument) -> str:
    schema = record_schema(visitor.using.host.entities[EntityCode(entity.entity)])
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _text_of(entity: EntityDocument) -> str:
    names = (entity.entity, entity.label, entity.table or "", *(field.name for field in entity.fields))
    return "\n".join(names).lower()
