"""What becomes of what several daemons declare, in whatever order they start, reload and are forgotten."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from exportd.model.declared import ALONE, Declared, Document, Fate, Key

KEY = Key("acme", "nightly")
ONE, OTHER = {"name": "one"}, {"name": "other"}


def declared(before: Document | None = None, *elsewhere: Document) -> Declared:
    return Declared({} if before is None else {KEY: before}, {KEY: elsewhere} if elsewhere else {})


def test_one_alone_has_its_way() -> None:
    for before in (None, ONE, OTHER):
        alone = declared(before)
        assert alone.fate(KEY, present=None, own=True, now=ONE) is Fate.NEW
        assert alone.fate(KEY, present=ONE, own=True, now=ONE) is Fate.UNCHANGED
        assert alone.fate(KEY, present=OTHER, own=True, now=ONE) is Fate.EDITED
        assert alone.fate(KEY, present=ONE, own=True, now=None) is Fate.GONE


def test_what_the_api_made_stays_until_it_is_declared() -> None:
    assert ALONE.fate(KEY, present=ONE, own=False, now=None) is Fate.UNCHANGED
    assert declared(None, ONE).fate(KEY, present=ONE, own=False, now=None) is Fate.UNCHANGED
    assert declared(ONE, ONE).fate(KEY, present=ONE, own=False, now=ONE) is Fate.EDITED


def test_what_another_declares_is_not_taken_away() -> None:
    assert declared(ONE, OTHER).fate(KEY, present=ONE, own=True, now=None) is Fate.UNCHANGED


def test_a_mere_restart_does_not_undo_what_was_written_elsewhere_since() -> None:
    assert declared(ONE, OTHER).fate(KEY, present=OTHER, own=True, now=ONE) is Fate.UNCHANGED


def test_what_is_newly_written_is_put_into_effect() -> None:
    assert declared(OTHER, OTHER).fate(KEY, present=OTHER, own=True, now=ONE) is Fate.EDITED
    assert declared(None, OTHER).fate(KEY, present=OTHER, own=True, now=ONE) is Fate.EDITED


def test_what_no_daemon_declares_any_more_is_corrected_by_one_that_declares_it_otherwise() -> None:
    assert declared(ONE, ONE).fate(KEY, present=OTHER, own=True, now=ONE) is Fate.EDITED


Configuration = Mapping[Key, Document]
Step = tuple[str, str, Configuration]


@dataclass
class Database:
    """Rows of one kind, and what each daemon has declared."""

    rows: dict[Key, Document] = field(default_factory=dict)
    declarations: dict[str, Configuration] = field(default_factory=dict)

    def declare(self, daemon: str, now: Configuration) -> None:
        """It starts or reloads, and the others, which get the event, look again."""
        self._reconcile(daemon, now)
        self._settle()

    def forget(self, daemon: str) -> None:
        self.declarations.pop(daemon, None)
        self._settle()

    def _settle(self) -> None:
        for declaration in sorted(self.declarations):
            self._reconcile(declaration, self.declarations[declaration])

    def _reconcile(self, daemon: str, now: Configuration) -> None:
        others = [declaration for name, declaration in self.declarations.items() if name != daemon]
        elsewhere = {key: [other[key] for other in others if key in other] for key in {*itertools.chain(*others)}}
        standing = Declared(self.declarations.get(daemon, {}), elsewhere)
        for key in {*self.rows, *now}:
            match standing.fate(key, present=self.rows.get(key), own=True, now=now.get(key)):
                case Fate.NEW | Fate.EDITED:
                    self.rows[key] = now[key]
                case Fate.GONE:
                    del self.rows[key]
                case Fate.UNCHANGED:
                    pass
        self.declarations[daemon] = now


configurations = st.dictionaries(
    st.builds(Key, st.just("acme"), st.sampled_from("abc")), st.sampled_from([{"name": "x"}, {"name": "y"}])
)
steps = st.lists(
    st.tuples(st.sampled_from(["declare", "forget"]), st.sampled_from(["north", "south", "east"]), configurations),
    max_size=12,
)


def history(taken: list[Step]) -> Database:
    database = Database()
    for verb, daemon, configuration in taken:
        if verb == "declare":
            database.declare(daemon, configuration)
        else:
            database.forget(daemon)
    return database


@given(steps)
def test_what_is_there_is_what_some_daemon_declares_as_one_of_them_does(
    taken: list[Step],
) -> None:
    database = history(taken)
    if not database.declarations:
        return  # no daemon is there to take anything out
    declared_by_any = {key for declaration in database.declarations.values() for key in declaration}
    assert set(database.rows) == declared_by_any
    for key, row in database.rows.items():
        assert row in [declaration[key] for declaration in database.declarations.values() if key in declaration]


@given(steps, st.lists(st.sampled_from(["north", "south", "east"]), max_size=6))
def test_restarts_change_nothing(taken: list[Step], restarted: list[str]) -> None:
    database = history(taken)
    before = dict(database.rows)
    for daemon in restarted:
        if daemon in database.declarations:
            database.declare(daemon, database.declarations[daemon])
    assert database.rows == before


@given(steps, configurations)
def test_a_configuration_that_all_are_given_is_what_there_is(taken: list[Step], last: Configuration) -> None:
    database = history(taken)
    for declaration in [*database.declarations] or ["north"]:
        database.declare(declaration, last)
    assert database.rows == last


@given(steps, configurations)
def test_what_is_newly_written_wins(taken: list[Step], written: Configuration) -> None:
    database = history(taken)
    before = dict(database.declarations.get("north", {}))
    database.declare("north", written)
    for key, document in written.items():
        if before.get(key) != document:
            assert database.rows[key] == document
