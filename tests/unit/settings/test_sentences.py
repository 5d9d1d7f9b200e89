"""Each key of the configuration is fed each kind of TOML value; what comes back must be words for people."""

import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from exportd.settings.document import parse
from exportd.settings.schema import Settings
from exportd.settings.sentences import describe, models_in, problems_of

JARGON = re.compile(
    r"Input|pydantic|valid (?:string|integer|tuple)|type=|Extra inputs|Field required|Value error"
    r"|NoneType|<class|dict|tuple|\bstr\b|\bint\b|\bbool\b|schema"
)

WRONG_VALUES = [
    '"text"',
    '""',
    '"line\\nbreak"',
    "5",
    "0",
    "-1",
    "1.5",
    "nan",
    "inf",
    "1e300",
    "99999999999999999999999999999999",
    "true",
    "[]",
    "[1]",
    '["a", "a"]',
    "{}",
    "{ a = 1 }",
    "1979-05-27",
    "07:32:00",
    "1979-05-27T07:32:00Z",
]


def sections() -> Iterator[tuple[str, str]]:
    """The header of each table, and each of its keys; a destination of each kind."""
    for section, field in Settings.model_fields.items():
        header = f"[[{section}]]" if section in {"destination", "schedule"} else f"[{section}]"
        for model in models_in(field.annotation):
            kind = model.model_fields.get("type")
            start = f'{header}\ntype = "{get_args(kind.annotation)[0]}"\n' if kind is not None else f"{header}\n"
            for key in model.model_fields:
                yield (start if key != "type" else f"{header}\n"), key


def problems(text: str) -> list[Any]:
    document = parse(text, name="exportd.toml")
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(document.data)
    return problems_of(caught.value, document=document, model=Settings)


@pytest.mark.parametrize("value", WRONG_VALUES)
@pytest.mark.parametrize(("start", "key"), list(sections()))
def test_no_sentence_speaks_the_librarys_language(start: str, key: str, value: str) -> None:
    found = problems(f"{start}{key} = {value}\nunknown = 1\n")
    for problem in found:
        assert not JARGON.search(problem.sentence), problem
        assert problem.where.startswith("exportd.toml")


