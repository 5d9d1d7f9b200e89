"""Compares what is installed with what an entity needs, and decides what has to be done. Pure."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from exportd.capture.triggers import Capture, Trigger
from exportd.catalog.shape import Relation, Shape
from exportd.database.quoting import identifier, literal, table
from exportd.model.change_log import SCHEMA, log_name, log_table
from exportd.model.entity import Entity, TableName


@dataclass(frozen=True, slots=True)
class InstalledFunction:
    """A function of a change log; ``arguments`` distinguishes overloads. ``settings`` are pairs in lower case.

    ``digest`` is the SHA-256 of its body in hex. ``logs``: it writes into a change log.
    """

    name: str
    arguments: str
    digest: str
    logs: bool
    definer: bool
    settings: frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class InstalledLog:
    """A change log. ``captures`` is its comment.

    The flags say whether it survives a crash (``logged``), and whether its index, its sequence and the default of its
    xid are there.
    """

    captures: str
    logged: bool = True
    indexed: bool = True
    numbered: bool = True
    stamped: bool = True


@dataclass(frozen=True, slots=True)
class InstalledTrigger:
    """A capture trigger somewhere in the database."""

    name: str
    relation: TableName
    function: str


@dataclass(frozen=True, slots=True)
class Installed:
    """The objects of capture in the database; ``logs`` by their bare names."""

    logs: Mapping[str, InstalledLog]
    functions: Sequence[InstalledFunction]
    triggers: Sequence[InstalledTrigger]

    def functions_current(self, capture: Capture) -> bool:
        """Whether every function is installed as ``capture`` has it."""
        trigger_functions = {
            (function.name, function.digest, function.settings) for function in self.functions if function.definer
        }
        passing_functions = Counter((function.name, function.digest) for function in self.functions)
        return all(
            (function.name, digest_of(function.body), frozenset(function.settings)) in trigger_functions
            for function in capture.functions
        ) and all(
            passing_functions[passing_function.name, digest_of(passing_function.body)] == 1
            for passing_function in capture.passing_functions
        )


@dataclass(frozen=True, slots=True)
class Repair:
    """Statements for one transaction, to be run after the tables in ``locked`` are locked.

    ``findings`` say in words what was wrong. The lock excludes writers, because a transaction that still runs an older
    trigger function, or none, must have ended before the next snapshot. With ``exclusive`` it excludes readers too,
    because triggers are dropped: DROP TRIGGER would take that lock later, and deadlock with a reader that waits to
    write.
    """

    findings: tuple[str, ...]
    locked: tuple[TableName, ...]
    statements: tuple[str, ...]
    exclusive: bool = False

    @property
    def needed(self) -> bool:
        return bool(self.statements)

    def lock(self) -> str:
        """The statement that locks the tables."""
        return f"LOCK TABLE ONLY {', ONLY '.join(table(name) for name in self.locked)} IN {self.lock_mode} MODE"

    @property
    def lock_mode(self) -> str:
        return "ACCESS EXCLUSIVE" if self.exclusive else "SHARE ROW EXCLUSIVE"

    def lock_covers(self, other: "Repair") -> bool:
        """Whether the other repair may be run under this one's lock."""
        return set(other.locked) <= set(self.locked) and (self.exclusive or not other.exclusive)


def captures(entity: Entity) -> str:
    """The comment of a log, which names its table, key and tenant. If any of these differs, the log has to be created
    again.
    """
    return f"{entity.table} key {', '.join(entity.key)} tenant {entity.tenant or '-'}"


def is_intact(capture: Capture, shape: Shape) -> bool:
    """Whether every capture trigger is there, enabled as it should be, and calls the right function."""
    return not _missing_triggers(capture, shape)


def repair_of(entity: Entity, capture: Capture, shape: Shape, installed: Installed) -> Repair:
    """The repair that completes the entity's capture; empty when it is complete."""
    tree = [relation.name for relation in shape.relations]
    if damage := _log_damage(entity, capture, shape, installed):
        removal = removal_of(log_name(entity.code), installed)
        new = (
            capture.log,
            f"COMMENT ON TABLE {table(log_table(entity.code))} IS {literal(captures(entity))}",
            capture.log_index,
            *_create_functions(capture),
            *(trigger.create() for trigger in capture.triggers),
        )
        everything = tuple(dict.fromkeys((*tree, *removal.locked)))
        return Repair((damage,), everything, (*removal.statements, *new), exclusive=removal.exclusive)
    findings: list[str] = []
    statements: list[str] = []
    locked: list[TableName] = []
    if not installed.logs[log_name(entity.code)].indexed:
        findings.append("the change log has lost its index")
        statements.append(capture.log_index)
        locked = tree
    if not installed.functions_current(capture):
        findings.append("the trigger functions are missing or of another shape")
        locked = tree
        statements.extend(_drop_function(function) for function in _stale_functions(entity, capture, installed))
        statements.extend(_create_functions(capture))
        if _wrote_nothing(capture, installed):
            statements.append(f"INSERT INTO {table(log_table(entity.code))} (op) VALUES ('T')")
    if missing := _missing_triggers(capture, shape):
        findings.append(f"triggers missing, disabled, not ENABLE ALWAYS or otherwise changed: {_names(missing)}")
        statements.extend(trigger.create() for trigger in missing)
    if stale := _stale_triggers(entity, capture, installed):
        findings.append(f"triggers left on tables that are no longer captured, or no longer so: {_names(stale)}")
        statements.extend(_drop_trigger(trigger) for trigger in stale)
    # A new partition needs no lock on the others: only its own writers have no trigger yet.
    locked += [trigger.relation for trigger in missing] + [trigger.relation for trigger in stale]
    return Repair(tuple(findings), tuple(dict.fromkeys(locked)), tuple(statements), exclusive=bool(stale))


