"""Draws docs/run.svg, the README's picture: the output of a real run of the demo.

    .venv/bin/python -m tests.tools.draw_run

Lines are shown as they were printed. What is left out or cut is marked by an ellipsis.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

PICTURE = Path(__file__).parents[2] / "docs" / "run.svg"

MAX_COLUMNS = 108
MAX_LINES_OF_A_CHAPTER = 5
_FONT_SIZE, _LINE_HEIGHT, _CHARACTER_WIDTH, _MARGIN = 13, 18, 7.83, 18
_BACKGROUND, _TEXT, _TITLE, _GOOD = "#0d1117", "#c9d1d9", "#79c0ff", "#7ee787"


def chapters(output: str) -> Iterator[list[str]]:
    """The paragraphs of the output, each with its title first."""
    for is_blank, lines in groupby(output.splitlines(), key=lambda line: not line.strip()):
        if not is_blank:
            yield list(lines)


def shortened(chapter: Sequence[str]) -> list[str]:
    """The chapter with its middle left out when it is long, and long lines cut."""
    lines = list(chapter)
    if len(lines) > MAX_LINES_OF_A_CHAPTER:
        lines = [*lines[: MAX_LINES_OF_A_CHAPTER - 1], "  …", lines[-1]]
    return [line if len(line) <= MAX_COLUMNS else f"{line[: MAX_COLUMNS - 1]}…" for line in lines]


def draw(command: str, output: str) -> str:
    """The picture as SVG."""
    lines: list[tuple[str, str]] = [(f"$ {command}", _GOOD)]
    for chapter in chapters(output):
        title, *rest = shortened(chapter)
        lines += [("", _TEXT), (title, _TITLE), *((line, _GOOD if "EQUAL" in line else _TEXT) for line in rest)]
    width = round(MAX_COLUMNS * _CHARACTER_WIDTH + 2 * _MARGIN)
    height = len(lines) * _LINE_HEIGHT + 2 * _MARGIN
    texts = "\n".join(
        f'<text x="{_MARGIN}" y="{_MARGIN + (number + 1) * _LINE_HEIGHT - 5}" fill="{color}">'
        f"{escape(line, quote=False)}</text>"
        for number, (line, color) in enumerate(lines)
        if line
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        f' font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="{_FONT_SIZE}"'
        ' xml:space="preserve">\n'
        "<!-- Made by `python -m tests.tools.draw_run` from the output of a real run. -->\n"
        f'<rect width="{width}" height="{height}" rx="8" fill="{_BACKGROUND}"/>\n{texts}\n</svg>\n'
    )


def main() -> None:
    """Run the demo as `make demo` does, and draw what it printed."""
    checkout = PICTURE.parents[1]
    command = [sys.executable, "-m", "exportd", "demo", "--dir", "demo-run", "--once"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=checkout).stdout
    PICTURE.write_text(draw("make demo", output.replace(f"{checkout}/", "")), encoding="utf-8")


if __name__ == "__main__":
    main()
