"""Operational data entities: what can be exported."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from exportd.api.routers.overview import list_entities, show_entity
from exportd.api.schemas.entity import EntityDocument
from exportd.console.diagram import around, mermaid, of_all
from exportd.console.visitor import PageRoute, Visiting
from exportd.model.bounds import MAX_CODE_LENGTH

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
    return visitor.page("entity.html", entity=entity, reading=reading, diagram=around(entity, labels))


def _text_of(entity: EntityDocument) -> str:
    names = (entity.entity, entity.label, entity.table or "", *(field.name for field in entity.fields))
    return "\n".join(names).lower()
