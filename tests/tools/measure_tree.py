"""Measures the shape of our tree and prints it as a table: ``python -m tests.tools.measure_tree [CHECKOUT]``.

CHECKOUT is the folder of another checkout, to compare with; by default it is this one. What is counted, and how:

- A module is a Python file below ``exportd``; its length is its number of lines, empty ones and comments included.
- A function is a ``def`` that is not inside of another function; its length runs from ``def`` to its last line.
- A percentile is the value at that share of the sorted list.
- A circle is a group of modules that import each other, directly or through others, wherever the import stands.
- A loop is a ``for`` statement or the ``for`` of a comprehension.
- A journey is a list of files that a reader opens (see ``journeys``).

``tests/test_measures.py`` holds the limits.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from statistics import median

CHECKOUT = Path(__file__).parents[2]

ROOT_MODULES = frozenset({"__init__", "__main__", "pipeline"})
"""What may stand at the root of the package."""

LONG_FUNCTION_LINES = 60

SUPERLATIVES = ("MOST", "LONGEST", "LEAST", "LARGEST", "SHORTEST", "SMALLEST", "FEWEST", "BIGGEST", "HIGHEST", "LOWEST")
"""How a limit is not called: it is MAX_ or MIN_."""

VAGUE_SUBJECTS = ("nobody", "somebody", "whoever", "anybody")
"""Who does something has a name: the client, the dispatcher, the operator."""

_SUPERLATIVE = re.compile(rf"_*(?:{'|'.join(SUPERLATIVES)})_[A-Z0-9_]+")
_VAGUE_SUBJECT = re.compile(rf"(?<![A-Za-z])(?:{'|'.join(VAGUE_SUBJECTS)})(?![A-Za-z])", re.IGNORECASE)
_ACCOUNT = re.compile(r"`nobody`|\"nobody\"")  # the Unix account, which is a name
_PROSE_ENDINGS = {
    ".py",
    ".sql",
    ".md",
    ".toml",
    ".json",
    ".yml",
    ".yaml",
    ".service",
    ".conf",
    ".socket",
    ".html",
    ".js",
}


@dataclass(frozen=True)
class Source:
    """A Python file: its path below the folder that was read, and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node of the tree."""
        return tuple(ast.walk(self.tree))

    @property
    def length(self) -> int:
        """Its number of lines."""
        return len(self.text.splitlines())

    @property
    def name(self) -> str:
        """The dotted name of the module, when its path begins at the checkout."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@cache
def read_sources(checkout: Path, folder: str) -> tuple[Source, ...]:
    """The Python files below a folder of a checkout, sorted, read once; their paths begin at the checkout."""
    return tuple(
        Source(path.relative_to(checkout).as_posix(), path.read_text(encoding="utf-8"))
        for path in sorted((checkout / folder).rglob("*.py"))
    )


def read_prose(checkout: Path) -> dict[str, str]:
    """The text of the product and of its documentation, by path: everything that a user can read.

    Without migrations: those that were released are never edited, so neither are their comments.
    """
    folders = [checkout / name for name in ("exportd", "docs", "config", "systemd")]
    paths = [
        path
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.suffix in _PROSE_ENDINGS and path.parent.name != "migrations"
    ]
    paths += sorted(checkout.glob("*.md"))
    return {path.relative_to(checkout).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def percentile(values: Iterable[int], share: float) -> int:
    """The value at a share of the sorted values; 0 when there are none."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0


def function_lengths(sources: Iterable[Source]) -> dict[str, int]:
    """The lines of each function, by ``path:line name``."""
    return {
        f"{source.path}:{function.lineno} {function.name}": (function.end_lineno or function.lineno)
        - function.lineno
        + 1
        for source in sources
        for function in _functions(source.tree)
    }


def _functions(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
        else:
            yield from _functions(child)


def imports(sources: Sequence[Source]) -> dict[str, set[str]]:
    """Which of the modules each of them imports, by dotted name."""
    names = {source.name for source in sources}
    found: dict[str, set[str]] = {}
    for source in sources:
        wanted: set[str] = set()
        for node in source.nodes:
            if isinstance(node, ast.Import):
                wanted.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                # ``from package import module`` imports the module; that its package is loaded too is no dependency.
                wanted |= inner & names or {node.module}
        found[source.name] = (wanted & names) - {source.name}
    return found


def circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import each other, each sorted."""
    reached = {name: _reachable(arrows, name) for name in arrows}
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached.get(other, ())))
        for name in arrows
        if name in reached[name]
    }
    return sorted(map(list, groups))