def removal_of(entity_log: str, installed: Installed) -> Repair:
    """The statements that remove a log with its triggers and functions."""
    triggers = [trigger for trigger in installed.triggers if belongs(trigger.function, entity_log)]
    functions = [function for function in installed.functions if belongs(function.name, entity_log)]
    statements = [
        *(_drop_trigger(trigger) for trigger in triggers),
        *(_drop_function(function) for function in functions),
        *([f"DROP TABLE {table(TableName(SCHEMA, entity_log))}"] if entity_log in installed.logs else []),
    ]
    locked = tuple(dict.fromkeys(trigger.relation for trigger in triggers))
    return Repair((), locked, tuple(statements), exclusive=bool(triggers))


def belongs(function: str, log: str) -> bool:
    """Whether a function is one of the log's. A partition's own trigger functions end in its oid in hex."""
    pattern = rf"{re.escape(log)}_(?:(?:insert|update|delete|truncate|row)(?:_[0-9a-f]+)?|tenant|has_tenant|key_\d+)"
    return re.fullmatch(pattern, function) is not None


def _log_damage(entity: Entity, capture: Capture, shape: Shape, installed: Installed) -> str | None:
    """Why the log has to be created again; None when it is sound."""
    log = installed.logs.get(log_name(entity.code))
    if log is None:
        return "the change log is missing"
    if log.captures != captures(entity):
        return f"the change log is of another table, key or tenant ({log.captures or 'unknown'})"
    if shape.log_columns != capture.log_columns:
        return "the change log's columns are not those of the key and tenant"
    if not (log.logged and log.numbered and log.stamped):
        return "the change log has lost its sequence, the default of its xid, or its crash safety"
    return None


def _create_functions(capture: Capture) -> Sequence[str]:
    return [
        *(passing_function.create() for passing_function in capture.passing_functions),
        *(function.create() for function in capture.functions),
    ]


def _stale_functions(entity: Entity, capture: Capture, installed: Installed) -> Sequence[InstalledFunction]:
    """The passing functions for a type that the key or tenant had before, which must not stay beside the new ones."""
    wanted = {(function.name, function.arguments) for function in capture.passing_functions}
    return [
        function
        for function in installed.functions
        if belongs(function.name, log_name(entity.code))
        and function.arguments  # trigger functions have none
        and (function.name, function.arguments) not in wanted
    ]


def _wrote_nothing(capture: Capture, installed: Installed) -> bool:
    """Whether the trigger functions were replaced by functions that do not write into the log. Then changes were
    lost.
    """
    names = {function.name for function in capture.functions}
    return any(function.name in names and not function.logs for function in installed.functions)


def _drop_trigger(trigger: InstalledTrigger) -> str:
    return f"DROP TRIGGER IF EXISTS {identifier(trigger.name)} ON {table(trigger.relation)}"


def _drop_function(function: InstalledFunction) -> str:
    return f"DROP FUNCTION IF EXISTS {table(TableName(SCHEMA, function.name))}({function.arguments})"


def _missing_triggers(capture: Capture, shape: Shape) -> Sequence[Trigger]:
    relations = {relation.name: relation for relation in shape.relations}
    return [trigger for trigger in capture.triggers if not _stands(trigger, relations[trigger.relation])]


def _stands(trigger: Trigger, relation: Relation) -> bool:
    wanted = (trigger.name, trigger.function, trigger.fires, trigger.enabled)
    return any(
        (found.name, found.function, found.fires, found.enabled) == wanted and not found.conditional
        for found in relation.triggers
    )


def _names(triggers: Sequence[Trigger | InstalledTrigger]) -> str:
    return ", ".join(f"{trigger.name} on {trigger.relation}" for trigger in triggers)


def _stale_triggers(entity: Entity, capture: Capture, installed: Installed) -> Sequence[InstalledTrigger]:
    """The triggers of this log on detached partitions, or of a kind that is no longer needed."""
    wanted = {(trigger.relation, trigger.name) for trigger in capture.triggers}
    return [
        trigger
        for trigger in installed.triggers
        if belongs(trigger.function, log_name(entity.code)) and (trigger.relation, trigger.name) not in wanted
    ]


def digest_of(body: str) -> str:
    """The SHA-256 of a function's body in hex."""
    return hashlib.sha256(body.encode()).hexdigest()
