"""Ids in paths and bodies: what is not an id is answered like an id that nobody has."""

from typing import Annotated
from uuid import UUID

from fastapi import Path

from exportd.api.problems import Refusal
from exportd.api.schemas.fields import parse_id

IdInPath = Annotated[str, Path(alias="id", description="The object's id.")]


def id_in_path(text: str, kind: str) -> UUID:
    """Raises Refusal 404."""
    found = parse_id(text)
    if found is None:
        raise Refusal(404, f"There is no {kind} {text[:80]!r}. Look at the list of {kind}s for its id.")
    return found


def destination_ids(texts: list[str]) -> list[UUID]:
    """Raises Refusal 400 for what is no id, and for one that is given twice."""
    found: list[UUID] = []
    for text in texts:
        each = parse_id(text)
        if each is None:
            raise Refusal(
                400, f"destinationIds: there is no destination {text[:80]!r}. Take an id from the list of destinations."
            )
        if each in found:
            raise Refusal(400, f"destinationIds: {text} is named twice; leave one out.")
        found.append(each)
    return found
