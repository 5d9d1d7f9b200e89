import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from exportd.model.entity import Entity, EntityCode, Field, OrganizationId, TableName
from exportd.model.errors import Problem, Reason, SettingsError
from exportd.model.schedule import (
    Cron,
    DestinationCode,
    ExportFormat,
    Interval,
    Rule,
    ScheduleDeclaration,
    Unit,
)
from exportd.settings.cross_checks import check_entities
from exportd.settings.loader import declarations, load, load_all
from exportd.settings.schema import Settings

MINIMAL = '[database]\ndsn = "postgresql://exportd@db/product"\n'

SCHEDULE = """\
[[schedule]]
code = "nightly"
organization = "org-1"
entities = ["ACCOUNTS"]
cron = "0 2 * * *"
"""

NO_ENVIRONMENT: Mapping[str, str] = {}


def any_rule(rule: Rule) -> list[str]:
    return []


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "exportd.toml"


def problems_of(config: Path, text: str, **environment: str) -> list[str]:
    config.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(config, check_rule=any_rule, environment=environment)
    assert caught.value.reason is Reason.SETTINGS_INVALID
    return [str(problem).replace(f"{config.parent}/", "") for problem in caught.value.problems]


def loaded(config: Path, text: str, **environment: str) -> Settings:
    config.write_text(text)
    return load(config, check_rule=any_rule, environment=environment)


@dataclass
class Known:
    entities: dict[EntityCode, Entity]


def known(*codes: str) -> Known:
    entities = [
        Entity(
            EntityCode(code),
            code,
            code.lower(),
            TableName("public", code),
            ("id",),
            None,
            (Field("id", "id"),),
        )
        for code in codes
    ]
    return Known({entity.code: entity for entity in entities})


# The defaults


def test_a_dsn_is_all_that_must_be_said(config: Path) -> None:
    settings = loaded(config, MINIMAL)
    assert settings.database.dsn == "postgresql://exportd@db/product"
    assert settings.catalog.file == config.parent / "entities.toml"
    assert settings.spool.directory == Path("/var/lib/exportd/spool")
    assert settings.limits.part_size == 6_000_000_000
    assert settings.limits.stream_threshold == 256_000_000
    assert settings.spool.retention_hours == 24
    assert settings.capture.horizon_hours == 168
    assert settings.destination == ()
    assert settings.schedule == ()


