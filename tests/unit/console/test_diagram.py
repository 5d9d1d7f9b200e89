"""The relationship diagram: every entity once, each to the left of what it refers to, whatever the catalog."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

import pytest

from exportd.api.schemas.entity import EntityDocument, FieldDocument, IncomingReference
from exportd.console.diagram import BOX_HEIGHT, BOX_WIDTH, MAX_LABEL_LENGTH, Diagram, around, of_all


def catalog(references: Mapping[str, Sequence[str]]) -> list[EntityDocument]:
    """Entities by what they refer to; a field is called after that."""
    return [
        EntityDocument(
            entity=code,
            label=code.title(),
            type_token=code.lower(),
            key=["id"],
            fields=[FieldDocument(name=f"{other}_id", type="string", reference=other) for other in others],
            referenced_by=[
                IncomingReference(entity=other, field=f"{code}_id")
                for other, ends in references.items()
                if code in ends
            ],
        )
        for code, others in references.items()
    ]


def is_sound(diagram: Diagram) -> None:
    """No box lies over another, or outside; every line begins and ends at the boxes that it names."""
    places = {box.code: (box.x, box.y) for box in diagram.boxes}
    assert len(set(places.values())) == len(diagram.boxes)
    for above, below in pairwise(sorted(diagram.boxes, key=lambda box: (box.x, box.y))):
        assert above.x + BOX_WIDTH < below.x or above.y + BOX_HEIGHT < below.y
    for box in diagram.boxes:
        assert 0 < box.x <= diagram.width - BOX_WIDTH
        assert 0 < box.y <= diagram.height - BOX_HEIGHT
    for line in diagram.lines:
        numbers = [int(number) for number in re.findall(r"-?\d+", line.path)]
        assert numbers[0] == places[line.start][0] + BOX_WIDTH
        assert numbers[-2] in {places[line.end][0], places[line.end][0] + BOX_WIDTH}


def test_an_entity_stands_to_the_left_of_what_it_refers_to() -> None:
    diagram = of_all(catalog({"ACCOUNTS": [], "ORDERS": ["ACCOUNTS"], "LINES": ["ORDERS", "ACCOUNTS"], "ALONE": []}))
    is_sound(diagram)
    columns = {box.code: box.x for box in diagram.boxes}
    assert columns["LINES"] < columns["ORDERS"] < columns["ACCOUNTS"] == columns["ALONE"]
    assert {(line.start, line.end, line.fields) for line in diagram.lines} == {
        ("ORDERS", "ACCOUNTS", ("ACCOUNTS_id",)),
        ("LINES", "ORDERS", ("ORDERS_id",)),
        ("LINES", "ACCOUNTS", ("ACCOUNTS_id",)),
    }


@pytest.mark.parametrize(
    "references",
    [
        {},
        {"A": ["A"]},
        {"A": ["B"], "B": ["A"]},
        {"A": ["B"], "B": ["C"], "C": ["A", "B"]},
        {f"E{number}": [f"E{number + 1}"] if number < 399 else ["E0"] for number in range(400)},
        {f"E{number}": [f"E{other}" for other in range(0, 400, 37)] for number in range(400)},
    ],
    ids=["none", "itself", "two", "circle", "long chain", "all to some"],
)
def test_any_catalog_is_drawn_with_every_entity_once(references: Mapping[str, Sequence[str]]) -> None:
    diagram = of_all(catalog(references))
    is_sound(diagram)
    assert {box.code for box in diagram.boxes} == references.keys()
    assert len(diagram.lines) == sum(map(len, references.values()))


def test_what_is_left_out_of_a_search_has_no_line() -> None:
    assert of_all(catalog({"ORDERS": ["ACCOUNTS"]})).lines == ()


def test_one_entity_stands_between_its_neighbours_alone() -> None:
    entities = catalog({"A": ["B"], "B": ["B", "C"], "C": ["B"], "FAR": ["A"], "X" * 40: ["B"]})
    diagram = around(entities[1], {entity.entity: entity.label for entity in entities})
    is_sound(diagram)
    columns = {box.code: box.x for box in diagram.boxes}
    assert columns.keys() == {"A", "B", "C", "X" * 40}
    assert columns["A"] == columns["X" * 40] < columns["B"] < columns["C"]
    assert [box.code for box in diagram.boxes if box.is_centre] == ["B"]
    assert {(line.start, line.end) for line in diagram.lines} == {
        *(("A", "B"), ("B", "B"), ("B", "C"), ("C", "B"), ("X" * 40, "B")),
    }
    assert max(len(box.text) for box in diagram.boxes) == MAX_LABEL_LENGTH