@pytest.mark.parametrize("value", WRONG_VALUES)
@pytest.mark.parametrize("section", list(Settings.model_fields))
def test_no_sentence_about_a_section_speaks_the_librarys_language(section: str, value: str) -> None:
    for problem in problems(f"{section} = {value}\nunknown = 1\n"):
        assert not JARGON.search(problem.sentence), problem


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[limits]\njobs = 0", "exportd.toml:2: limits.jobs: should be at least 1, but is the number 0"),
        ("[limits]\njobs = 65", "exportd.toml:2: limits.jobs: should be at most 64, but is the number 65"),
        (
            "[limits]\njobs = 1.5",
            "exportd.toml:2: limits.jobs: should be a whole number, but is the number 1.5",
        ),
        ('[limits]\njobs = "2"', 'exportd.toml:2: limits.jobs: should be a whole number, but is "2"'),
        ("[limits]\njbos = 1", "exportd.toml:2: limits: unknown key jbos; did you mean jobs?"),
        ("[limits]\nlevel = 1", "exportd.toml:2: limits: unknown key level; level belongs in log"),
        ("[limit]\njobs = 1", "exportd.toml:1: unknown key limit; did you mean limits?"),
        ("jobs = 1", "exportd.toml:1: unknown key jobs; jobs belongs in limits"),
        (
            '[log]\n"odd key" = 1',
            'exportd.toml:2: log: unknown key "odd key"; the keys here are level, format',
        ),
        (
            '[log]\nlevel = "inf"',
            'exportd.toml:2: log.level: should be one of debug, info, warning, error, but is "inf"; '
            'did you mean "info"?',
        ),
        (
            "[[limits]]",
            "exportd.toml:1: limits: should be a table (write [limits] with single brackets), but is a list",
        ),
        (
            "[schedule]\ncode = 1",
            "exportd.toml:1: schedule: should be a list of tables (write [[schedule]] with double brackets), "
            "but is a table",
        ),
        (
            '[[destination]]\ntype = "S4"',
            'exportd.toml:2: destination[0].type: should be one of DIRECTORY, S3, GCS, but is "S4"',
        ),
        (
            '[[destination]]\ntype = "S3"\nbuket = "lake"',
            "exportd.toml:3: destination[0]: unknown key buket; did you mean bucket?",
        ),
        ('[[destination]]\ntype = "GCS"', "exportd.toml:1: destination[0].bucket: is missing: The bucket."),
        (
            '[[destination]]\ntype = "S3"\nbucket = "s3://lake"',
            "exportd.toml:3: destination[0].bucket: should be the name of a bucket alone, without s3:// or gs://: 3 to "
            "63 lower-case letters, digits, dots and hyphens",
        ),
        (
            '[[destination]]\ntype = "S3"\nrole_arn = "exports"',
            "exportd.toml:3: destination[0].role_arn: should be the ARN of a role, such as "
            "arn:aws:iam::123456789012:role/exports",
        ),
        (
            '[s3]\nendpoint = "s3.example.com"',
            'exportd.toml:2: s3.endpoint: should be an address without a path, such as "https://s3.example.com:9000"',
        ),
        (
            '[[schedule]]\ndestinations = "lake"',
            'exportd.toml:2: schedule[0].destinations: should be a list in brackets, such as ["lake"], but is "lake"',
        ),
        (
            "[[schedule]]\nentities = []",
            "exportd.toml:2: schedule[0].entities: should have at least one item, but is empty",
        ),
        (
            '[[schedule]]\nformat = "PARQUET"',
            'exportd.toml:2: schedule[0].format: should be one of CSV, JSONL, but is "PARQUET"',
        ),
        (
            "[spool]\nbudget = -1",
            "exportd.toml:2: spool.budget: should be more than zero bytes: write a number of bytes ",
        ),
        (
            '[catalog]\nfile = "~/entities.toml"',
            "exportd.toml:2: catalog.file: should be a whole path: ~ is not expanded here",
        ),
        (
            '[[destination]]\nprefix = "../up"',
            "exportd.toml:2: destination[0].prefix: should be a plain relative path such as ",
        ),
        (
            "[[schedule]]\n",
            "exportd.toml:1: schedule[0].code: is missing: The name of the schedule, unique within ",
        ),
    ],
)
def test_says(text: str, said: str) -> None:
    assert any(str(problem).startswith(said) for problem in problems(text)), problems(text)


def test_a_dsn_is_not_repeated() -> None:
    found = problems('[database]\ndsn = "mysql://app:hunter2@db/x"\n')
    assert [str(problem) for problem in found] == [
        'exportd.toml:2: database.dsn: should be a URL such as "postgresql://exportd@db.example.com:5432/product"'
    ]
    assert "hunter2" not in str(problems("[database]\ndsn = ['hunter2']\n"))


def test_problems_come_in_the_order_of_the_lines() -> None:
    found = problems('[log]\nlevel = 1\nx = 1\n[limits]\njobs = "a"\n[database]\npool_size = "b"\ndsn = 1\n')
    lines = [int(problem.where.rpartition(":")[2]) for problem in found]
    assert lines == sorted(lines)
    assert len(lines) == 5


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "true"),
        ("a\x1b[31m", '"a\\x1b[31m"'),
        ("x" * 100, f'"{"x" * 59}…'),
        (10**30, "a huge number"),
        ({"a": 1}, "a table"),
    ],
)
def test_values_are_shown_short_and_printable(value: object, shown: str) -> None:
    assert describe(value) == shown


def test_a_secret_value_is_never_shown() -> None:
    assert "hunter2" not in describe("hunter2", key="password")