def test_paths_are_relative_to_the_folder_of_the_file(
    config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config.write_text(MINIMAL + '[catalog]\nfile = "c/e.toml"\n[spool]\ndirectory = "../spool"\n')
    settings = load(Path("../exportd.toml"), check_rule=any_rule, environment=NO_ENVIRONMENT)
    assert settings.catalog.file.is_absolute()
    assert settings.catalog.file.resolve() == tmp_path / "c/e.toml"
    assert settings.spool.directory.resolve() == tmp_path.parent / "spool"


def test_settings_that_say_the_same_are_equal_wherever_they_were_written(config: Path, tmp_path: Path) -> None:
    here = loaded(config, MINIMAL + "[limits]\njobs = 3\n")
    there = loaded(config, "# moved down\n[limits]\njobs = 3\n" + MINIMAL)
    assert here == there
    assert here != loaded(config, MINIMAL)


def test_settings_cannot_be_changed(config: Path) -> None:
    settings = loaded(config, MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        settings.limits.jobs = 5


# The file


def test_a_file_that_is_not_there(config: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(config, check_rule=any_rule, environment=NO_ENVIRONMENT)
    assert caught.value.problems == (Problem(str(config), "there is no such file; check the path"),)


def test_a_directory_in_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is a directory; name the file in it"):
        load(tmp_path, check_rule=any_rule, environment=NO_ENVIRONMENT)


def test_a_file_that_may_not_be_read(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(SettingsError, match="may not be read by this user; check owner and mode"):
        load(config, check_rule=any_rule, environment=NO_ENVIRONMENT)


def test_a_file_that_is_not_utf_8(config: Path) -> None:
    config.write_bytes(b"[database]\n# gr\xfc\xdfe\n")
    with pytest.raises(SettingsError, match=r"exportd.toml:2: is not UTF-8 text \(byte 0xfc\)"):
        load(config, check_rule=any_rule, environment=NO_ENVIRONMENT)


def test_a_byte_order_mark_does_no_harm(config: Path) -> None:
    config.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load(config, check_rule=any_rule, environment=NO_ENVIRONMENT).database.dsn


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[database]\ndsn = \n", "exportd.toml:2"),
        ("[database]\n\n[database]\n", "exportd.toml:3"),
        ("a = 1\na = 2\n", "exportd.toml:2"),
        ('x = """\nnever closed\n', "exportd.toml:3"),
        ("[a\n", "exportd.toml:1"),
        ("x = " + "[" * 100_000, "exportd.toml"),
        ("x = " + "1" * 5000, "exportd.toml"),
    ],
    ids=["no value", "table twice", "key twice", "open text", "open header", "too deep", "too many digits"],
)
def test_a_syntax_error_has_its_line(config: Path, text: str, place: str) -> None:
    [problem] = problems_of(config, text)
    assert problem.startswith(f"{place}: is not valid TOML: ") or "nested too deeply" in problem
    assert "at line" not in problem
    assert len(problem) < 300


# The DSN


def test_the_dsn_may_be_in_a_file(config: Path) -> None:
    (config.parent / "dsn").write_text("postgresql://exportd:hunter2@db/product\n")
    settings = loaded(config, '[database]\ndsn_file = "dsn"\n')
    assert settings.database.dsn == "postgresql://exportd:hunter2@db/product"


def test_a_dsn_file_that_all_can_write_is_refused(config: Path) -> None:
    (config.parent / "dsn").write_text("postgresql://exportd@db/product\n")
    (config.parent / "dsn").chmod(0o602)
    [problem] = problems_of(config, '[database]\ndsn_file = "dsn"\n')
    assert "every user of this machine can write" in problem
    assert "chmod o=" in problem


@pytest.mark.parametrize("place", ["file", "configuration", "environment"])
def test_a_password_with_a_character_to_escape_is_told_without_the_password(config: Path, place: str) -> None:
    dsn = "postgresql://u:S3cr#tPass@db/app"
    (config.parent / "dsn").write_text(dsn)
    if place == "environment":
        [problem] = problems_of(config, MINIMAL, EXPORTD_DATABASE_DSN=dsn)
    else:
        line = 'dsn_file = "dsn"' if place == "file" else f'dsn = "{dsn}"'
        [problem] = problems_of(config, f"[database]\n{line}\n")
    assert "%23" in problem
    assert "S3cr" not in problem
    assert "tPass" not in problem


def test_the_environment_goes_before_the_file(config: Path) -> None:
    settings = loaded(config, MINIMAL, EXPORTD_DATABASE_DSN="postgresql://other@db/product")
    assert settings.database.dsn == "postgresql://other@db/product"
    with_file = loaded(
        config, '[database]\ndsn_file = "missing"\n', EXPORTD_DATABASE_DSN="postgresql://other@db/product"
    )
    assert with_file.database.dsn == "postgresql://other@db/product"
    assert loaded(config, "", EXPORTD_DATABASE_DSN="postgresql://other@db/product").database.pool_size == 4
    assert loaded(config, MINIMAL, EXPORTD_DATABASE_DSN="").database.dsn.endswith("exportd@db/product")


def test_no_other_variable_changes_a_setting(config: Path) -> None:
    assert loaded(config, MINIMAL, EXPORTD_LIMITS_JOBS="9", PGHOST="elsewhere") == loaded(config, MINIMAL)


def test_the_real_environment_is_looked_at(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text("")
    monkeypatch.setenv("EXPORTD_DATABASE_DSN", "postgresql://real@db/product")
    assert load(config, check_rule=any_rule).database.dsn == "postgresql://real@db/product"


def test_no_dsn_at_all(config: Path) -> None:
    [problem] = problems_of(config, "")
    assert problem.startswith("exportd.toml: database.dsn: is missing: How to connect: `postgresql://")
    assert "dsn_file" in problem
    assert "EXPORTD_DATABASE_DSN" in problem
    [problem] = problems_of(config, "\n[database]\n")
    assert problem.startswith("exportd.toml:2: database.dsn: is missing")


def test_both_dsn_and_dsn_file(config: Path) -> None:
    (config.parent / "dsn").write_text("postgresql://a@b/c")
    [problem] = problems_of(config, MINIMAL + 'dsn_file = "dsn"\n')
    assert problem == "exportd.toml:3: database: give either dsn or dsn_file; remove one of them"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "database.dsn_file: dsn: there is no such file; check the path"),
        (b"", "database.dsn_file: dsn is empty; write the DSN into it"),
        (b"\n \n", "database.dsn_file: dsn is empty; write the DSN into it"),
        (b"\xff", "database.dsn_file: dsn:1: is not UTF-8 text"),
        (b"postgresql://a@b/c\npostgresql://a@b/c\n", "dsn should hold nothing but the DSN, in one line"),
        (b"host=db password=hunter2", 'dsn: should be a URL such as "postgresql://exportd@db'),
    ],
)
def test_a_dsn_file_that_holds_no_dsn(config: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (config.parent / "dsn").write_bytes(content)
    [problem] = problems_of(config, '[database]\ndsn_file = "dsn"\n')
    assert said in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("jobs = 0.9", "retention.jobs: should be at least 1, but is the number 0.9"),
        ("audit = 29", "retention.audit: should be at least 30, but is the number 29"),
        ('jobs = "90 days"', 'retention.jobs: should be a number, but is "90 days"'),
        ("jobs = inf", "retention.jobs: "),
    ],
)
def test_an_age_that_nothing_may_be_deleted_at(config: Path, key: str, said: str) -> None:
    [problem] = problems_of(config, MINIMAL + f"[retention]\n{key}\n")
    assert said in problem


