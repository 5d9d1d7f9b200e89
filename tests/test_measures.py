"""Holds the size and the words of the tree to limits; ``python -m tests.tools.measure_tree`` prints what they are.

The tests at the end show each measure a small sample.
"""

from statistics import median, median_low

import pytest

from tests.tools.count_journeys import files_naming_gcs, files_naming_limits, on_path
from tests.tools.measure_tree import (
    CHECKOUT,
    LONG_FUNCTION_LINES,
    Source,
    circles,
    function_lengths,
    imports,
    loops_over_each,
    loose_modules,
    percentile,
    public_classes,
    read_prose,
    read_sources,
    repeated_classes,
    superlative_constants,
    table,
    vague_subjects,
)

MAX_MODULES = 272
MIN_MEDIAN_LINES = 170
MAX_LINES = 450
MAX_LONG_FUNCTIONS = 1
MAX_CIRCLES = 0
MAX_LOOSE_MODULES = 0
MAX_REPEATED_CLASSES = 0
MAX_LOOPS_OVER_EACH = 0
MAX_LOOPS_OVER_EACH_IN_TESTS = 2
MAX_SUPERLATIVE_CONSTANTS = 0
MAX_VAGUE_SUBJECTS = 0
MAX_FILES_OF_A_KIND_OF_DESTINATION = 8
MAX_FILES_OF_A_LIMIT = 2
"""What the tree has reached. A limit is made stricter when it can be: 285 modules are wanted."""

CODE = read_sources(CHECKOUT, "exportd")
TESTS = read_sources(CHECKOUT, "tests") + read_sources(CHECKOUT, "benchmarks")


def test_there_are_not_more_modules() -> None:
    assert len(CODE) <= MAX_MODULES, "join modules that hold one thing"


def test_a_module_is_worth_opening() -> None:
    assert median(source.length for source in CODE) >= MIN_MEDIAN_LINES, "join modules that hold one thing"


def test_no_module_is_too_long() -> None:
    assert not [source.path for source in CODE if source.length > MAX_LINES]


def test_no_function_is_too_long() -> None:
    long = [place for place, length in function_lengths(CODE).items() if length > LONG_FUNCTION_LINES]
    assert len(long) <= MAX_LONG_FUNCTIONS, long


def test_modules_do_not_import_each_other() -> None:
    assert len(circles(imports(CODE))) <= MAX_CIRCLES, circles(imports(CODE))


def test_no_module_stands_outside_of_a_room() -> None:
    assert len(loose_modules(CODE)) <= MAX_LOOSE_MODULES, loose_modules(CODE)


def test_a_public_class_has_a_name_of_its_own() -> None:
    assert len(repeated_classes(CODE)) <= MAX_REPEATED_CLASSES, repeated_classes(CODE)


def test_a_loop_variable_names_the_thing() -> None:
    assert len(loops_over_each(CODE)) <= MAX_LOOPS_OVER_EACH, loops_over_each(CODE)
    assert len(loops_over_each(TESTS)) <= MAX_LOOPS_OVER_EACH_IN_TESTS, loops_over_each(TESTS)


def test_a_limit_is_called_max_or_min() -> None:
    found = superlative_constants([*CODE, *TESTS])
    assert len(found) <= MAX_SUPERLATIVE_CONSTANTS, found


def test_a_sentence_says_who_does_it() -> None:
    found = vague_subjects(read_prose(CHECKOUT))
    assert len(found) <= MAX_VAGUE_SUBJECTS, found


def test_a_new_kind_of_destination_is_told_to_few_files() -> None:
    assert len(files_naming_gcs(CODE)) <= MAX_FILES_OF_A_KIND_OF_DESTINATION, files_naming_gcs(CODE)


def test_a_new_limit_is_written_in_few_files() -> None:
    found = files_naming_limits(CODE)
    assert median_low(map(len, found.values())) <= MAX_FILES_OF_A_LIMIT, found


def test_what_is_measured_is_there() -> None:
    """A folder that was renamed would satisfy every limit."""
    assert len(CODE) > 100
    assert len(TESTS) > 100
    assert {"README.md", "docs/runbook.md", "exportd/pipeline.py"} <= set(read_prose(CHECKOUT))


def test_the_table_can_be_printed() -> None:
    assert ("import circles", str(len(circles(imports(CODE))))) in table(CHECKOUT)


# The measures, each on a small sample.


def _source(text: str, path: str = "exportd/jobs/queue.py") -> Source:
    return Source(path, text)


def test_a_length_counts_empty_lines_and_comments() -> None:
    assert _source("# why\n\nx = 1\n").length == 3


@pytest.mark.parametrize(
    ("values", "share", "expected"), [([], 0.9, 0), ([7], 0.9, 7), (range(1, 101), 0.9, 91), (range(10), 1.0, 9)]
)
def test_a_percentile(values: range | list[int], share: float, expected: int) -> None:
    assert percentile(values, share) == expected


