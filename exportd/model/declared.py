"""Decides what happens to schedules and destinations when a daemon's configuration declares them, and why an edit of
them is refused. Pure.

The daemons of one database should declare the same. If they do not, no daemon removes what another one declares. If two
declare the same thing differently, the declaration that was written last is in effect. A daemon that only restarts with
its old declarations does not undo what was written elsewhere since.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, NamedTuple, Protocol, TypeVar
from uuid import UUID

from exportd.model.entity import OrganizationId
from exportd.model.errors import PermanentError, Reason
from exportd.model.schedule import Origin

Document = Mapping[str, Any]
"""A declaration in JSON, without its organization and code."""


class Key(NamedTuple):
    """The identity of a declared thing."""

    organization: str
    code: str


class Declaration(Protocol):
    """A declaration of a person: a schedule or a destination."""

    @property
    def organization(self) -> OrganizationId: ...

    @property
    def code(self) -> str: ...

    def to_json(self) -> dict[str, Any]:
        """What it says, as a ``Document``."""
        ...


DeclarationT = TypeVar("DeclarationT", bound=Declaration)
DeclarationT_co = TypeVar("DeclarationT_co", bound=Declaration, covariant=True)


class Declarable(Protocol[DeclarationT_co]):
    """A row of the database with its declaration."""

    @property
    def declaration(self) -> DeclarationT_co: ...

    @property
    def origin(self) -> Origin: ...


RowT = TypeVar("RowT", bound=Declarable[Any])


class Fate(StrEnum):
    """What happens to a schedule or a destination."""

    NEW = "NEW"
    EDITED = "EDITED"
    """It gets what the daemon declares."""
    UNCHANGED = "UNCHANGED"
    GONE = "GONE"


@dataclass(frozen=True, slots=True)
class Declared:
    """The declarations so far: ``before`` by this daemon itself, ``elsewhere`` by the others."""

    before: Mapping[Key, Document] = field(default_factory=dict)
    elsewhere: Mapping[Key, Sequence[Document]] = field(default_factory=dict)

    def fate(self, key: Key, *, present: Document | None, own: bool, now: Document | None) -> Fate:
        """Decide about one thing: ``present`` is its row, ``now`` is this daemon's declaration (None: not declared).

        ``own`` says that it belongs to the configuration, not to the API.
        """
        elsewhere = self.elsewhere.get(key, ())
        if now is None:
            return Fate.GONE if own and not elsewhere else Fate.UNCHANGED
        if present is None:
            return Fate.NEW
        if own and (present == now or (now == self.before.get(key) and present in elsewhere)):
            return Fate.UNCHANGED
        return Fate.EDITED


ALONE = Declared()
"""No daemon has declared anything yet."""


@dataclass(frozen=True, slots=True)
class Reconciliation(Generic[DeclarationT, RowT]):
    """The changes that make the rows equal to the declarations. Each declaration and row is in exactly one of these."""

    new: tuple[DeclarationT, ...]
    edits: tuple[tuple[RowT, DeclarationT], ...]
    gone: tuple[RowT, ...]
    unchanged: tuple[RowT, ...]
    """As declared; or declared by another daemon; or made through the API and not declared."""

    def __bool__(self) -> bool:
        return bool(self.new or self.edits or self.gone)


def key_of(declaration: Declaration) -> Key:
    return Key(declaration.organization, declaration.code)


def columns_of(declaration: Declaration) -> dict[str, Any]:
    """The columns of a row: the identity and the content of a declaration."""
    return {**key_of(declaration)._asdict(), **declaration.to_json()}


def documents(declarations: Iterable[Declaration]) -> dict[Key, Document]:
    """What each of them says."""
    return {key_of(declaration): declaration.to_json() for declaration in declarations}


def reconcile(
    declarations: Iterable[DeclarationT], rows: Iterable[RowT], others: Declared = ALONE
) -> Reconciliation[DeclarationT, RowT]:
    """Rows and declarations with the same organization and code are the same thing.

    One that was made through the API and is now declared belongs to the configuration from then on. ``others`` has the
    earlier declarations, of this daemon and of others.
    """
    declared = {key_of(declaration): declaration for declaration in declarations}
    edits: list[tuple[RowT, DeclarationT]] = []
    gone: list[RowT] = []
    unchanged: list[RowT] = []
    for row in rows:
        key = key_of(row.declaration)
        declaration = declared.pop(key, None)
        own = row.origin is Origin.CONFIGURATION
        # Usual for thousands of rows, so avoid making documents of them.
        if own and declaration == row.declaration:
            unchanged.append(row)
            continue
        now = None if declaration is None else declaration.to_json()
        fate = others.fate(key, present=row.declaration.to_json(), own=own, now=now)
        if fate is Fate.EDITED and declaration is not None:
            edits.append((row, declaration))
        else:
            (gone if fate is Fate.GONE else unchanged).append(row)
    return Reconciliation(tuple(declared.values()), tuple(edits), tuple(gone), tuple(unchanged))


# Why an edit is refused. ``kind`` is what people call it: a schedule, a destination.


def missing(kind: str, object_id: UUID) -> PermanentError:
    """The error for an unknown id."""
    return PermanentError(
        f"There is no {kind} {object_id}. Look at the list of {kind}s for its id.", reason=Reason.NOT_FOUND
    )


def code_taken(kind: str, code: str) -> PermanentError:
    """The error for a code that is taken in the organization."""
    return PermanentError(
        f"code: the organization has a {kind} {code!r} already. Choose another code.", reason=Reason.CODE_TAKEN
    )


def require_editable(kind: str, code: str, origin: Origin) -> None:
    """Raises PermanentError DECLARED for what stands in the configuration."""
    if origin is Origin.CONFIGURATION:
        raise PermanentError(
            f"The {kind} {code!r} stands in the daemon's configuration: edit it there.", reason=Reason.DECLARED
        )


def require_version(kind: str, version: int, *, read: int) -> None:
    """Raises PermanentError VERSION_STALE when it is not as it was ``read`` any more."""
    if version != read:
        raise PermanentError(
            f"version: the {kind} is at version {version}, not {read}: it was edited since. Read it again and repeat"
            " the edit.",
            reason=Reason.VERSION_STALE,
        )
