"""Checks a field's SQL expression as far as that is possible without the server. Pure.

An expression is put in parentheses into the statements that read a table, for live rows and for images of deleted ones.
So it must be one complete expression over the columns of its row.
"""

import re

_TOKEN = re.compile(
    r"""
      (?P<comment>--|/\*)
    | (?P<literal>[eE]'(?:[^'\\]|\\.|'')*' | [uU]&'(?:[^']|'')*' | [bBxXnN]?'(?:[^']|'')*')
    | (?P<dollar>\$(?P<tag>[^\W\d]\w*|)\$.*?\$(?P=tag)\$)
    | (?P<quoted>"(?:[^"]|"")+")
    | (?P<parameter>\$[0-9]+)
    | (?P<open>[(\[])
    | (?P<close>[)\]])
    | (?P<separator>[,;])
    | (?P<word>[^\W\d][\w$]*)
    | (?P<unfinished>['"])
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)

_SYSTEM_COLUMNS = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})
_SUBSELECTS = frozenset({"select", "with", "table"})


def problems_of_expression(expression: str) -> list[str]:
    """One sentence for each problem; empty when the expression may be sent to the server."""
    if not expression.strip():
        return ["is empty; write an SQL expression over the table's columns, or use column"]
    if "\x00" in expression:
        return ["holds a NUL character; remove it"]
    sentences = []
    open_brackets: list[str] = []
    for match in _TOKEN.finditer(expression):
        sentence = _problem_of_token(match, open_brackets)
        if sentence is not None and sentence not in sentences:
            sentences.append(sentence)
    if "values" in functions_of(expression):
        sentences.append("holds a sub-select (VALUES); it may use only the columns of its own row")
    if open_brackets:
        sentences.append(f"has an open {open_brackets[-1]} that is not closed")
    return sentences


def words_of(expression: str) -> frozenset[str]:
    """The names in an expression as Postgres reads them: bare ones in lower case, quoted ones as they are."""
    return frozenset(filter(None, map(_name_of, _TOKEN.finditer(expression))))


def functions_of(expression: str) -> frozenset[str]:
    """The names that are followed by a parenthesis."""
    functions = set()
    name = ""
    for match in _TOKEN.finditer(expression):
        if match["open"] == "(" and name:
            functions.add(name)
        if not (match["other"] or "").isspace():
            name = _name_of(match)
    return frozenset(functions)


def _name_of(token: re.Match[str]) -> str:
    """The name that a token is; empty for another one."""
    return token["quoted"][1:-1].replace('""', '"') if token["quoted"] else (token["word"] or "").lower()


def _problem_of_token(token: re.Match[str], open_brackets: list[str]) -> str | None:
    text = token[0]
    match token.lastgroup:
        case "comment":
            return "holds a comment; remove it"
        case "parameter":
            return f"holds the parameter {text}; it must be complete in itself"
        case "unfinished":
            return f"has an open {text} that is not closed"
        case "separator" if not open_brackets or text == ";":
            return f"has a {text} outside of parentheses; a field is one expression"
        case "word":
            return _problem_of_word(text)
        case _:
            return _problem_of_bracket(text, open_brackets)


def _problem_of_word(word: str) -> str | None:
    if word.lower() in _SYSTEM_COLUMNS:
        return f"uses the system column {word}, which an image of a deleted row does not have"
    if word.lower() in _SUBSELECTS:
        return f"holds a sub-select ({word}); it may use only the columns of its own row"
    return None


def _problem_of_bracket(text: str, open_brackets: list[str]) -> str | None:
    if text in {"(", "["}:
        open_brackets.append(text)
    elif text in {")", "]"} and (not open_brackets or open_brackets.pop() + text not in {"()", "[]"}):
        return f"has a {text} too many"
    return None
