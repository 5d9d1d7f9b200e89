"""Sorts the entities of a catalog into those that fit the database and those that are out of order.

An entity that does not fit keeps no other from being exported. It stands in the catalog's ``out_of_order`` with what is
wrong, and is looked at again later.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from exportd.catalog.checker import problems_by_entity
from exportd.catalog.document import Catalog
from exportd.catalog.resolver import resolve
from exportd.model.entity import EntityCode
from exportd.model.errors import SettingsError, TransientError
from exportd.model.reason import Reason
from exportd.settings.document import sorted_by_line

if TYPE_CHECKING:
    from collections.abc import Collection

    from exportd.database.connector import Connection

_MAX_LOOKS = 3
"""A table that changes between two looks is looked at again, so often."""


async def examine(catalog: Catalog, connection: "Connection") -> Catalog:
    """The catalog with what only the database knows of the entities that fit it; the others are out of order.

    Raises TransientError or PermanentError when the database cannot be read.
    """
    for _ in range(_MAX_LOOKS):
        found = await problems_by_entity(catalog, connection)
        sound = _only(catalog, catalog.entities.keys() - found.keys())
        try:
            resolved = await resolve(sound, connection)
        except SettingsError:
            continue  # a table has changed since the first look
        return replace(
            catalog,
            entities={code: resolved.entities.get(code, entity) for code, entity in catalog.entities.items()},
            open_types=frozenset(pair for pair in catalog.open_types if pair[0] in found),
            out_of_order={code: tuple(sorted_by_line(found[code])) for code in catalog.entities if code in found},
        )
    raise TransientError(
        "The tables of the catalog kept changing while they were looked at. They are looked at again.",
        reason=Reason.CATALOG_MISMATCH,
    )


async def reexamine(known: Catalog, written: Catalog, connection: "Connection") -> Catalog:
    """A catalog that has been examined before, as it is now; ``written`` is as the file has it.

    What fits stays as it was known. What does not, or did not, is read anew from what is written: a table that is back
    may have other columns. An entity that is out of order keeps what was known of it.
    """
    doubtful = known.out_of_order.keys() | (await problems_by_entity(known, connection)).keys()
    if not doubtful:
        return known
    anew = await examine(_only(written, doubtful), connection)
    return replace(
        known,
        entities={
            code: anew.entities[code] if code in doubtful and code not in anew.out_of_order else entity
            for code, entity in known.entities.items()
        },
        open_types=frozenset(pair for pair in known.open_types if pair[0] in anew.out_of_order),
        out_of_order=anew.out_of_order,
    )


def _only(catalog: Catalog, codes: "Collection[EntityCode]") -> Catalog:
    return replace(
        catalog,
        entities={code: entity for code, entity in catalog.entities.items() if code in codes},
        open_types=frozenset(pair for pair in catalog.open_types if pair[0] in codes),
        out_of_order={},
    )
