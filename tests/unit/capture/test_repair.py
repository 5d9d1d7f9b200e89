from collections.abc import Sequence
from dataclasses import replace

from exportd.capture.repair import (
    Installed,
    InstalledFunction,
    InstalledLog,
    InstalledTrigger,
    Repair,
    captures,
    digest_of,
    is_intact,
    removal_of,
    repair_of,
)
from exportd.capture.triggers import capture_of
from exportd.catalog.shape import CaptureTrigger, Relation, Shape
from exportd.model.entity import Entity, TableName
from tests.unit.extraction.shapes import COLUMNS, SHAPE, THINGS, relation, tree

WORDS = "triggers missing, disabled, not ENABLE ALWAYS or otherwise changed"
LEAF = relation("leaf", COLUMNS[::-1], oid=0xABC)


def standing(entity: Entity, shape: Shape) -> tuple[Shape, Installed]:
    """The shape and what is installed, as they are after an installation."""
    capture = capture_of(entity, shape)

    def with_triggers(relation: Relation) -> Relation:
        own = [trigger for trigger in capture.triggers if trigger.relation == relation.name]
        return replace(
            relation, triggers=tuple(CaptureTrigger(1, "7", t.name, t.enabled, t.function, t.fires) for t in own)
        )

    whole = replace(
        shape,
        root=with_triggers(shape.root),
        members=tuple(map(with_triggers, shape.members)),
        log_columns=capture.log_columns,
    )
    functions = [
        *(
            InstalledFunction(function.name, "", digest_of(function.body), True, True, frozenset(function.settings))
            for function in capture.functions
        ),
        *(
            InstalledFunction(
                passing_function.name,
                passing_function.arguments,
                digest_of(passing_function.body),
                False,
                False,
                frozenset(),
            )
            for passing_function in capture.passing_functions
        ),
    ]
    triggers = [InstalledTrigger(trigger.name, trigger.relation, trigger.function) for trigger in capture.triggers]
    return whole, Installed({"log_things": InstalledLog(captures(entity))}, functions, triggers)


SHAPE_OF_TREE, INSTALLED = standing(THINGS, tree(LEAF))


def repair(shape: Shape = SHAPE_OF_TREE, installed: Installed = INSTALLED, entity: Entity = THINGS) -> Repair:
    return repair_of(entity, capture_of(entity, shape), shape, installed)


def with_log(log: InstalledLog) -> Installed:
    return replace(INSTALLED, logs={"log_things": log})


def test_what_is_whole_needs_nothing() -> None:
    assert repair().findings == ()
    assert not repair().needed
    assert is_intact(capture_of(THINGS, SHAPE_OF_TREE), SHAPE_OF_TREE)


def test_the_first_installation_makes_everything_and_drops_nothing() -> None:
    made = repair(tree(LEAF), Installed({}, [], []))
    assert made.findings == ("the change log is missing",)
    assert not [statement for statement in made.statements if statement.startswith("DROP")]
    assert not made.exclusive, "readers go on"
    assert made.lock() == 'LOCK TABLE ONLY "public"."things", ONLY "public"."leaf" IN SHARE ROW EXCLUSIVE MODE'


def test_a_log_that_is_of_no_use_is_made_again_with_all_that_belongs_to_it() -> None:
    log = InstalledLog(captures(THINGS))
    damages = [InstalledLog("other"), replace(log, logged=False), replace(log, numbered=False)]
    for damaged in (*damages, replace(log, stamped=False)):
        again = repair(installed=with_log(damaged))
        assert len(again.findings) == 1
        assert 'DROP TABLE "exportd"."log_things"' in again.statements
        assert sum(statement.startswith("DROP TRIGGER") for statement in again.statements) == 8
        assert again.exclusive
        drops = [number for number, statement in enumerate(again.statements) if statement.startswith("DROP")]
        assert drops == list(range(len(drops))), "first everything goes, then everything comes"


def test_an_index_is_made_again_without_losing_the_log() -> None:
    again = repair(installed=with_log(InstalledLog(captures(THINGS), indexed=False)))
    assert again.findings == ("the change log has lost its index",)
    assert again.statements == ('CREATE INDEX ON "exportd"."log_things" (tenant, xid)',)


def test_a_missing_or_changed_function_is_seen() -> None:
    first, *others = INSTALLED.functions
    changed: Sequence[InstalledFunction]
    for changed in (
        others,
        [replace(first, digest="0"), *others],
        [replace(first, definer=False), *others],
        [replace(first, settings=frozenset({("search_path", "public")})), *others],
        INSTALLED.functions[:-1],
    ):
        again = repair(installed=replace(INSTALLED, functions=changed))
        assert again.findings == ("the trigger functions are missing or of another shape",)
        assert all(
            "CREATE OR REPLACE FUNCTION" in statement
            for statement in again.statements
            if not statement.startswith("INSERT")
        )


def test_a_function_that_wrote_nothing_makes_the_next_run_full() -> None:
    first, *others = INSTALLED.functions
    marker = 'INSERT INTO "exportd"."log_things" (op) VALUES (\'T\')'
    for logs, lost in ((True, False), (False, True)):
        changed = replace(first, digest="0", logs=logs)
        again = repair(installed=replace(INSTALLED, functions=[changed, *others]))
        assert (marker in again.statements) == lost


def test_a_missing_disabled_or_misled_trigger_is_named() -> None:
    (leaf,) = SHAPE_OF_TREE.members
    first, *others = leaf.triggers
    for triggers in (
        others,
        [replace(first, enabled="O"), *others],
        [replace(first, enabled="D"), *others],
        [replace(first, function="log_things_other"), *others],
        [replace(first, fires=1), *others],
        [replace(first, conditional=True), *others],
    ):
        shape = replace(SHAPE_OF_TREE, members=(replace(leaf, triggers=tuple(triggers)),))
        again = repair(shape)
        assert again.findings == (f"{WORDS}: {first.name} on public.leaf",)
        assert len(again.statements) == 1
        assert again.locked == (leaf.name,), "writers of the other tables are not in the way"
        assert not is_intact(capture_of(THINGS, shape), shape)


def test_triggers_on_a_table_that_has_left_the_tree_are_dropped_under_its_lock() -> None:
    shape, _ = standing(THINGS, tree())
    again = repair(shape)
    assert "no longer captured" in again.findings[0]
    assert TableName("public", "leaf") in again.locked
    assert again.exclusive
    assert all(statement.startswith("DROP TRIGGER") and "leaf" in statement for statement in again.statements)


def test_another_entitys_capture_is_never_touched() -> None:
    other = replace(INSTALLED.triggers[0], function="log_things_too_insert", relation=TableName("public", "elsewhere"))
    theirs = InstalledFunction("log_things_too_insert", "", "0", True, True, frozenset())
    both = replace(INSTALLED, triggers=[*INSTALLED.triggers, other], functions=[*INSTALLED.functions, theirs])
    assert not repair(installed=both).needed
    assert not [statement for statement in removal_of("log_things", both).statements if "too" in statement]


def test_a_lock_covers_what_it_locks_in_the_same_or_a_weaker_mode() -> None:
    weak, strong = repair(tree(LEAF), Installed({}, [], [])), removal_of("log_things", INSTALLED)
    assert strong.lock_covers(weak)
    assert not weak.lock_covers(strong)
    assert not repair(SHAPE, Installed({}, [], [])).lock_covers(weak)


def test_removing_what_is_not_there_is_nothing() -> None:
    assert removal_of("log_nothing", INSTALLED).statements == ()
