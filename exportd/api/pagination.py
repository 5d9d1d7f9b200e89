"""Divides lists into pages, the newest first or sorted, and reads ids, organizations, instants and names in requests.

The token of the next page names the object after which it begins. It is signed, and valid only for the same list of the
same organization. A page is never empty when it has a token.

A text that is not an id is answered like an unknown id.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Protocol, TypeVar
from uuid import UUID

from fastapi import Depends, Path, Query
from pydantic import Field
from pydantic.json_schema import WithJsonSchema

from exportd.api.identity.signing import Signer
from exportd.api.problems import Refusal
from exportd.api.schemas.fields import parse_id, parse_ids, parse_instant
from exportd.jobs.requests import Place
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.foreign_text import (
    MAX_CODE_LENGTH,
    MAX_IDS,
    MAX_NAME_LENGTH,
    MAX_PATH_LENGTH,
    MAX_SHOWN_LENGTH,
    MAX_TEXT_LENGTH,
    MAX_WORD_LENGTH,
    check_organization,
)
from exportd.settings.sentences import did_you_mean


class Listed(Protocol):
    """An item of a list that begins with the newest."""

    @property
    def created_at(self) -> datetime: ...

    @property
    def id(self) -> UUID: ...


DEFAULT_PAGE_SIZE = 100

IdInPath = Annotated[
    str,
    WithJsonSchema({"type": "string", "maxLength": MAX_WORD_LENGTH}),
    Path(alias="id", description="The object's id."),
]
"""A longer text is not found, like any other text that is not an id."""

NextToken = Annotated[
    str | None, Query(alias="nextToken", max_length=MAX_TEXT_LENGTH, description="What the page before gave.")
]
PageSize = Annotated[int, Query(alias="pageSize", ge=1, le=100)]
LargePageSize = Annotated[int, Query(alias="pageSize", ge=1, le=200)]
OnlyOrganization = Annotated[
    str | None, Query(min_length=1, max_length=MAX_CODE_LENGTH, description="Only those of this organization.")
]
OnlyOfCode = Annotated[
    str | None, Query(min_length=1, max_length=MAX_CODE_LENGTH, description="Only those of this code.")
]
Search = Annotated[
    str | None,
    Query(min_length=1, max_length=MAX_NAME_LENGTH, description="A part of the name or the code, in any case."),
]
Descending = Annotated[bool, Query(description="With `sort`: from the largest to the smallest.")]
_IdTexts = Annotated[
    Annotated[list[Annotated[str, Field(max_length=MAX_PATH_LENGTH)]], Field(fail_fast=True)],
    Query(
        alias="ids",
        default_factory=list,
        max_length=MAX_IDS,
        description=f"Only these: repeated, or separated by commas; {MAX_IDS} at most.",
    ),
]


async def _ids(texts: _IdTexts) -> list[UUID] | None:
    try:
        return parse_ids(texts)
    except ValueError as error:
        raise Refusal(400, f"ids: {error}. Ask several times.") from error


Ids = Annotated[list[UUID] | None, Depends(_ids)]
"""The ids of a filter; None when there is none."""

T = TypeVar("T")

_PURPOSE = "page"


class Pages:
    """The pages of one list: of one organization, or, with None, of every one."""

    def __init__(self, signer: Signer, organization: OrganizationId | None, collection: str) -> None:
        self._signer = signer
        self._scope = {"organization": organization or "", "collection": collection}

    def place(self, token: str | None) -> Place | None:
        """The object after which the page begins; None for the first page. Raises Refusal for a token that exportd has
        not made.
        """
        payload = self._payload(token)
        return None if payload is None else (datetime.fromisoformat(payload["created_at"]), UUID(payload["id"]))

    def number(self, token: str | None) -> int | None:
        """The same for a list of rows with numbers."""
        payload = self._payload(token)
        return None if payload is None else int(payload["number"])

    def cut(
        self, found: Sequence[T], page_size: int, place_of: Callable[[T], Place | int]
    ) -> tuple[list[T], str | None]:
        """Make a page from up to ``page_size`` + 1 objects. Returns it with the token of the next page, if there is
        one.
        """
        page = list(found[:page_size])
        if len(found) <= page_size:
            return page, None
        return page, self.token(place_of(page[-1]))

    def token(self, place: Place | int) -> str:
        """The token of a page that begins after ``place``."""
        if isinstance(place, int):
            return self._signer.sign(_PURPOSE, {**self._scope, "number": place})
        created_at, last_id = place
        behind = {"created_at": created_at.astimezone(UTC).isoformat(), "id": str(last_id)}
        return self._signer.sign(_PURPOSE, {**self._scope, **behind})

    def _payload(self, token: str | None) -> dict[str, Any] | None:
        if not token:
            return None
        payload = self._signer.verify(_PURPOSE, token)
        if payload is None or any(payload.get(key) != value for key, value in self._scope.items()):
            raise Refusal(
                400, "nextToken: this list has not given such a token. Use the nextToken of the page before, unchanged."
            )
        return payload


async def newest_or_sorted(
    pages_in: Callable[[str], Pages],
    newest: Callable[..., Awaitable[Sequence[T]]],
    in_order: Callable[..., Awaitable[Sequence[T]]],
    place_of: Callable[[T], Place],
    *,
    sort: str | None,
    descending: bool,
    page_size: int,
    next_token: str | None,
) -> tuple[list[T], str | None]:
    """A page of a list, the newest first or sorted, and the token of the next one.

    With the newest first, the next page continues after the last object; in another order, after the number of earlier
    objects.
    """
    if sort is None:
        paging = pages_in("")
        found = await newest(after=paging.place(next_token), limit=page_size + 1)
        return paging.cut(found, page_size, place_of)
    paging = pages_in(f" by {sort} {descending}")
    start = paging.number(next_token) or 0
    found = await in_order(by=sort, descending=descending, start=start, limit=page_size + 1)
    return paging.cut(found, page_size, lambda _: start + page_size)


def place_of(found: Listed) -> Place:
    """The place of an object in its list."""
    return found.created_at, found.id


def id_in_path(text: str, kind: str) -> UUID:
    """Read an id in the path. Raises Refusal 404."""
    found = parse_id(text)
    if found is None:
        raise Refusal(404, f"There is no {kind} {text[:MAX_SHOWN_LENGTH]!r}. Look at the list of {kind}s for its id.")
    return found


def organization_of(text: str) -> OrganizationId:
    """Read an organization's id. Raises Refusal 400 for a text that cannot be one."""
    try:
        return OrganizationId(check_organization(text))
    except ValueError as error:
        raise Refusal(400, f"organization: {error}.") from error


