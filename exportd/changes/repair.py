"""What has to be done so that an entity's changes are captured as they should be. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from exportd.catalog.shape import Relation, Shape
from exportd.changes.capture_table import Installed, InstalledFunction, InstalledTrigger
from exportd.changes.trigger_functions import Capture, Trigger
from exportd.database.quoting import identifier, literal, table
from exportd.model.change_log import SCHEMA, log_name, log_table
from exportd.model.entity import Entity, TableName

_ALWAYS = "A"
"""pg_trigger.tgenabled of a trigger that fires whatever session_replication_role says."""


@dataclass(frozen=True, slots=True)
class Repair:
    """Statements for one transaction, to be run after the tables in ``locked`` are locked against writers.

    ``findings`` say in words what was wrong. Writers are locked out because a transaction that still runs an older
    trigger function, or none, must have ended before the next snapshot.
    """

    findings: tuple[str, ...]
    locked: tuple[TableName, ...]
    statements: tuple[str, ...]

    @property
    def needed(self) -> bool:
        return bool(self.statements)

    def lock(self) -> str:
        return f"LOCK TABLE ONLY {', ONLY '.join(table(each) for each in self.locked)} IN SHARE ROW EXCLUSIVE MODE"


def captures(entity: Entity) -> str:
    """What a log holds, kept as its comment: a log of another table, key or tenant is of no use."""
    return f"{entity.table} key {', '.join(entity.key)} tenant {entity.tenant or '-'}"


def is_intact(capture: Capture, shape: Shape) -> bool:
    """Whether every capture trigger is there, enabled always, and calls the right function."""
    return not _missing_triggers(capture, shape)


def repair_of(entity: Entity, capture: Capture, shape: Shape, installed: Installed) -> Repair:
    """What makes the entity's capture whole; empty when it is."""
    findings: list[str] = []
    statements: list[str] = []
    log = log_name(entity.code)
    current_log = installed.logs.get(log) == captures(entity) and shape.log_columns == capture.log_columns
    if not current_log:
        findings.append(
            "the change log is missing" if log not in installed.logs else "the change log is of another key"
        )
        statements.extend(_drop(entity, installed))
        statements.append(capture.log)
        statements.append(f"COMMENT ON TABLE {table(log_table(entity.code))} IS {literal(captures(entity))}")
    functions_current = current_log and installed.functions_current(capture)
    if not functions_current:
        if current_log:
            findings.append("the trigger functions are missing or of another shape")
        statements.extend(each.create() for each in capture.functions)
    missing = list(capture.triggers) if not current_log else _missing_triggers(capture, shape)
    if missing and current_log:
        names = ", ".join(f"{each.name} on {each.relation}" for each in missing)
        findings.append(f"triggers missing, disabled or not ENABLE ALWAYS: {names}")
    statements.extend(each.create() for each in missing)
    stale = [] if not current_log else _stale_triggers(entity, capture, installed)
    if stale:
        findings.append("triggers left on tables that are no longer captured")
        statements.extend(_drop_trigger(each) for each in stale)
    return Repair(tuple(findings), tuple(each.name for each in shape.relations), tuple(statements))


def removal_of(entity_log: str, installed: Installed) -> Repair:
    """What removes a log with its triggers and functions, leaving nothing behind."""
    triggers = [each for each in installed.triggers if belongs(each.function, entity_log)]
    functions = [each for each in installed.functions if belongs(each.name, entity_log)]
    statements = [
        *(_drop_trigger(each) for each in triggers),
        *(_drop_function(each) for each in functions),
        f"DROP TABLE IF EXISTS {table(TableName(SCHEMA, entity_log))}",
    ]
    return Repair((), tuple(dict.fromkeys(each.relation for each in triggers)), tuple(statements))


def belongs(function: str, log: str) -> bool:
    """Whether a function is one of the log's."""
    pattern = rf"{re.escape(log)}_(?:insert|update|delete|truncate|row|tenant|has_tenant|key_\d+)(?:_\d+)?"
    return re.fullmatch(pattern, function) is not None


def _drop(entity: Entity, installed: Installed) -> Sequence[str]:
    return removal_of(log_name(entity.code), installed).statements


def _drop_trigger(trigger: InstalledTrigger) -> str:
    return f"DROP TRIGGER IF EXISTS {identifier(trigger.name)} ON {table(trigger.relation)}"


def _drop_function(function: InstalledFunction) -> str:
    return f"DROP FUNCTION IF EXISTS {table(TableName(SCHEMA, function.name))}({function.arguments})"


def _missing_triggers(capture: Capture, shape: Shape) -> list[Trigger]:
    relations = {each.name: each for each in shape.relations}
    return [each for each in capture.triggers if not _stands(each, relations[each.relation])]


def _stands(trigger: Trigger, relation: Relation) -> bool:
    return any(
        each.name == trigger.name and each.function == trigger.function and each.enabled == _ALWAYS
        for each in relation.triggers
    )


def _stale_triggers(entity: Entity, capture: Capture, installed: Installed) -> list[InstalledTrigger]:
    """Triggers of this log on detached partitions, or of a kind that is no longer wanted there."""
    wanted = {(each.relation, each.name) for each in capture.triggers}
    return [
        each
        for each in installed.triggers
        if belongs(each.function, log_name(entity.code)) and (each.relation, each.name) not in wanted
    ]
