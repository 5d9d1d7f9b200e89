import tomllib
from collections.abc import Iterator
from contextlib import suppress
from datetime import date

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exportd.settings.document import KeyPath, locate


def paths_of(value: object, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Every key path of what tomllib read: the truth about which paths there are."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths_of(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths_of(inner, (*path, index))


AWKWARD = '''\
# a comment with [header] and key = "value"
title = "x" # [not.a.table]
[database]   # a table
dsn = "postgresql://u@h/d#frag"
"quoted key" = 1
'literal.key' = 2
site."google.com".visits = 3
 spaced . dotted = 4

[[schedule]]
code = "a"
entities = [
  "ONE",   # "]" in a comment
  "TWO[",
  ["nested", ["deep"]],
  { inline = 1, more = { x = [1,
    2] } },
]
note = """
[schedule]
code = "not a key"
\\""" still inside
two quotes at the end"""""
after = 1

[[schedule]]
code = 'b'
raw = \'\'\'
key = 1 \\\'\'\'
when = 1979-05-27 07:32:00
float = 1e-3
  [schedule.extra]
  depth = { a.b = 1, "c d" = '}' }
  [[schedule.extra.item]]
  name = "first"
  [[schedule.extra.item]]
  name = "second"
  [schedule.extra.item.detail]
  key = "value"

["quoted \\u00e9 table".'lit"eral']
empty = ""
empties = [ ]
nothing = {}
[late.child]
x = 1
[late]
y = 2
'''


def line_with(text: str, marker: str) -> int:
    [line] = [number for number, line in enumerate(text.splitlines(), start=1) if marker in line]
    return line


def test_finds_every_path_of_an_awkward_document_and_no_other() -> None:
    assert set(locate(AWKWARD).by_path) == set(paths_of(tomllib.loads(AWKWARD)))


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 2),
        (("database",), 3),
        (("database", "quoted key"), 5),
        (("database", "site", "google.com", "visits"), 7),
        (("database", "spaced", "dotted"), 8),
        (("schedule",), 10),
        (("schedule", 0, "entities"), 12),
        (("schedule", 0, "entities", 0), 13),
        (("schedule", 0, "entities", 2, 1, 0), 15),
        (("schedule", 0, "entities", 3, "more", "x", 1), 17),
        (("schedule", 0, "note"), 19),
        (("schedule", 0, "after"), 24),
        (("schedule", 1), 26),
        (("schedule", 1, "extra", "depth", "c d"), line_with(AWKWARD, "depth =")),
        (("schedule", 1, "extra", "item", 0, "name"), line_with(AWKWARD, '"first"')),
        (("schedule", 1, "extra", "item", 1, "name"), line_with(AWKWARD, '"second"')),
        (("late",), line_with(AWKWARD, "[late]")),
        (("late", "child"), line_with(AWKWARD, "[late.child]")),
    ],
)
def test_knows_the_line_of(path: KeyPath, line: int) -> None:
    assert locate(AWKWARD).of(path) == line


def test_a_key_that_is_missing_is_where_its_table_begins() -> None:
    lines = locate("[a]\nx = 1\n[[b]]\n[[b]]\ny = 1\n")
    assert lines.of(("a", "missing")) == 1
    assert lines.of(("b", 1, "missing", "deeper")) == 4
    assert lines.of(("missing",)) is None
    assert lines.of(()) is None


def test_lines_are_the_same_with_windows_line_ends() -> None:
    assert locate(AWKWARD.replace("\n", "\r\n")).by_path == locate(AWKWARD).by_path


@example("a=[}")
@given(st.text(st.sampled_from("ab[]{}=.,#\"'\\\n 1"), max_size=30))
def test_a_text_that_is_not_toml_ends_in_an_error_or_an_answer_never_in_a_loop(text: str) -> None:
    with suppress(ValueError):
        locate(text)


# Documents are generated with a marker in each key, and values that look like TOML; where the marker stands
# is the truth.

bare_texts = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=8)
texts = st.one_of(bare_texts, st.sampled_from(["[x]", "k = 1", "#", "]", "}", '"', "'", "\\", '"""', "'''", "é\n[y]"]))


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def multi_line(text: str) -> str:
    return '"""\n' + text.replace("\\", "\\\\").replace('"', '\\"') + '\n"""'


def literal(text: str) -> str:
    return quoted(text) if "'" in text or "\n" in text else f"'{text}'"


def multi_line_literal(text: str) -> str:
    return multi_line(text) if "'" in text else f"'''\n{text}'''"


strings = st.builds(
    lambda text, style: style(text), texts, st.sampled_from([quoted, multi_line, literal, multi_line_literal])
)
scalars = st.one_of(
    strings,
    st.integers(-5, 5).map(str),
    st.booleans().map(lambda value: str(value).lower()),
    st.just("1.5e3"),
    st.dates(min_value=date(1900, 1, 1)).map(lambda day: f"{day.isoformat()} 10:00:00"),
)
separators = st.sampled_from([", ", ",\n  ", ", # ] } [\n", "\n,\n"])
values = st.recursive(
    scalars,
    lambda inner: st.builds(
        lambda items, separator: f"[{separator.join(items)}]", st.lists(inner, max_size=3), separators
    ),
    max_leaves=6,
)


@st.composite
def documents(draw: st.DrawFn) -> str:
    text = ""
    markers = iter(range(10_000))

    def key() -> str:
        name = f"k{next(markers)}"
        style = draw(st.sampled_from(["bare", "quoted", "literal"]))
        return {"bare": name, "quoted": f'"{name}"', "literal": f"'{name}'"}[style]

    def pairs() -> str:
        lines = ""
        for _ in range(draw(st.integers(0, 3))):
            dotted = " . ".join(key() for _ in range(draw(st.integers(1, 3))))
            value = draw(values)
            if draw(st.booleans()) and "\n" not in value:
                value = f"{{ {key()} = {value}, {key()} = 1 }}"
            lines += f"{draw(st.sampled_from(['', '  ']))}{dotted} = {value}  # {draw(st.just('x = [1'))}\n"
        return lines

    text += pairs()
    for _ in range(draw(st.integers(0, 4))):
        text += f"[ {key()} . {key()} ]\n" if draw(st.booleans()) else f"[{key()}]\n"
        text += pairs()
    for _ in range(draw(st.integers(0, 2))):
        array = f"array{next(markers)}"
        for _ in range(draw(st.integers(1, 3))):
            text += f"[[{array}]] # {array}\n" + pairs()
            if draw(st.booleans()):
                text += f"[{array}.{key()}]\n" + pairs()
    return text


@given(documents())
def test_every_key_is_found_on_the_line_where_it_stands(text: str) -> None:
    data = tomllib.loads(text)
    lines = locate(text)
    assert set(lines.by_path) == set(paths_of(data))
    physical = text.split("\n")
    for path, line in lines.by_path.items():
        name = path[-1]
        if isinstance(name, str) and name.startswith("k"):
            assert name in physical[line - 1]


@given(documents(), st.sampled_from(["\n", "\r\n"]))
def test_leading_lines_shift_every_line(text: str, line_end: str) -> None:
    shifted = locate(f"# one{line_end}{line_end}" + text)
    assert shifted.by_path == {path: line + 2 for path, line in locate(text).by_path.items()}
