"""The proof: replays what was delivered for an organization, and compares the result with the tables.

The consumer knows nothing but the manifests and the files: complete ones replace what it holds, increments add, change
and remove by key. What it holds of a record is the MD5 of its cells' texts, and the database makes the same of its own
records, by SQL that is not the exporter's. So memory grows with the records of the largest entity only, by some 250
bytes each. Where records differ, a second look says which fields do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import anyio.to_thread

from exportd.catalog.document import Catalog
from exportd.database.connector import Connection
from exportd.demo.consumer import last_states, replay
from exportd.demo.delivery_reader import Delivery, read_deliveries
from exportd.demo.spelling import SEPARATOR, SETTINGS, Spelling, key_positions, sample
from exportd.model.entity import Entity, EntityCode, OrganizationId
from exportd.model.errors import PermanentError
from exportd.model.reason import Reason

_BATCH_ROWS = 10_000
_EXPLAINED = 20
"""Of how many unequal records of an entity the fields are told."""

FieldDifferences = Mapping[str, tuple[str | None, str | None]]
"""By name of the field: what was exported, what is stored."""


class DifferenceKind(StrEnum):
    """How a record differs."""

    MISSING = "MISSING"
    """It is in the table but not among the exported."""
    SURPLUS = "SURPLUS"
    """It is among the exported but not in the table."""
    UNEQUAL = "UNEQUAL"
    """Some field has another value."""
    REPEATED = "REPEATED"
    """One run exported it more than once."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A record that is not the same. ``fields`` is told of the first unequal records only."""

    entity: EntityCode
    key: tuple[str, ...]
    kind: DifferenceKind
    fields: FieldDifferences | None = None

    def __str__(self) -> str:
        values = "; ".join(
            f"{name} was exported as {exported!r} and is {stored!r}"
            for name, (exported, stored) in (self.fields or {}).items()
        )
        return f"{self.entity} {'/'.join(self.key)} {self.kind.lower()}" + (f": {values}" if values else "")


async def compare(
    connection: Connection,
    catalog: Catalog,
    directory: Path,
    organization: OrganizationId,
    *,
    prefix: str = "",
    schedule: str | None = None,
) -> list[Difference]:
    """Every record whose replayed exports differ from the table: none, when the exports are exact.

    ``directory`` and ``prefix`` are those of the destination. ``schedule`` is the code of the schedule to be replayed,
    which may be left out when there is one. The tables are read in one snapshot; what changed after the last export
    is a difference. Raises PermanentError for files and manifests that cannot be read or contradict each other.
    """
    deliveries = await anyio.to_thread.run_sync(
        lambda: read_deliveries(directory, organization, prefix=prefix, schedule=schedule)
    )
    differences: list[Difference] = []
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        for name, value in SETTINGS.items():
            await connection.execute("SELECT set_config($1, $2, true)", name, value)
        for code, runs in deliveries.items():
            differences += await _compare_entity(connection, catalog.get(code), runs, organization)
    return differences


async def _compare_entity(
    connection: Connection, entity: Entity, runs: Sequence[Delivery], organization: OrganizationId
) -> list[Difference]:
    names = tuple(field.name for field in entity.fields)
    if any(run.names != names for run in runs):
        raise PermanentError(
            f"{entity.code} was exported with other fields than the catalog has now; export it again first",
            reason=Reason.CATALOG_MISMATCH,
        )
    key = key_positions(entity)
    holding = await anyio.to_thread.run_sync(replay, runs, key)
    types = (await connection.prepare(sample(entity))).get_attributes()
    spelling = Spelling(entity, runs[-1].file_format, [type_.type.name for type_ in types])
    if len({run.file_format for run in runs}) > 1 and not spelling.same_in_all_formats:
        raise PermanentError(
            f"{entity.code} was exported in two formats since its last complete run, which cannot be compared",
            reason=Reason.CATALOG_MISMATCH,
        )
    arguments = [organization] if entity.tenant else []
    found = {
        DifferenceKind.REPEATED: holding.repeated,
        **await _differing(connection, spelling, arguments, holding.digests),
    }
    unequal = found[DifferenceKind.UNEQUAL][:_EXPLAINED]
    fields: dict[str, FieldDifferences] = {}
    if unequal:
        exported = await anyio.to_thread.run_sync(last_states, runs, key, unequal)
        stored = await connection.fetch(spelling.records, *arguments, unequal)
        fields = {name: _unequal_fields(names, exported[name], cells) for name, cells in stored}
    return [
        Difference(entity.code, tuple(name.split(SEPARATOR)), kind, fields.get(name))
        for kind, keys in found.items()
        for name in keys
    ]


async def _differing(
    connection: Connection, spelling: Spelling, arguments: Sequence[str], exported: dict[str, bytes]
) -> dict[DifferenceKind, list[str]]:
    """The keys that differ. Empties ``exported`` on the way."""
    missing: list[str] = []
    unequal: list[str] = []
    cursor = await connection.cursor(spelling.digests, *arguments)
    while batch := await cursor.fetch(_BATCH_ROWS):
        for key, digest in batch:
            held = exported.pop(key, None)
            if held is None:
                missing.append(key)
            elif held != digest:
                unequal.append(key)
    return {
        DifferenceKind.MISSING: missing,
        DifferenceKind.SURPLUS: list(exported),
        DifferenceKind.UNEQUAL: unequal,
    }


def _unequal_fields(
    names: Sequence[str], exported: Sequence[str | None], stored: Sequence[str | None]
) -> FieldDifferences:
    values = zip(names, exported, stored, strict=True)
    return {name: (one, other) for name, one, other in values if one != other}