def _reachable(arrows: Mapping[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = list(arrows[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += arrows.get(name, ())
    return found


def public_classes(sources: Iterable[Source]) -> dict[str, list[str]]:
    """The modules that define a public class at their top level, by the name of the class."""
    found: dict[str, list[str]] = defaultdict(list)
    for source in sources:
        for node in source.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(source.path)
    return dict(found)


def repeated_classes(sources: Iterable[Source]) -> dict[str, list[str]]:
    """The public classes of one name in several modules."""
    return {name: paths for name, paths in public_classes(sources).items() if len(paths) > 1}


def loop_variables(sources: Iterable[Source]) -> list[tuple[str, set[str]]]:
    """Each loop, as ``path:line``, and the names that it binds."""
    return [
        (
            f"{source.path}:{node.target.lineno}",
            {name.id for name in ast.walk(node.target) if isinstance(name, ast.Name)},
        )
        for source in sources
        for node in source.nodes
        if isinstance(node, ast.For | ast.AsyncFor | ast.comprehension)
    ]


def loops_over_each(sources: Iterable[Source]) -> list[str]:
    """Where a loop's variable is called ``each``."""
    return [place for place, names in loop_variables(sources) if "each" in names]


def superlative_constants(sources: Iterable[Source]) -> list[str]:
    """Where a constant is called MOST_…, LONGEST_… and the like, as ``path:line NAME``."""
    return [
        f"{source.path}:{node.lineno} {node.id}"
        for source in sources
        for node in source.nodes
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and _SUPERLATIVE.fullmatch(node.id)
    ]


def vague_subjects(prose: Mapping[str, str]) -> list[str]:
    """Where the text says nobody, somebody, whoever or anybody, as ``path:line word``."""
    return [
        f"{path}:{number} {match[0]}"
        for path, text in prose.items()
        for number, line in enumerate(text.splitlines(), 1)
        for match in _VAGUE_SUBJECT.finditer(_ACCOUNT.sub("", line))
    ]


def loose_modules(sources: Iterable[Source]) -> list[str]:
    """The modules at the root of the package that belong into a room."""
    return [
        source.path for source in sources if source.path.count("/") == 1 and Path(source.path).stem not in ROOT_MODULES
    ]


def table(checkout: Path) -> list[tuple[str, str]]:
    """The measures of a checkout, each with its name."""
    code = read_sources(checkout, "exportd")
    tests = read_sources(checkout, "tests")
    lines = [source.length for source in code]
    functions = function_lengths(code).values()
    long = sum(length > LONG_FUNCTION_LINES for length in functions)
    loops, loops_in_tests = loop_variables(code), loop_variables(tests)
    return [
        ("modules / lines", f"{len(code)} / {sum(lines):,}"),
        (
            "mean / median / p90 / max lines",
            f"{sum(lines) / len(lines):.0f} / {median(lines):.0f} / {percentile(lines, 0.9)} / {max(lines)}",
        ),
        (
            f"function p99 lines; functions > {LONG_FUNCTION_LINES} lines",
            f"{percentile(functions, 0.99)}; {long} of {len(functions)}",
        ),
        ("import circles", str(len(circles(imports(code))))),
        ("public class names that repeat", f"{len(repeated_classes(code))} of {len(public_classes(code))}"),
        ("loops whose variable is `each`", _share(len(loops_over_each(code)), len(loops))),
        ("the same in the tests", _share(len(loops_over_each(tests)), len(loops_in_tests))),
        ("MOST_, LONGEST_ and such constants", str(len(superlative_constants(code)))),
        (", ".join(VAGUE_SUBJECTS), str(len(vague_subjects(read_prose(checkout))))),
        ("modules at the root beside pipeline.py", str(len(loose_modules(code)))),
        ("tests ÷ code", f"{sum(source.length for source in tests) / sum(lines):.2f}"),
    ]


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / max(whole, 1):.0%})"


def main(arguments: Sequence[str]) -> None:
    """Print the tables."""
    rows = table(Path(arguments[0]) if arguments else CHECKOUT)
    width = max(len(name) for name, _ in rows)
    sys.stdout.write("".join(f"{name:{width}}  {value}\n" for name, value in rows))


if __name__ == "__main__":
    main(sys.argv[1:])
