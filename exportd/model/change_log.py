"""The change log's shape: what the capture triggers write and the windows read.

One table per captured entity, ``exportd.log_<entity code in lower case>``:

    seq     bigint identity   orders the changes of a key
    xid     xid8              the writing transaction (top level)
    op      "char"            I, U: the row is now there; D: it is gone, ``image`` is its last state; T: something
                              happened that the log cannot hold (the entity's next run must be full)
    key_1…  the key columns' own types
    tenant  the tenant column's own type, only when the entity has one
    image   text              the row's text form under pinned settings, for D only

The columns are named by position, so that renaming a column of the application's table does not touch the log.
"""

from exportd.model.entity import Entity, EntityCode, TableName

SCHEMA = "exportd"
TENANT_COLUMN = "tenant"

EVENTS_CHANNEL = "exportd_events"
"""Carries the daemon's own events: schedule changed, job queued, job finished."""

DOORBELL_CHANNEL = "exportd_doorbell"
"""Carries only the code of an entity that has unread changes; silent unless it is armed."""

MAX_QUEUE_SHARE = 0.1
"""The doorbell is silent while the server's queue of notifications is fuller than this share of it."""


def log_name(entity: EntityCode) -> str:
    """The bare name of the entity's log table; also the stem of its trigger functions."""
    return f"log_{entity.lower()}"


def log_table(entity: EntityCode) -> TableName:
    return TableName(SCHEMA, log_name(entity))


def key_columns(entity: Entity) -> tuple[str, ...]:
    """The log's columns that hold the entity's key, in the key's order."""
    return tuple(f"key_{position}" for position in range(1, len(entity.key) + 1))