def test_a_variable_that_holds_no_dsn(config: Path) -> None:
    [problem] = problems_of(config, MINIMAL, EXPORTD_DATABASE_DSN="db.example.com:hunter2")
    assert problem.startswith("environment variable EXPORTD_DATABASE_DSN: should be a URL such as")
    assert "hunter2" not in problem


def test_a_password_is_in_no_representation(config: Path) -> None:
    settings = loaded(config, '[database]\ndsn = "postgresql://exportd:hunter2@db/product"\n')
    assert "hunter2" not in repr(settings) + str(settings) + repr(settings.database) + repr(settings.document)


def test_settings_without_their_file_are_the_same_settings(config: Path) -> None:
    settings = loaded(config, MINIMAL)
    without = settings.without_document()
    assert without.model_dump() == settings.model_dump()
    assert without.document.name == settings.document.name == str(config)
    assert (settings.document.text != "", without.document.text) == (True, "")


# Schedules and destinations


def test_a_rule_is_checked_by_the_function_handed_in(config: Path) -> None:
    asked = []

    def check_rule(rule: Rule) -> list[str]:
        asked.append(rule)
        return ["is too often", "is too seldom"] if rule == Cron("0 0 1 * *") else []

    config.write_text(
        MINIMAL
        + SCHEDULE.replace("0 2 * * *", "0 0 1 * *")
        + SCHEDULE.replace("nightly", "b").replace('cron = "0 2 * * *"', 'unit = "DAY"\nperiod = 2\noffset = 3')
    )
    with pytest.raises(SettingsError) as caught:
        load(config, check_rule=check_rule, environment=NO_ENVIRONMENT)
    assert asked == [Cron("0 0 1 * *"), Interval(Unit.DAY, 2), Interval(Unit.DAY, 2, 3)]
    assert [str(problem) for problem in caught.value.problems] == [
        f"{config}:7: schedule[0].cron: is too often",
        f"{config}:7: schedule[0].cron: is too seldom",
    ]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("", "3: schedule[0]: no rule says when it fires (unit and period missing): write unit ="),
        ('unit = "HOUR"', "7: schedule[0]: no rule says when it fires (period missing)"),
        ("period = 2", "7: schedule[0]: no rule says when it fires (unit missing)"),
        ("offset = 2", "7: schedule[0]: no rule says when it fires (unit and period missing)"),
        (
            'cron = "0 2 * * *"\nunit = "HOUR"\nperiod = 2',
            "7: schedule[0]: give either cron or unit and period; remove cron or unit and period",
        ),
        ('cron = "0 2 * * *"\noffset = 1', "give either cron or unit and period; remove cron or offset"),
        ('unit = "HOUR"\nperiod = "2"', '8: schedule[0].period: should be a whole number, but is "2"'),
        ('unit = "WEEK"\nperiod = 1', "7: schedule[0].unit: should be one of MINUTE, HOUR, DAY"),
        (
            'unit = "HOUR"\nperiod = 2\noffset = true',
            "9: schedule[0].offset: should be a whole number, but is true",
        ),
    ],
)
def test_a_schedule_that_does_not_say_when(config: Path, rule: str, said: str) -> None:
    [problem] = problems_of(config, MINIMAL + SCHEDULE.replace('cron = "0 2 * * *"', rule))
    assert said in problem