def instant_in_query(text: str, name: str) -> datetime:
    """Read an instant in the query. Raises Refusal 400 for any other text."""
    try:
        return parse_instant(text)
    except ValueError as error:
        raise Refusal(400, f"{name}: {error}.") from error


def destination_ids(texts: list[str]) -> list[UUID]:
    """Read ids of destinations. Raises Refusal 400 for a text that is not an id, and for one that is given twice."""
    found: dict[UUID, None] = {}  # a set that keeps the order: looked up, not searched
    for text in texts:
        destination_id = parse_id(text)
        if destination_id is None:
            raise Refusal(
                400,
                f"destinationIds: there is no destination {text[:MAX_SHOWN_LENGTH]!r}. Take an id from the list of"
                " destinations.",
            )
        if destination_id in found:
            raise Refusal(400, f"destinationIds: {text} is named twice; leave one out.")
        found[destination_id] = None
    return list(found)


def known_entity(name: str, known: Collection[EntityCode], *, field: str) -> EntityCode:
    """The entity of the catalog that a field of a request names. Raises Refusal 400."""
    if name not in known:
        hint = did_you_mean(name, known, what="entities of the catalog")
        raise Refusal(400, f"{field}: there is no entity {name[:MAX_SHOWN_LENGTH]!r}; {hint}")
    return EntityCode(name)


def known_entities(names: list[str], known: Collection[EntityCode]) -> tuple[EntityCode, ...]:
    """The entities of ``operationalDataTypes``. Raises Refusal 400 for one that is unknown or named twice."""
    found: dict[EntityCode, None] = {}
    for name in names:
        entity = known_entity(name, known, field="operationalDataTypes")
        if entity in found:
            raise Refusal(400, f"operationalDataTypes: {name} is named twice; leave one out.")
        found[entity] = None
    return tuple(found)
