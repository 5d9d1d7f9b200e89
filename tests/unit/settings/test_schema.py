"""A setting is declared once: the schema refuses a key that does not say its effect and its scope."""

from collections.abc import Iterator
from typing import Annotated

import pytest

from exportd.settings.difference import KEYS, setting_of
from exportd.settings.schema import TABLES, Settings
from exportd.settings.section import Effect, Scope, Section, Setting


def keys_of_the_tables() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from (f"{name}.{key}" for key in field.annotation.model_fields)


def test_every_key_of_a_table_has_an_effect_and_a_scope() -> None:
    """A developer who adds a key has to say whether a reload is enough for it, and whether two daemons may differ."""
    assert list(KEYS) == list(keys_of_the_tables())
    assert all(isinstance(setting, Setting) for setting in KEYS.values())


def test_what_is_no_table_is_a_list_of_things_that_change_at_once() -> None:
    assert set(Settings.model_fields) - set(TABLES) == {"destination", "schedule"}


class Incomplete(Section):
    nothing: int = 1
    twice: Annotated[int, Setting(Effect.AT_ONCE, Scope.HOST), Setting(Effect.RESTART, Scope.HOST)] = 2


@pytest.mark.parametrize(("key", "found"), [("nothing", 0), ("twice", 2)])
def test_a_key_without_exactly_one_declaration_is_refused(key: str, found: int) -> None:
    with pytest.raises(TypeError, match=rf"^limits\.{key} needs one Setting.*has {found}$"):
        setting_of(f"limits.{key}", Incomplete.model_fields[key])


def test_an_annotation_says_both_beside_its_limits() -> None:
    assert KEYS["limits.streams"] == Setting(Effect.NEXT_JOB, Scope.HOST)
    assert KEYS["spool.retention_hours"] == Setting(Effect.AT_ONCE, Scope.DATABASE)
    assert KEYS["control.socket"] == Setting(Effect.RESTART, Scope.HOST)


def test_only_a_dsn_is_judged_by_its_place() -> None:
    assert [key for key, setting in KEYS.items() if setting.effect is Effect.LOGIN_AT_ONCE] == ["database.dsn"]


def test_the_daemons_of_a_database_must_agree_on_what_exports_are_and_how_long_things_are_kept() -> None:
    assert {key for key, setting in KEYS.items() if setting.scope is Scope.DATABASE} == {
        *("spool.retention_hours", "limits.part_size", "limits.job_attempts"),
        *(
            "quotas.schedules",
            "quotas.destinations",
            "quotas.waiting_jobs",
            "quotas.adhoc_jobs",
            "quotas.clients",
            "quotas.changes_per_hour",
            "retention.jobs",
            "retention.audit",
            "capture.doorbell",
            "capture.horizon_hours",
            "capture.keep_hours",
        ),
        *("s3.region", "s3.endpoint", "gcs.endpoint", "gcs.pools"),
    }