def test_codes_are_unique_within_an_organization(config: Path) -> None:
    destination = '[[destination]]\ncode = "lake"\norganization = "org-1"\ndirectory = "out"\n'
    others = (SCHEDULE + destination).replace("org-1", "org-2")
    assert len(loaded(config, MINIMAL + SCHEDULE + destination + others).schedule) == 2
    assert problems_of(config, MINIMAL + SCHEDULE + SCHEDULE + destination + destination) == [
        "exportd.toml:9: schedule[1].code: organization org-1 already has a schedule nightly "
        "(exportd.toml:4); choose another code",
        "exportd.toml:18: destination[1].code: organization org-1 already has a destination lake "
        "(exportd.toml:14); choose another code",
    ]


def test_destinations_must_exist_in_the_schedules_organization(config: Path) -> None:
    destinations = (
        '[[destination]]\ncode = "lake"\norganization = "org-1"\ndirectory = "out"\n'
        '[[destination]]\ncode = "foreign"\norganization = "org-2"\ndirectory = "out"\n'
    )
    text = MINIMAL + destinations + SCHEDULE + 'destinations = ["lake", "lak", "foreign", "lake"]\n'
    assert problems_of(config, text) == [
        "exportd.toml:16: schedule[0].destinations[1]: there is no destination lak of organization org-1; "
        "did you mean lake?",
        "exportd.toml:16: schedule[0].destinations[2]: destination foreign belongs to organization org-2, "
        "the schedule to org-1; declare a destination of org-1",
        "exportd.toml:16: schedule[0].destinations[3]: lake is named twice; remove one",
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"nightly"', '""'),
        ('"nightly"', '" nightly"'),
        ('"nightly"', '"night\\tly"'),
        ('"nightly"', f'"{"x" * 81}"'),
        ('"org-1"', '"org/1"'),
        ('"org-1"', '""'),
        ('code = "nightly"', 'code = "nightly"\nname = " "'),
    ],
)
def test_codes_organizations_and_names_that_cannot_be(config: Path, old: str, new: str) -> None:
    [problem] = problems_of(config, MINIMAL + SCHEDULE.replace(old, new))
    assert "should" in problem


def test_all_problems_come_at_once_in_the_order_of_the_lines(config: Path) -> None:
    text = """\
[database]
dsn = "mysql://x"
pool = 3
[spool]
budget = "much"
[[schedule]]
code = "a"
organisation = "org-1"
entities = "ACCOUNTS"
unit = "DAY"
[[schedule]]
code = "b"
organization = "org-1"
entities = ["ACCOUNTS"]
cron = "0 2 * * *"
destinations = ["nowhere"]
formt = "CSV"
"""
    problems = problems_of(config, text)
    places = [problem.split(": ")[0] + " " + problem.split(": ")[1] for problem in problems]
    assert places == [
        "exportd.toml:2 database.dsn",
        "exportd.toml:3 database",
        "exportd.toml:5 spool.budget",
        "exportd.toml:6 schedule[0].organization",
        "exportd.toml:8 schedule[0]",
        "exportd.toml:9 schedule[0].entities",
        "exportd.toml:10 schedule[0]",
        "exportd.toml:16 schedule[1].destinations[0]",
        "exportd.toml:17 schedule[1]",
    ]


@pytest.mark.parametrize(
    "junk",
    [
        "destination = 1",
        "schedule = [1, [2]]",
        "schedule = [{ code = [1] }]",
        "database = 5",
        "[[schedule]]\ncode = 1\norganization = [[]]\ndestinations = [1, {}]\nentities = [[1]]\nunit = []",
        "[[destination]]\ncode = {}\norganization = []",
    ],
)
def test_the_checks_between_parts_pass_over_what_has_the_wrong_type(config: Path, junk: str) -> None:
    assert problems_of(config, junk)


# Entities and declarations


