"""Tables at the width of a terminal."""

from uuid import UUID

import pytest

from exportd.cli.output import column_widths, fitted, print_table, shortened

COLUMNS = ["JOB", "SCHEDULE", "ORGANIZATION", "DUE", "STATE", "ROWS", "DELETED", "FILES", "SIZE", "REASON"]
ORGANIZATIONS = ("6e1f3a44-9d0e-4f2e-8d4e-0123456789ab", "6e1f3a44-9d0e-4f2e-8d4e-0123456789ac")


def jobs(*organizations: str) -> list[list[str]]:
    return [
        [
            *(str(UUID(int=(number + 1) << 96 | 7)), "everything", organization, "2026-11-28 20:15:00Z", "SUCCEEDED"),
            *("123456", "12", "20", "45.6 MB", "DESTINATION_REFUSED" if number else ""),
        ]
        for number, organization in enumerate(organizations)
    ]


def test_nothing_of_a_list_of_jobs_is_folded_at_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, jobs(*[ORGANIZATIONS[0]] * 3), width=80)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["JOB", "SCHEDULE", "DUE", "STATE", "ROWS", "REASON"]
    assert [line.split()[0] for line in lines[1:]] == ["00000001", "00000002", "00000003"]


def test_a_wide_terminal_shows_everything_but_the_one_organization() -> None:
    names, rows = fitted(COLUMNS, jobs(ORGANIZATIONS[0], ORGANIZATIONS[0]), width=200)
    assert names == [name for name in COLUMNS if name != "ORGANIZATION"]
    assert [len(row[0]) for row in rows] == [36, 36]
    names, rows = fitted(COLUMNS, jobs(*ORGANIZATIONS), width=200)
    assert (names, rows) == (COLUMNS, jobs(*ORGANIZATIONS))


def test_what_reads_a_pipe_gets_everything(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, jobs(ORGANIZATIONS[0]))
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == COLUMNS
    assert ORGANIZATIONS[0] in row


def test_shortened_ids_stay_different() -> None:
    ids = ["0123456789-a", "0123456789-b", "fedcba987654"]
    assert shortened(ids) == {text: text for text in ids}
    assert shortened(["0123456789-a", "0123abcdef-a"]) == {"0123456789-a": "01234567", "0123abcdef-a": "0123abcd"}
    assert shortened([]) == {}


def test_an_empty_table_is_its_header() -> None:
    assert fitted(COLUMNS, [], width=80)[1] == []


def test_organizations_that_are_uuids_are_shortened_rather_than_folded() -> None:
    ids = [str(UUID(int=number << 96)) for number in (7, 8)]
    rows = [["lake-of-the-warehouse", organization, "healthy", "2026-11-29 14:23:46Z"] for organization in ids]
    names = ["DESTINATION", "ORGANIZATION", "HEALTH", "LAST SUCCESS"]
    assert [row[1] for row in fitted(names, rows, width=80)[1]] == ["00000007", "00000008"]
    assert [row[1] for row in fitted(names, rows, width=120)[1]] == ids
    named = [[*row[:1], "acme & sons " * 4, *row[2:]] for row in rows]
    assert fitted(["DESTINATION", "CODE", "HEALTH", "LAST SUCCESS"], named, width=80)[1] == named


def test_a_cell_is_folded_between_words_and_a_path_anywhere() -> None:
    cells = [["everything", "two words", "/a/very/long/path/of/a/directory"]]
    assert column_widths(["CODE", "WORDS", "PLACE"], cells, 60) == [10, 9, 32]
    assert column_widths(["CODE", "WORDS", "PLACE"], cells, 40) == [10, 9, 21]
    assert column_widths(["CODE", "WORDS", "PLACE"], cells, 31) == [10, 5, 16]
    assert column_widths(["CODE", "WORDS", "PLACE"], cells, 30) == [None, None, None]
