import pytest
from hypothesis import given
from hypothesis import strategies as st

from exportd.catalog.expressions import functions_of, problems_of_expression, words_of


@pytest.mark.parametrize(
    "expression",
    [
        "name",
        "lower(name)",
        "price * quantity",
        "coalesce(a, b, 'x')",
        "CASE WHEN state = 'it''s (open' THEN 1 ELSE 2 END",
        "data ->> 'select'",
        "data #>> '{a,b}'",
        "name || ' -- not a comment /* nor this */ ;'",
        "tags[1]",
        "(a, b)",
        "E'tab\\t\\'quote'",
        "$$dollar ) text$$ || $tag$ $$ ; $tag$",
        '"select" || "xmin"',
        "created_at AT TIME ZONE 'UTC'",
        "extract(epoch FROM created_at)",
        "naïve_column + 1",
        "selected",
        "lower(values)",
        "a\n+ b",
    ],
)
def test_ordinary_expressions_are_let_through(expression: str) -> None:
    assert problems_of_expression(expression) == []


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "is empty"),
        ("  \n", "is empty"),
        ("a -- b", "holds a comment"),
        ("a /* b */", "holds a comment"),
        ("a; b", "has a ; outside of parentheses"),
        ("(a; b)", "has a ; outside of parentheses"),
        ("a, b", "has a , outside of parentheses"),
        ("a) + (b", "has a ) too many"),
        ("lower(a", "has an open ( that is not closed"),
        ("a[1", "has an open [ that is not closed"),
        ("(a]", "has a ] too many"),
        ("'abc", "has an open ' that is not closed"),
        ('"abc', 'has an open " that is not closed'),
        ("a + $1", "holds the parameter $1"),
        ("(SELECT 1)", "holds a sub-select (SELECT)"),
        ("exists(select from x)", "holds a sub-select (select)"),
        ("a IN (VALUES (1))", "holds a sub-select (VALUES)"),
        ("(TABLE x)", "holds a sub-select (TABLE)"),
        ("ctid::text", "uses the system column ctid"),
        ("XMIN", "uses the system column XMIN"),
        ("a\x00", "holds a NUL character"),
    ],
)
def test_what_is_not_one_expression_over_a_row_gets_a_sentence(expression: str, said: str) -> None:
    assert any(sentence.startswith(said) for sentence in problems_of_expression(expression))


def test_words_are_read_as_postgres_reads_them() -> None:
    assert words_of("Lower(\"Name\" || 'text') + price_2") == {"lower", "Name", "price_2"}


def test_functions_are_the_names_before_a_parenthesis() -> None:
    expression = 'lower(name) + "Odd" (1) + random () + (a) * b'
    assert functions_of(expression) == {"lower", "Odd", "random"}
    assert functions_of("'lower(x)' || a") == frozenset()
    assert functions_of("pg_catalog.upper(x)") == {"upper"}


@given(st.text(st.sampled_from("ab'\"$()[],;-/*\\E \n1"), max_size=25))
def test_an_expression_that_is_let_through_stays_inside_its_parentheses(expression: str) -> None:
    """The statement is ``SELECT (expression) FROM …``: outside of quotes each parenthesis must be its own."""
    if problems_of_expression(expression):
        return
    wrapped = problems_of_expression(f"({expression})")
    assert wrapped == []
    assert problems_of_expression(f"({expression}), 1") == ["has a , outside of parentheses; a field is one expression"]


@given(st.text())
def test_no_text_makes_the_reading_fail(expression: str) -> None:
    problems_of_expression(expression)
    words_of(expression)
    functions_of(expression)
