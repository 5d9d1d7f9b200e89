"""The runbook as a page: its parts can be reached, and nothing in it leads to what is not served."""

import re

from exportd.console.rendering import WHAT_TO_DO, load_runbook, render_runbook


def test_every_part_that_an_advice_names_can_be_reached() -> None:
    anchors = set(re.findall(r' id="([^"]+)"', load_runbook()))
    assert {advice.section for advice in WHAT_TO_DO.values() if advice.section} <= anchors


def test_links_lead_to_parts_of_the_page_and_nowhere_else() -> None:
    page = load_runbook()
    anchors = set(re.findall(r' id="([^"]+)"', page))
    links = re.findall(r'href="([^"]*)"', page)
    assert links
    assert set(links) <= {f"#{anchor}" for anchor in anchors}


def test_the_words_of_a_link_to_another_document_stay() -> None:
    assert render_runbook("See [the *manual*](manual.md), [below](#b).") == (
        '<p>See the <em>manual</em>, <a href="#b">below</a>.</p>\n'
    )


def test_what_would_be_markup_is_text() -> None:
    page = render_runbook("# <b>\n\n<script>x</script>\n\n```html\n<i>\n```\n\n[y](javascript:alert(1))")
    assert not re.search(r"<(b|script|i)\b", page)
    assert "&lt;script&gt;" in page
    assert "href" not in page


def test_tables_and_code_that_are_too_wide_can_be_scrolled_with_the_keyboard() -> None:
    page = render_runbook("| a |\n|---|\n| b |\n\n```\ncode\n```\n")
    assert '<div class="wide" tabindex="0"><table>' in page
    assert '</table></div>\n<pre tabindex="0">code\n</pre>' in page
