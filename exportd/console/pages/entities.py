"""Operational data entities: what can be exported, and where the boxes and lines of their diagram are.

Entities stand in columns: each to the left of what it refers to, as far as references form no circle. Within a column
an entity stands near the ones that it is related to, so that few lines cross.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from exportd.api.routers.overview import list_entities, show_entity
from exportd.api.schemas.entity import EntityDocument
from exportd.console.visitor import PageRoute, Visiting
from exportd.model.bounds import MAX_CODE_LENGTH

router = APIRouter(prefix="/console/entities", route_class=PageRoute, include_in_schema=False)

BOX_WIDTH, BOX_HEIGHT = 190, 44
COLUMN_GAP, ROW_GAP, MARGIN = 110, 14, 12
MAX_LABEL_LENGTH = 20
_SWEEPS = 4

References = Mapping[str, Mapping[str, Sequence[str]]]
"""By entity and the entity that it refers to: the fields that do."""


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
    return visitor.page("entities.html", entities=wanted, search=search, diagram=diagram)


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


@dataclass(frozen=True, slots=True)
class Box:
    """An entity; ``x`` and ``y`` are its upper left corner in pixels. ``text`` is its label, shortened."""

    code: str
    label: str
    text: str
    x: int
    y: int
    is_centre: bool


@dataclass(frozen=True, slots=True)
class Line:
    """A reference from one box to another; ``path`` is what SVG calls ``d``."""

    path: str
    start: str
    end: str
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Diagram:
    """In pixels."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]


def around(centre: EntityDocument, labels: Mapping[str, str]) -> Diagram:
    """One entity between those that refer to it and those that it refers to; ``labels`` by code."""
    right = {field.reference: None for field in centre.fields if field.reference and field.reference != centre.entity}
    left = {found.entity: None for found in centre.referenced_by if found.entity not in {*right, centre.entity}}
    references: dict[str, dict[str, list[str]]] = {}
    for field in centre.fields:
        if field.reference:
            references.setdefault(centre.entity, {}).setdefault(field.reference, []).append(field.name)
    for found in centre.referenced_by:
        if found.entity != centre.entity:
            references.setdefault(found.entity, {}).setdefault(centre.entity, []).append(found.field)
    columns = [column for column in (list(left), [centre.entity], list(right)) if column]
    return _drawn(columns, references, labels, centre=centre.entity)


def of_all(entities: Collection[EntityDocument]) -> Diagram:
    """All of them, each once; references to others than these are left out."""
    labels = {entity.entity: entity.label for entity in entities}
    references: dict[str, dict[str, list[str]]] = {code: {} for code in labels}
    for entity in entities:
        for field in entity.fields:
            if field.reference in labels:
                references[entity.entity].setdefault(str(field.reference), []).append(field.name)
    return _drawn(_columns(references), references, labels)


def _columns(references: References) -> list[list[str]]:
    """The entities by how many references away the farthest entity is that they lead to, the farthest first."""
    depths: dict[str, int] = {}
    for start in references:
        _measure(start, references, depths)
    columns: list[list[str]] = [[] for _ in range(max(depths.values(), default=-1) + 1)]
    for code, depth in depths.items():
        columns[depth].append(code)
    columns.reverse()
    related = _related(references)
    for sweep in range(_SWEEPS):
        for number in range(1, len(columns)):
            order = number if sweep % 2 == 0 else len(columns) - 1 - number
            beside = columns[order - 1] if sweep % 2 == 0 else columns[order + 1]
            _arrange(columns[order], beside, related)
    return columns


def _measure(start: str, references: References, depths: dict[str, int]) -> None:
    """Depth first, without recursion. A reference back to where the walk comes from counts for nothing."""
    path, waiting = {start}, [(start, iter(references[start]))]
    if start in depths:
        return
    while waiting:
        code, others = waiting[-1]
        following = next((other for other in others if other not in path and other not in depths), None)
        if following is None:
            path.discard(code)
            depths[code] = 1 + max((depths[other] for other in references[code] if other in depths), default=-1)
            waiting.pop()
        else:
            path.add(following)
            waiting.append((following, iter(references[following])))


def _related(references: References) -> dict[str, set[str]]:
    related: dict[str, set[str]] = {code: set(others) for code, others in references.items()}
    for code, others in references.items():
        for other in others:
            related[other].add(code)
    return related


def _arrange(column: list[str], beside: Sequence[str], related: Mapping[str, set[str]]) -> None:
    """Put each entity at the height of its relations in the column beside, on average."""
    heights = {code: height / len(beside) for height, code in enumerate(beside)}
    own = {code: height / len(column) for height, code in enumerate(column)}

    def height(code: str) -> float:
        found = [heights[other] for other in related[code] if other in heights]
        return sum(found) / len(found) if found else own[code]

    column.sort(key=height)


def _drawn(
    columns: Sequence[Sequence[str]], references: References, labels: Mapping[str, str], *, centre: str = ""
) -> Diagram:
    tallest = max(map(len, columns), default=0)
    boxes: dict[str, Box] = {}
    for number, column in enumerate(columns):
        top = MARGIN + (tallest - len(column)) * (BOX_HEIGHT + ROW_GAP) // 2
        for row, code in enumerate(column):
            x, y = MARGIN + number * (BOX_WIDTH + COLUMN_GAP), top + row * (BOX_HEIGHT + ROW_GAP)
            label = labels.get(code, code)
            boxes[code] = Box(code, label, _shortened(label), x, y, code == centre)
    lines = tuple(
        Line(_path(boxes[start], boxes[end]), start, end, tuple(fields))
        for start, ends in references.items()
        for end, fields in ends.items()
    )
    return Diagram(
        width=2 * MARGIN + len(columns) * (BOX_WIDTH + COLUMN_GAP) - COLUMN_GAP // 2,  # the last may refer to itself
        height=2 * MARGIN + tallest * (BOX_HEIGHT + ROW_GAP) - (ROW_GAP if tallest else 0),
        boxes=tuple(boxes.values()),
        lines=lines,
    )


def _path(start: Box, end: Box) -> str:
    """From the right side of a box to the left side of another; to its right side where that is not to the right."""
    middle = BOX_HEIGHT // 2
    if start.x < end.x:
        x, y, to_x, to_y = start.x + BOX_WIDTH, start.y + middle, end.x, end.y + middle
        bend = (to_x - x) // 2
        return f"M{x} {y}C{x + bend} {y} {to_x - bend} {to_y} {to_x} {to_y}"
    x, y, to_x, to_y = start.x + BOX_WIDTH, start.y + middle, end.x + BOX_WIDTH, end.y + middle + 8
    bend = COLUMN_GAP // 2
    return f"M{x} {y}C{x + bend} {y} {to_x + bend} {to_y} {to_x} {to_y}"


def _shortened(label: str) -> str:
    return label if len(label) <= MAX_LABEL_LENGTH else f"{label[: MAX_LABEL_LENGTH - 1]}…"