def test_entities_must_be_in_the_catalog(config: Path) -> None:
    settings = loaded(
        config,
        MINIMAL + SCHEDULE.replace('["ACCOUNTS"]', '[\n  "ACCOUNTS",\n  "BILL",\n  "ALL",\n  "ACCOUNTS",\n]'),
    )
    problems = [
        str(problem).replace(f"{config.parent}/", "")
        for problem in check_entities(settings.document, known("ACCOUNTS", "BILLS").entities)
    ]
    assert problems == [
        "exportd.toml:8: schedule[0].entities[1]: the catalog has no entity BILL; did you mean BILLS?",
        'exportd.toml:9: schedule[0].entities[2]: means every entity; write entities = "ALL" alone, '
        "or list the entities",
        "exportd.toml:10: schedule[0].entities[3]: ACCOUNTS is named twice; remove one",
    ]


def test_references_of_settings_made_in_code_are_checked_too() -> None:
    settings = Settings.model_validate(
        {
            "database": {"dsn": "postgresql://a@b/c"},
            "schedule": [{"code": "a", "organization": "o", "entities": ["X"], "cron": "0 2 * * *"}],
        }
    )
    [problem] = check_entities(settings.document, known("ACCOUNTS").entities)
    assert "the catalog has no entity X" in problem.sentence


def test_a_declaration_says_what_the_file_says(config: Path) -> None:
    text = (
        MINIMAL
        + '[[destination]]\ncode = "lake"\norganization = "org-1"\ndirectory = "out"\n'
        + SCHEDULE
        + 'name = "Every night"\nformat = "JSONL"\ndestinations = ["lake"]\n'
        + SCHEDULE.replace("nightly", "often")
        .replace('["ACCOUNTS"]', '"ALL"')
        .replace('cron = "0 2 * * *"', 'unit = "MINUTE"\nperiod = 15')
    )
    catalog = known("BILLS", "ACCOUNTS")
    assert declarations(loaded(config, text), catalog) == (
        ScheduleDeclaration(
            organization=OrganizationId("org-1"),
            code="nightly",
            name="Every night",
            entities=(EntityCode("ACCOUNTS"),),
            file_format=ExportFormat.JSONL,
            destinations=(DestinationCode("lake"),),
            rule=Cron("0 2 * * *"),
        ),
        ScheduleDeclaration(
            organization=OrganizationId("org-1"),
            code="often",
            name="often",
            entities=(EntityCode("BILLS"), EntityCode("ACCOUNTS")),
            file_format=ExportFormat.CSV,
            destinations=(),
            rule=Interval(Unit.MINUTE, 15, None),
        ),
    )


def test_the_catalogs_problems_come_with_those_of_the_settings(config: Path) -> None:
    def broken(path: Path) -> Known:
        assert path == config.parent / "entities.toml"
        raise SettingsError.of("is broken", where=f"{path}:3")

    config.write_text(MINIMAL + "pool = 1\n")
    with pytest.raises(SettingsError) as caught:
        load_all(config, check_rule=any_rule, load_catalog=broken, environment=NO_ENVIRONMENT)
    assert [problem.where.rpartition("/")[2] for problem in caught.value.problems] == [
        "entities.toml:3",
        "exportd.toml:3",
    ]


def test_unknown_entities_come_with_the_other_problems(config: Path) -> None:
    config.write_text(MINIMAL + SCHEDULE.replace("ACCOUNTS", "ACOUNTS") + "jobs = 1\n")
    with pytest.raises(SettingsError) as caught:
        load_all(config, check_rule=any_rule, load_catalog=lambda _: known("ACCOUNTS"), environment=NO_ENVIRONMENT)
    assert len(caught.value.problems) == 2
    config.write_text(MINIMAL + SCHEDULE)
    settings, catalog = load_all(
        config, check_rule=any_rule, load_catalog=lambda _: known("ACCOUNTS"), environment=NO_ENVIRONMENT
    )
    assert settings.schedule[0].code == "nightly"
    assert list(catalog.entities) == ["ACCOUNTS"]


def test_nothing_but_the_environment_and_the_named_files_is_read(config: Path) -> None:
    before = dict(os.environ)
    loaded(config, MINIMAL)
    assert dict(os.environ) == before
    assert [path.name for path in config.parent.iterdir()] == ["exportd.toml"]
