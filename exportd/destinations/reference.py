"""Which destinations are meant by the ids of a request. They stay until the end of the transaction."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from exportd.database import queries
from exportd.model.entity import OrganizationId
from exportd.model.errors import PermanentError
from exportd.model.reason import Reason
from exportd.model.schedule import DestinationCode

if TYPE_CHECKING:
    from exportd.database.connector import Connection

_HOLD_FOR_REFERENCE = queries.load("destinations")["hold_for_reference"]


async def hold_destinations(
    connection: "Connection", organization: OrganizationId, destination_ids: Sequence[UUID]
) -> tuple[DestinationCode, ...]:
    """The codes of an organization's destinations, in the given order.

    Raises PermanentError DESTINATION_MISSING for an id that is not one of them, be it unknown or another's.
    """
    rows = await connection.fetch(_HOLD_FOR_REFERENCE, organization, destination_ids)
    codes = {row["id"]: DestinationCode(row["code"]) for row in rows}
    for destination_id in destination_ids:
        if destination_id not in codes:
            raise PermanentError(
                f"destinationIds: there is no destination {destination_id}. Take an id from the list of destinations.",
                reason=Reason.DESTINATION_MISSING,
            )
    return tuple(codes[destination_id] for destination_id in destination_ids)
