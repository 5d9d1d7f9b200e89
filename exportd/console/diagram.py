"""Computes the boxes and lines of a relationship diagram, and writes the same diagram for Mermaid. Pure.

Entities are placed in columns: each to the left of those that it refers to, as far as references form no circle. Within
a column, an entity is placed near related ones, so that few lines cross.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # it would cost the command line's start
    from exportd.api.schemas.entity import EntityDocument

BOX_WIDTH, BOX_HEIGHT = 190, 44
COLUMN_GAP, ROW_GAP, MARGIN = 110, 14, 12
MAX_LABEL_LENGTH = 20
_SWEEPS = 4

References = Mapping[str, Mapping[str, Sequence[str]]]
"""For each entity and each entity that it refers to, the fields that do."""


@dataclass(frozen=True, slots=True)
class Box:
    """The box of an entity. ``x`` and ``y`` are its upper left corner in pixels. ``text`` is its label, shortened."""

    code: str
    label: str
    text: str
    x: int
    y: int
    is_centre: bool


@dataclass(frozen=True, slots=True)
class Line:
    """The line of a reference from one box to another. ``path`` is the ``d`` attribute in SVG."""

    path: str
    start: str
    end: str
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Diagram:
    """A diagram. Sizes are in pixels."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]


def around(centre: "EntityDocument", labels: Mapping[str, str]) -> Diagram:
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


def of_all(entities: Collection["EntityDocument"]) -> Diagram:
    """All entities, each once. References to other entities are left out."""
    labels = {entity.entity: entity.label for entity in entities}
    references: dict[str, dict[str, list[str]]] = {code: {} for code in labels}
    for entity in entities:
        for field in entity.fields:
            if field.reference in labels:
                references[entity.entity].setdefault(str(field.reference), []).append(field.name)
    return _drawn(_columns(references), references, labels)


def _columns(references: References) -> list[list[str]]:
    """Divide the entities into columns by their distance to the farthest entity that they lead to, the farthest
    first.
    """
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
    """Compute the distances depth first, without recursion. A reference back into the current path does not count."""
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
    """The path from the right side of a box to the left side of another, or to its right side if that box is not to the
    right.
    """
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


@dataclass(frozen=True, slots=True, order=True)
class EntityReference:
    """The field ``field`` of ``source`` has the key of a record of ``target``."""

    source: str
    field: str
    target: str

    def __str__(self) -> str:
        return f"{self.source}.{self.field} ──▶ {self.target}"


def references(entities: Iterable[Mapping[str, Any]]) -> list[EntityReference]:
    """All references, in the order of the catalog. ``entities`` are documents of the API."""
    return [
        EntityReference(entity["entity"], field["name"], field["reference"])
        for entity in entities
        for field in entity["fields"]
        if field.get("reference")
    ]


def mermaid(entities: Iterable["EntityDocument"]) -> str:
    """The diagram of these entities and of the references between them."""
    documents = [entity.model_dump(mode="json", by_alias=True) for entity in entities]
    codes = {document["entity"] for document in documents}
    return mermaid_of(documents, [found for found in references(documents) if found.target in codes])


def mermaid_of(entities: Collection[Mapping[str, Any]], shown: Iterable[EntityReference]) -> str:
    """An entity relationship diagram of these entities, as Mermaid draws it."""
    return "\n".join(["erDiagram", *_boxes(entities), *_arrows(shown)])


def _boxes(entities: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for entity in entities:
        yield f"    {entity['entity']} {{"
        for field in entity["fields"]:
            key = " PK" if field.get("column") in entity["key"] else " FK" if field.get("reference") else ""
            yield f"        {field['type']} {field['name']}{key}"
        yield "    }"


def _arrows(shown: Iterable[EntityReference]) -> Iterator[str]:
    for reference in shown:
        yield f"    {reference.target} ||--o{{ {reference.source} : {reference.field}"