def test_a_function_is_measured_with_what_is_in_it() -> None:
    text = "class A:\n    async def run(self):\n        def inner():\n            pass\n        return inner\n"
    assert function_lengths([_source(text)]) == {"exportd/jobs/queue.py:2 run": 4}


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ("from exportd.b import x", "from exportd.a import y", [["exportd.a", "exportd.b"]]),
        ("import exportd.b", "def late():\n    from exportd import a", [["exportd.a", "exportd.b"]]),
        ("from exportd import b", "import json", []),
    ],
)
def test_a_circle_is_seen(first: str, second: str, found: list[list[str]]) -> None:
    sources = [_source(first, "exportd/a.py"), _source(second, "exportd/b.py"), _source("", "exportd/__init__.py")]
    assert circles(imports(sources)) == found


def test_a_circle_through_others_is_seen_once() -> None:
    arrows = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d2"}, "d2": {"d3"}, "d3": {"d"}}
    assert circles(arrows) == [["b", "c"], ["d", "d2", "d3"]]


def test_a_name_in_two_modules_is_seen() -> None:
    one, two = _source("class Row: ...\nclass _Own: ..."), _source("class Row: ...\nclass _Own: ...", "exportd/b.py")
    assert public_classes([one]) == {"Row": [one.path]}
    assert repeated_classes([one, two]) == {"Row": [one.path, two.path]}
    assert not repeated_classes([one])


@pytest.mark.parametrize(
    "text", ["for each in x: ...", "y = [each for each in x]", "for key, each in x: ...", "y = {each: 1 for each in x}"]
)
def test_a_loop_over_each_is_seen(text: str) -> None:
    assert loops_over_each([_source(text)]) == ["exportd/jobs/queue.py:1"]


def test_other_loops_pass() -> None:
    assert not loops_over_each([_source("each = 1\nfor job in each: ...")])


@pytest.mark.parametrize("name", ["MOST_JOBS", "_LONGEST_NAME", "LEAST_BYTES", "_SMALLEST_PIECE_BYTES"])
def test_a_superlative_is_seen(name: str) -> None:
    path = "exportd/jobs/queue.py"
    assert superlative_constants([_source(f"{name} = 1")]) == [f"{path}:1 {name}"]
    assert superlative_constants([_source(f"class A:\n    {name}: int = 1")]) == [f"{path}:2 {name}"]


@pytest.mark.parametrize("text", ["MAX_JOBS = 1", "ALMOST_DONE = 1", "most_jobs = 1", "x = LONGEST_NAME"])
def test_other_names_pass(text: str) -> None:
    assert not superlative_constants([_source(text)])


@pytest.mark.parametrize(
    "text", ["Nobody waits", "nobody's", "told_to_nobody", "for whoever asks", "when *somebody* asks"]
)
def test_a_vague_subject_is_seen(text: str) -> None:
    assert len(vague_subjects({"README.md": f"first\n{text}"})) == 1


@pytest.mark.parametrize("text", ["as ``nobody``", 'NAME = "nobody"', "as `nobody` it runs", "everybody"])
def test_an_account_is_no_vague_subject(text: str) -> None:
    assert not vague_subjects({"README.md": text})


def test_a_module_at_the_root_is_seen() -> None:
    paths = ["exportd/pipeline.py", "exportd/__init__.py", "exportd/__main__.py", "exportd/jobs/queue.py"]
    assert not loose_modules(_source("", path) for path in paths)
    assert loose_modules([_source("", "exportd/cleaner.py")]) == ["exportd/cleaner.py"]


def test_a_journey_is_counted_by_the_files_that_do_something() -> None:
    calls = {
        "jobs/queue.py": {"Queue.__init__", "Queue.take"},
        "jobs/built.py": {"Built.__init__"},
        "daemon/garbage.py": {"adapt"},
        "daemon/reloader.py": {"Reloader.reload"},
        "model/job.py": {"Job.ended"},
        "pipeline.py": {"Pipeline.run"},
    }
    assert on_path(calls) == {
        "jobs/queue.py": {"Queue.take"},
        "daemon/reloader.py": {"Reloader.reload"},
        "pipeline.py": {"Pipeline.run"},
    }


def test_the_files_that_name_a_limit_are_found() -> None:
    schema = "class LimitSettings(Section):\n    jobs: int = 2\n    part_size: int = 1\n    apart_size: int = 2"
    sources = [
        _source(schema, "exportd/settings/schema.py"),
        _source("limits.part_size", "exportd/spool/part_content.py"),
        _source("part_sizes = 1"),
    ]
    assert files_naming_limits(sources) == {
        "part_size": ["exportd/settings/schema.py", "exportd/spool/part_content.py"],
        "apart_size": ["exportd/settings/schema.py"],
    }


def test_the_files_that_know_of_google_are_found() -> None:
    paths = ["exportd/stores/gcs/store.py", "exportd/stores/opener.py"]
    assert files_naming_gcs([_source("Gcs", path) for path in paths]) == ["exportd/stores/opener.py"]
