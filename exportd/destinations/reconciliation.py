"""What must change in the database so that the destinations are those that are declared. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from exportd.destinations.record import DestinationDeclaration, DestinationRecord, declaration_to_json
from exportd.model.declared import ALONE, Declared, Fate
from exportd.model.schedule import Origin


@dataclass(frozen=True, slots=True)
class Edit:
    """A destination gets a new declaration."""

    destination: DestinationRecord
    declaration: DestinationDeclaration


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What is not in here stays as it is."""

    new: tuple[DestinationDeclaration, ...]
    edits: tuple[Edit, ...]
    gone: tuple[DestinationRecord, ...]

    def __bool__(self) -> bool:
        return bool(self.new or self.edits or self.gone)


def compare(
    declarations: Iterable[DestinationDeclaration], records: Iterable[DestinationRecord], others: Declared = ALONE
) -> Reconciliation:
    """One that the API made and that is declared now belongs to the configuration from here on. ``others`` is what was
    declared before, by this daemon and elsewhere.
    """
    declared = {(each.organization, each.code): each for each in declarations}
    edits: list[Edit] = []
    gone: list[DestinationRecord] = []
    for record in records:
        key = (record.declaration.organization, record.declaration.code)
        declaration = declared.pop(key, None)
        fate = others.fate(
            key,
            present=declaration_to_json(record.declaration),
            own=record.origin is Origin.CONFIGURATION,
            now=None if declaration is None else declaration_to_json(declaration),
        )
        if fate is Fate.EDITED and declaration is not None:
            edits.append(Edit(record, declaration))
        elif fate is Fate.GONE:
            gone.append(record)
    return Reconciliation(tuple(declared.values()), tuple(edits), tuple(gone))
