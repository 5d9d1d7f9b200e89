"""The runbook as a page of the console, so that a failed job can lead to the part of it that helps.

Only links within the runbook are links on the page: the other documents are not served.
"""

import re
from html import escape
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

_PACKAGE = "exportd.console"


def load_runbook() -> str:
    """The runbook in HTML. It reads a file: not in an event loop."""
    installed = files(_PACKAGE) / "runbook.md"
    in_checkout = Path(__file__).parents[2] / "docs" / "runbook.md"
    return render_runbook((installed if installed.is_file() else in_checkout).read_text("utf-8"))


def render_runbook(markdown: str) -> str:
    """HTML of a document in Markdown; what would be markup in it is escaped. Headings have the anchors of forges."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("table_open", _wide_table)
    parser.add_render_rule("table_close", _end_of_wide_table)
    parser.add_render_rule("fence", _code)
    tokens = parser.parse(markdown)
    for opening, heading in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", anchor_of(heading.content))
    for token in tokens:
        token.children = None if token.children is None else _within_the_page(token.children)
    html: str = parser.renderer.render(tokens, parser.options, {})
    return html


def anchor_of(heading: str) -> str:
    """The anchor that forges give to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _within_the_page(tokens: list[Token]) -> list[Token]:
    """Without the marks of links that lead to other documents; their words stay."""
    kept, is_kept = [], True
    for token in tokens:
        if token.type == "link_open":
            is_kept = str(token.attrGet("href")).startswith("#")
        if is_kept or token.type not in ("link_open", "link_close"):
            kept.append(token)
    return kept


# What is wider than the window is scrolled by itself, with the keyboard too. The first argument is the renderer.


def _wide_table(*_: Any) -> str:
    return '<div class="wide" tabindex="0"><table>\n'


def _end_of_wide_table(*_: Any) -> str:
    return "</table></div>\n"


def _code(_: Any, tokens: list[Token], index: int, *__: Any) -> str:
    return f'<pre tabindex="0">{escape(tokens[index].content)}</pre>\n'
