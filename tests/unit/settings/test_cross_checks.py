"""The real limits of schedules, as a person meets them in the configuration file."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from exportd.catalog import document
from exportd.model.errors import SettingsError
from exportd.schedules.calendar import check_rule
from exportd.settings.loader import declarations, load, load_all

ROOT = Path(__file__).parents[3]
DSN = {"EXPORTD_DATABASE_DSN": "postgresql://exportd@db/product"}


def problems(tmp_path: Path, rule: str) -> list[str]:
    config = tmp_path / "exportd.toml"
    config.write_text(f'[[schedule]]\ncode = "a"\norganization = "o"\nentities = "ALL"\n{rule}\n')
    with pytest.raises(SettingsError) as caught:
        load(config, check_rule=check_rule, environment=DSN)
    return [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("rule", "place"),
    [
        ('unit = "MINUTE"\nperiod = 14', "exportd.toml:6: schedule[0].period: "),
        ('unit = "DAY"\nperiod = 4', "exportd.toml:6: schedule[0].period: "),
        ('unit = "HOUR"\nperiod = 0', "exportd.toml:6: schedule[0].period: "),
        ('unit = "HOUR"\nperiod = -1', "exportd.toml:6: schedule[0].period: "),
        ('unit = "MINUTE"\nperiod = 15\noffset = 5', "exportd.toml:7: schedule[0].offset: "),
        ('unit = "HOUR"\nperiod = 1\noffset = 60', "exportd.toml:7: schedule[0].offset: "),
        ('unit = "DAY"\nperiod = 1\noffset = 0', "exportd.toml:7: schedule[0].offset: "),
        ('cron = "0 0 1 * *"', "exportd.toml:5: schedule[0].cron: "),
        ('cron = "0 0 0 * * *"', "exportd.toml:5: schedule[0].cron: "),
        ('cron = "*/10 * * * *"', "exportd.toml:5: schedule[0].cron: "),
        ('cron = "@daily"', "exportd.toml:5: schedule[0].cron: "),
        ('cron = ""', "exportd.toml:5: schedule[0].cron: "),
    ],
)
def test_a_rule_outside_the_limits_has_one_sentence_at_its_key(tmp_path: Path, rule: str, place: str) -> None:
    [problem] = problems(tmp_path, rule)
    assert problem.startswith(place)
    assert len(problem) > len(place) + 20


def test_a_wrong_period_and_a_wrong_offset_have_a_sentence_each(tmp_path: Path) -> None:
    period, offset = problems(tmp_path, 'unit = "MINUTE"\nperiod = 14\noffset = 5')
    assert "schedule[0].period" in period
    assert "schedule[0].offset" in offset


@pytest.mark.parametrize("given", ["", 'listen = "127.0.0.1:8443"\n', 'tls_certificate = "a"\ntls_key = "b"\n'])
def test_there_is_no_sign_in_over_tcp_without_tls(tmp_path: Path, given: str) -> None:
    [problem] = problems(tmp_path, f'cron = "0 * * * *"\n[control]\n{given}console = true')
    line = 7 + given.count("\n")
    assert problem.startswith(f"exportd.toml:{line}: control.console: without TLS there is no sign-in over TCP")


PROXY = 'proxy_header = "X-User"\nproxy_user = "p"\n'
PERSON = '[[control.user]]\nname = "ann"\nrole = "admin"\norganization = "ALL"\n'


@pytest.mark.parametrize(
    ("given", "line", "sentence"),
    [
        ('proxy_header = "X-User"\n', 7, "control.proxy_header: is believed from one user of this machine alone"),
        ('proxy_user = "proxy"\n', 7, "control.proxy_user: does nothing without proxy_header"),
        (PERSON, 7, "control.user: does nothing without proxy_header"),
        ('proxy_header = "Cookie"\nproxy_user = "proxy"\n', 7, "control.proxy_header: means something else"),
        ('proxy_header = "X_User"\nproxy_user = "proxy"\n', 7, "control.proxy_header: should be the name of a header"),
        (
            f'proxy_header = "X-User"\nproxy_user = "p"\n{PERSON}{PERSON}',
            14,
            "control.user[1].name: ann is named twice",
        ),
        (
            f'proxy_header = "X-User"\nproxy_user = "p"\n{PERSON}'.replace("ALL", "acme"),
            11,
            "control.user[0].role: an admin sees every organization",
        ),
        (
            f'proxy_header = "X-User"\nproxy_user = "p"\n{PERSON}'.replace("admin", "root"),
            11,
            "control.user[0].role: should be one of",
        ),
    ],
)
def test_a_proxy_that_is_half_configured_is_refused_by_name_and_line(
    tmp_path: Path, given: str, line: int, sentence: str
) -> None:
    [problem] = problems(tmp_path, f'cron = "0 * * * *"\n[control]\n{given}')
    assert problem.startswith(f"exportd.toml:{line}: {sentence}")


def samples() -> Iterator[tuple[str, str]]:
    """The configurations that pages show."""
    for page in sorted((ROOT / "docs").glob("*.md")):
        for sample in re.findall(r"^ *```toml\n(.*?)^ *```$", page.read_text(), re.MULTILINE | re.DOTALL):
            if "[[entity]]" not in sample:
                yield page.name, sample


@pytest.mark.parametrize(("page", "sample"), list(samples()))
def test_a_configuration_that_a_page_shows_is_read(page: str, sample: str, tmp_path: Path) -> None:
    """As far as it goes: files that it names are not there."""
    config = tmp_path / "exportd.toml"
    config.write_text(sample)
    try:
        load(config, check_rule=check_rule, environment=DSN)
    except SettingsError as error:
        assert {re.sub(r".*/", "", str(problem)) for problem in error.problems} == set()


def test_the_pages_show_configurations() -> None:
    assert {"destinations.md", "containers.md", "metrics.md"} <= {page for page, _ in samples()}


def test_the_example_is_good_with_the_catalog_beside_it() -> None:
    settings, catalog = load_all(
        ROOT / "config/exportd.toml", check_rule=check_rule, load_catalog=document.load, environment=DSN
    )
    nightly, often = declarations(settings, catalog)
    assert nightly.entities == tuple(catalog.entities)
    assert len(nightly.entities) == 20
    assert often.entities == ("ACCOUNTS", "BILLS")
