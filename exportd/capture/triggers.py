"""Describes everything that captures one entity's changes. Pure: names and shapes in, SQL out.

This module has the triggers. ``trigger_functions`` has the SQL of the functions that they call, ``written_rows`` the
log that those write to, and the way in which they read what was written.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from exportd.capture.trigger_functions import TriggerFunction, TriggerFunctions
from exportd.capture.written_rows import LogDefinition, PassingFunction, passing_functions
from exportd.catalog.shape import Relation, Shape
from exportd.database.quoting import identifier, table
from exportd.model.change_log import SCHEMA
from exportd.model.entity import CaptureLevel, Entity, TableName

_ROW, _BEFORE, _INSERT, _DELETE, _UPDATE, _TRUNCATE = 1, 2, 4, 8, 16, 32
_CLAUSES = {
    "insert": ("AFTER INSERT ON {relation} REFERENCING NEW TABLE AS new_rows", "STATEMENT", _INSERT),
    "update": (
        "AFTER UPDATE ON {relation} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
        "STATEMENT",
        _UPDATE,
    ),
    "delete": ("AFTER DELETE ON {relation} REFERENCING OLD TABLE AS old_rows", "STATEMENT", _DELETE),
    "truncate": ("BEFORE TRUNCATE ON {relation}", "STATEMENT", _BEFORE | _TRUNCATE),
    "row": ("AFTER INSERT OR UPDATE OR DELETE ON {relation}", "ROW", _ROW | _INSERT | _UPDATE | _DELETE),
}
"""The event on which each function's trigger fires. TRUNCATE needs a BEFORE trigger, because an AFTER trigger would
find the table empty.
"""

ALWAYS, REPLICA = "A", "R"
_ENABLED = {ALWAYS: "ALWAYS", REPLICA: "REPLICA"}


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger on one relation.

    ``clause`` is the text before FOR EACH. ``level`` is STATEMENT or ROW. ``fires`` is both in the form of
    pg_trigger.tgtype. ``enabled`` is pg_trigger.tgenabled: ALWAYS (with any session_replication_role), or only for a
    REPLICA.
    """

    name: str
    relation: TableName
    clause: str
    function: str
    level: str
    fires: int
    enabled: str = ALWAYS

    def create(self) -> str:
        """The statements that create it."""
        relation = table(self.relation)
        return (
            f"CREATE OR REPLACE TRIGGER {identifier(self.name)} {self.clause.format(relation=relation)} "
            f"FOR EACH {self.level} EXECUTE FUNCTION {table(TableName(SCHEMA, self.function))}();\n"
            f"ALTER TABLE {relation} ENABLE {_ENABLED[self.enabled]} TRIGGER {identifier(self.name)}"
        )


@dataclass(frozen=True, slots=True)
class Capture:
    """Everything that captures one entity's changes.

    ``log`` and ``log_index`` are the statements that create the change log and its index.
    """

    log: str
    log_columns: tuple[tuple[str, str], ...]
    log_index: str
    passing_functions: tuple[PassingFunction, ...]
    functions: tuple[TriggerFunction, ...]
    triggers: tuple[Trigger, ...]


def capture_of(entity: Entity, shape: Shape) -> Capture:
    """The objects that the database needs to capture the entity's changes.

    Statement triggers fire for the table that a statement names, so a tree needs them on every table of it, all writing
    to the one log. The worker of a logical replication subscription fires triggers of rows only, so these are there
    too, enabled for it alone: a subscription may come and go between two runs. In a session with
    session_replication_role = replica both fire, and keys are logged twice.
    """
    log = LogDefinition(entity, shape)
    writer = TriggerFunctions(log, shape)
    functions: list[TriggerFunction] = []
    triggers: list[Trigger] = []
    for member in shape.relations:
        own = list(writer.functions_for(member))
        functions.extend(function for function in own if function not in functions)
        triggers.extend(_triggers_of(log, member, {function.name for function in own}))
    return Capture(
        log=log.create(),
        log_columns=tuple(log.columns()),
        log_index=log.create_index(),
        passing_functions=tuple(passing_functions(log)),
        functions=tuple(functions),
        triggers=tuple(triggers),
    )


def _triggers_of(log: LogDefinition, member: Relation, functions: set[str]) -> Iterator[Trigger]:
    stem = f"exportd_{log.entity.code.lower()}"
    for function in sorted(functions):
        event = function.removeprefix(f"{log.name}_").split("_")[0]
        clause, level, fires = _CLAUSES[event]
        for_replica = event == "row" and log.entity.capture is CaptureLevel.STATEMENT
        enabled = REPLICA if for_replica else ALWAYS
        yield Trigger(f"{stem}_{event}", member.name, clause, function, level, fires, enabled)
