"""Reads positions and extractions of jobs, with the shared documents that they name.

Fields and guards are the same for thousands of jobs. The database stores each such document once, and rows name it by
its digest. A digest always names the same document, so a document that was read is kept in memory. Rows of earlier
versions contain the documents themselves. Documents are written together with the rows that name them, by
``LeaseWriter``.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from exportd.database import queries
from exportd.jobs.job_record import position_from_row
from exportd.model.entity import EntityCode
from exportd.model.errors import PermanentError, Reason
from exportd.model.extraction import digests_in, with_documents
from exportd.model.identity_cache import MAX_REMEMBERED
from exportd.model.job import JobId
from exportd.model.schedule import ScheduleId
from exportd.model.start import Position

if TYPE_CHECKING:
    from exportd.database.connector import Connection

_SQL = queries.load("jobs")

_logger = structlog.stdlib.get_logger()


class SharedDocumentReader:
    """Keeps the documents that were read last in memory, so that most calls read digests only."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    async def positions(
        self, connection: "Connection", schedules: Sequence[ScheduleId]
    ) -> Mapping[ScheduleId, dict[EntityCode, Position]]:
        """The positions of each schedule. Guards that the database has lost are empty, and so count as changed."""
        rows = await connection.fetch(_SQL["positions"], schedules)
        digests = {row["guards_digest"] for row in rows if row["guards_digest"] is not None}
        documents = await self._documents(connection, digests)
        found: dict[ScheduleId, dict[EntityCode, Position]] = defaultdict(dict)
        for row in rows:
            position = position_from_row(row, documents)
            found[row["schedule_id"]][position.entity] = position
        return found

    async def extraction(self, connection: "Connection", job_id: JobId) -> dict[str, Any] | None:
        """What a job has extracted, with its documents; None when it is not sealed.

        Raises PermanentError SPOOL_DAMAGED when the database has lost some of them.
        """
        text = await connection.fetchval(_SQL["extraction"], job_id)
        if text is None:
            return None
        extraction: dict[str, Any] = json.loads(text)
        digests = digests_in(extraction)
        documents = await self._documents(connection, digests)
        if lost := digests - documents.keys():
            raise PermanentError(
                f"The database has lost what job {job_id} has read: rows of exportd.shared_document are gone "
                f"({', '.join(sorted(lost))}). Find out who deleted them, and let the schedule run again.",
                reason=Reason.SPOOL_DAMAGED,
            )
        return with_documents(extraction, documents)

    async def _documents(self, connection: "Connection", digests: Collection[str]) -> Mapping[str, Any]:
        """The documents that exist, by digest. The same digest gives the same object each time."""
        found = {digest: self._known[digest] for digest in digests if digest in self._known}
        unknown = [digest for digest in digests if digest not in found]
        if unknown:
            rows = await connection.fetch(_SQL["shared_documents"], unknown)
            read = {row["digest"]: json.loads(row["document"]) for row in rows}
            found |= read
            self._remember(read)
            if lost := sorted(set(unknown) - read.keys()):
                _logger.warning("shared documents lost", digests=lost)
        return found

    def _remember(self, read: Mapping[str, Any]) -> None:
        self._known |= read
        while len(self._known) > MAX_REMEMBERED:
            del self._known[next(iter(self._known))]
