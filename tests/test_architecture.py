"""Holds the shape of the tree: who may import whom, which modules are pure, who quotes, what nothing is called.

The rules are functions of a module's syntax tree; the tests at the end show each rule a piece of code that breaks it.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "exportd"

LAYERS = (
    ("model",),
    ("settings",),
    ("telemetry",),
    ("database", "stores", "manifest"),
    ("catalog", "postgres"),
    ("capture", "spool", "destinations", "consumer"),
    ("jobs", "schedules"),
    ("extraction", "delivery"),
    ("pipeline",),
    ("fleet",),
    ("api",),
    ("console",),
    ("daemon",),
    ("demo",),
    ("cli",),
    ("__main__",),
)
"""From the ground up: a room (or module) may import those of earlier layers only, and itself."""

PURE_PACKAGES = (
    *("model", "settings", "database", "stores", "manifest", "catalog", "postgres", "capture", "spool"),
    *("destinations", "consumer", "jobs", "schedules", "extraction", "delivery"),
)
"""Where a module is pure unless its name says that it does something, or WORLDLY says so."""

DOER = re.compile(r".*(er|or)|(.*_)?(table|store|server|process)")

WORLDLY = {
    "catalog/document": "reads the catalog file",
    "destinations/open_destinations": "holds the open stores",
    "destinations/operations": "changes destinations in the database",
    "jobs/leases": "writes under leases and keeps them",
    "jobs/operations": "changes jobs in the database",
    "jobs/requests": "changes jobs in the database",
    "schedules/editing": "changes schedules in the database",
    "schedules/operations": "changes schedules in the database",
    "spool/retention": "removes what has been kept long enough",
    "database/locks": "takes locks",
    "database/unit_of_work": "is the way to the daemon's tables",
    "postgres/binaries": "looks for programs on this machine",
    "database/queries": "reads the shipped SQL files, once",
    "model/clock": "is the clock",
    "spool/folders": "makes and removes folders",
    "spool/part_files": "writes, follows and finds the files of parts",
    "spool/part_sequence": "writes parts, in a worker thread",
    "spool/spool": "is the spool",
    "stores/directory/files": "writes files",
    "stores/retrying": "waits between attempts",
    "stores/store": "is the contract of the stores, whose methods are asynchronous",
    "delivery/file_upload": "uploads a file",
    "delivery/job_delivery": "delivers a job",
    "delivery/tables": "reads and writes what Postgres keeps of deliveries",
}
"""Modules that touch the world although their names do not say so, each with its reason."""

CONTRACTS = {"exportd.model.clock", "exportd.stores.store"}
"""Worldly modules whose types a pure one may name."""

QUOTING = {
    "database/quoting": "the rules of Postgres",
    "consumer/loaders/dialect": "the rules of other databases, for scripts that we write and they run",
}
"""The modules that quote."""

COMMENTING = {
    "database/quoting": "writes the comments of SQL",
    "database/queries": "reads the comments of the shipped SQL files",
    "stores/gcs/answers": "separates the parts of a multipart body",
    "cli/completion": "knows the word behind which there are no options",
    "cli/console": "says to ssh where its options end",
}
"""The modules that may have the two hyphens that begin a comment."""

OTHER_SYNTAX = {
    "consumer/json_cells": "reads JSON and writes CSV",
    "catalog/names": "writes names as the catalog file has them",
    "settings/document": "writes TOML keys",
    "extraction/projection": "writes a CSV header",
}
"""Modules that quote in a syntax that is not SQL."""

WORLD_MODULES = {
    *("asyncio", "anyio", "asyncpg", "aiofiles", "uvloop", "stamina", "structlog", "logging", "threading", "queue"),
    *("os", "pwd", "socket", "subprocess", "shutil", "tempfile", "time", "random", "secrets", "signal", "fcntl"),
    *("glob", "importlib", "sys", "http", "urllib.request", "rich", "cyclopts"),
}
FILE_METHODS = {
    *("read_text", "read_bytes", "write_text", "write_bytes", "iterdir", "rglob", "unlink", "mkdir", "rmdir"),
    *("touch", "exists", "is_file", "is_dir", "stat", "chmod", "rename", "resolve", "expanduser"),
}
CLOCK_METHODS = {"now", "utcnow", "today"}

VAGUE_WORDS = {"util", "utils", "helper", "helpers", "manager", "managers", "common", "misc", "stuff"}


@dataclass(frozen=True)
class Module:
    """A module of exportd: its path below the package, without the ending, and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def unit(self) -> str:
        """The package or top-level module that it belongs to; empty for exportd itself."""
        return self.path.split("/")[0].removesuffix("__init__")

    @property
    def is_pure(self) -> bool:
        name = self.path.rpartition("/")[2]
        return self.unit in PURE_PACKAGES and not DOER.fullmatch(name) and self.path not in WORLDLY


MODULES = [
    Module(path.relative_to(PACKAGE).with_suffix("").as_posix(), path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
]


def imported_names(module: Module, *, for_types: bool = True) -> Iterator[str]:
    """The dotted names that it imports, wherever in the module; for ``from a import b`` both a and a.b."""
    skipped: set[ast.AST] = set()
    for node in ast.walk(module.tree):
        if node in skipped:
            continue
        if not for_types and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped.update(inner for statement in node.body for inner in ast.walk(statement))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def forbidden_imports(module: Module) -> list[str]:
    """What it imports of exportd from its own layer or from above."""
    if not module.unit:
        allowed: set[str] = set()
    else:
        layer = next((number for number, units in enumerate(LAYERS) if module.unit in units), None)
        if layer is None:
            return [f"{module.unit} has no place in LAYERS: give it one"]
        allowed = {unit for units in LAYERS[:layer] for unit in units} | {module.unit}
    problems = []
    for name in set(imported_names(module)):
        if name.startswith("."):
            problems.append(f"imports {name}: write the whole name")
        first, _, rest = name.partition(".")
        unit = rest.partition(".")[0]
        own = first == "exportd" and unit and not unit.startswith("__")
        if first == "tests" or (own and unit not in allowed):
            problems.append(f"imports {name}")
    return problems


def impurities(module: Module) -> list[str]:
    """What in it touches the world: an await, an import, a file, the clock."""
    problems = [
        f"imports {name}"
        for name in imported_names(module, for_types=False)
        if name in WORLD_MODULES or name.partition(".")[0] in WORLD_MODULES or name in _worldly_names()
    ]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith | ast.AsyncFunctionDef):
            problems.append(f"line {node.lineno}: is asynchronous")
        elif isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in {"open", "print", "input"}:
                problems.append(f"line {node.lineno}: calls {called.id}()")
            elif isinstance(called, ast.Attribute) and called.attr in FILE_METHODS | CLOCK_METHODS:
                problems.append(f"line {node.lineno}: calls .{called.attr}()")
    return problems


@cache
def _worldly_names() -> set[str]:
    names = {"exportd." + module.path.replace("/", ".") for module in MODULES if not module.is_pure}
    return names - CONTRACTS


def own_quoting(module: Module) -> list[str]:
    """Where it puts quotes around SQL itself: doubling them, or setting one beside a value in a statement."""
    return [
        f"line {getattr(node, 'lineno', 0)}: {ast.unparse(node)}"
        for node in ast.walk(module.tree)
        if _quotes_in_a_statement(node)
        or (module.path not in OTHER_SYNTAX and (_doubles_a_quote(node) or _adds_a_quote(node)))
    ]


def _doubles_a_quote(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "replace"
        and [_text(argument) for argument in node.args[:2]] in (["'", "''"], ['"', '""'])
    )


def _adds_a_quote(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Add)
        and any(_text(side) in {"'", '"'} for side in (node.left, node.right))
    )


_STATEMENT = re.compile(
    r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM|CREATE|ALTER|DROP|COPY|LOCK TABLE|TRUNCATE|GRANT|REVOKE|SET|NOTIFY"
    r"|LISTEN|FROM|WHERE|EXECUTE|REFERENCES|DELIMITER|QUOTE)\b"
)


def _quotes_in_a_statement(node: ast.AST) -> bool:
    """An f-string, ``%`` or ``format`` that is SQL and has a quote right beside a value."""
    if isinstance(node, ast.JoinedStr):
        text = "".join(_text(part) or "" if isinstance(part, ast.Constant) else "\0" for part in node.values)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        text = re.sub(r"%[sr]", "\0", _text(node.left) or "")
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        text = re.sub(r"\{[^{}]*\}", "\0", _text(node.func.value) or "")
    else:
        return False
    return bool(_STATEMENT.search(text) and re.search("['\"]\0|\0['\"]", text))


def _text(node: ast.AST) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


_COMMENT = re.compile(r"(^|[\n;])[ \t]*--(?![\w>-])")
"""Two hyphens where a statement or a line begins; not an option of a command, an arrow or a rule."""


def own_comments(module: Module) -> list[str]:
    """Where it begins a comment of SQL itself: a text, other than a docstring, with two hyphens that begin a line."""
    documentation = {
        id(statement.value)
        for node in ast.walk(module.tree)
        for statement in ast.iter_child_nodes(node)
        if isinstance(statement, ast.Expr)
    }
    return [
        f"line {getattr(node, 'lineno', 0)}: {ast.unparse(node)}"
        for node in ast.walk(module.tree)
        if id(node) not in documentation and _COMMENT.search(_text(node) or "")
    ]


def vague_names(module: Module) -> list[str]:
    """Names that say nothing: of the module, its folder or its classes."""
    names = [*module.path.split("/")]
    names += [node.name for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)]
    words = {word.lower() for name in names for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}
    return sorted(words & VAGUE_WORDS)


CONNECTION_TYPES = "database/connector"
"""The module that says what a connection and a pool are; the others import its names."""

_SPELLED_OUT = re.compile(r"\basyncpg\.(Connection|Pool|pool\.\w+)\b|\bPoolConnectionProxy\b")


def odd_idioms(module: Module) -> list[str]:
    """Where it does in its own way what the rest of the tree does in another one."""
    problems = []
    for node in ast.walk(module.tree):
        line = f"line {getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            called = ast.unparse(node.value.func)
            if called.rpartition(".")[2] in {"get_logger", "getLogger"} and ast.unparse(node.targets[0]) != "_logger":
                problems.append(f"{line}: a module's logger is called _logger")
        if isinstance(node, ast.Assert) or (isinstance(node, ast.Name) and node.id == "AssertionError"):
            problems.append(f"{line}: what cannot happen raises InvariantError, which stays under python -O")
        if isinstance(node, ast.arg) and node.arg == "format" and module.unit != "cli":
            problems.append(f"{line}: the parameter is called file_format")
        if module.path != CONNECTION_TYPES and _spells_out_a_connection(node):
            problems.append(f"{line}: name the type as {CONNECTION_TYPES}.py does")
    return problems


def _spells_out_a_connection(node: ast.AST) -> bool:
    written = ast.unparse(node) if isinstance(node, ast.Attribute) else _text(node) or ""
    return _SPELLED_OUT.fullmatch(written.partition("[")[0]) is not None


PRINTING = {
    "cli/output": "is the way to the terminal",
    "cli/status": "clears the screen",
}
"""The modules that write to standard output or standard error."""

DRAWING = {
    "cli/output": "is the way to the terminal",
    "cli/progress": "shows a line that changes and a bar, through output.on_terminal",
    "cli/schedule_questions": "asks a person, through output.on_terminal",
    "demo/stage": "shows the demo's own words and figures",
}
"""The modules that use rich, whose strings are markup unless they are said not to be."""


def own_printing(module: Module) -> list[str]:
    """Where it prints by itself: text that others wrote could be markup or an escape sequence there."""
    problems = []
    for node in ast.walk(module.tree):
        line = f"line {getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Call) and module.path not in PRINTING:
            called = ast.unparse(node.func)
            if called in {"print", "sys.stdout.write", "sys.stderr.write", "traceback.print_exc"}:
                problems.append(f"{line}: print through cli/output.py")
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if any(name.split(".")[0] == "rich" for name in names) and module.path not in DRAWING:
            problems.append(f"{line}: draw through cli/output.py")
    return problems


def borrowed_names(module: Module) -> list[str]:
    """What it imports from a module of exportd that does not define it: there is one way to each name."""
    defined = _defined_by_module()
    return [
        f"line {node.lineno}: {node.module} does not define {alias.name}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "") in defined
        for alias in node.names
        if alias.name not in defined[node.module or ""] and f"{node.module}.{alias.name}" not in defined
    ]


def _defined(module: Module) -> set[str]:
    return {
        node.id if isinstance(node, ast.Name) else node.name
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    }


# Not while the tests are collected, which every process does that takes part in them.
@cache
def _defined_by_module() -> dict[str, set[str]]:
    return {
        f"exportd.{module.path}".replace("/", ".").removesuffix(".__init__"): _defined(module) for module in MODULES
    }


def _id(module: Module) -> str:
    return module.path


@pytest.mark.parametrize("module", MODULES, ids=_id)
def test_the_terminal_is_written_to_in_one_place(module: Module) -> None:
    assert not own_printing(module)


@pytest.mark.parametrize(
    "code", ["print(name)", "sys.stdout.write(name)", "sys.stderr.write(name)", "from rich.text import Text"]
)
def test_a_module_that_prints_by_itself_is_found(code: str) -> None:
    assert own_printing(Module("cli/elsewhere", code))
    assert not own_printing(Module("cli/output", code))


@pytest.mark.parametrize("module", MODULES, ids=_id)
def test_a_module_imports_only_what_lies_below_it(module: Module) -> None:
    assert not forbidden_imports(module)


@pytest.mark.parametrize("module", [module for module in MODULES if module.is_pure], ids=_id)
def test_a_module_named_as_a_thing_is_pure(module: Module) -> None:
    assert not impurities(module)


@pytest.mark.parametrize("path", WORLDLY)
def test_an_exception_from_purity_is_still_needed(path: str) -> None:
    modules = [module for module in MODULES if module.path == path]
    assert modules, "it is gone: take it from WORLDLY"
    assert impurities(modules[0]), "it is pure now: take it from WORLDLY"


@pytest.mark.parametrize("module", MODULES, ids=_id)
def test_only_the_quoting_module_quotes(module: Module) -> None:
    assert not own_quoting(module) or module.path in QUOTING


@pytest.mark.parametrize("module", MODULES, ids=_id)
def test_only_the_quoting_module_writes_comments(module: Module) -> None:
    assert not own_comments(module) or module.path in COMMENTING


@pytest.mark.parametrize("module", MODULES, ids=_id)
def test_nothing_has_a_name_that_says_nothing(module: Module) -> None:
    assert not vague_names(module)


@pytest.mark.parametrize("module", MODULES, ids=_id)
def test_one_thing_is_done_in_one_way(module: Module) -> None:
    assert not odd_idioms(module)


@pytest.mark.parametrize("module", MODULES, ids=_id)
def test_a_name_is_imported_from_where_it_is_defined(module: Module) -> None:
    assert not borrowed_names(module)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("jobs/job_table", "from exportd.schedules.wheel import TimerWheel"),
        ("jobs/job_table", "import exportd.schedules"),
        ("jobs/job_table", "from exportd import schedules"),
        ("jobs/job_table", "def late():\n    from exportd.pipeline import run_job"),
        ("jobs/job_table", "from . import states"),
        ("model/job", "from exportd.settings.schema import Settings"),
        ("database/connector", "from exportd.stores.store import Store"),
        ("daemon/runner", "from tests.fixtures.fake_clock import FakeClock"),
        ("novelties/news", ""),
        ("__init__", "from exportd.model.job import Job"),
    ],
)
def test_the_import_rule_sees(path: str, text: str) -> None:
    assert forbidden_imports(Module(path, text))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("jobs/job_table", "from exportd.database import queries\nfrom exportd.jobs.states import JobState"),
        ("cli/main", "from exportd import __version__\nfrom exportd.daemon import runner"),
    ],
)
def test_the_import_rule_lets_pass(path: str, text: str) -> None:
    assert not forbidden_imports(Module(path, text))


@pytest.mark.parametrize(
    "text",
    [
        "import anyio",
        "from anyio.abc import TaskGroup",
        "from time import monotonic",
        "import os.path",
        "from exportd.database.connector import translated",
        "from exportd.database import connector",
        "async def run(): ...",
        "text = open('file').read()",
        "text = path.read_text()",
        "moment = datetime.now(UTC)",
        "print('hello')",
    ],
)
def test_the_purity_rule_sees(text: str) -> None:
    assert impurities(Module("jobs/states", text))


def test_the_purity_rule_lets_types_pass() -> None:
    text = "from pathlib import Path\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import asyncpg"
    assert not impurities(Module("jobs/states", text))


@pytest.mark.parametrize(
    "text",
    [
        """quoted = '"' + name + '"'""",
        """quoted = name.replace("'", "''")""",
        """quoted = name.replace('"', '""')""",
        '''query = f"""SELECT * FROM "{name}" """''',
        """query = f"SELECT * FROM t WHERE id = '{name}'" """,
        """query = "COPY t TO STDOUT (DELIMITER '%s')" % mark""",
        """query = "CREATE TABLE \\"{}\\" ()".format(name)""",
    ],
)
def test_the_quoting_rule_sees(text: str) -> None:
    assert own_quoting(Module("extraction/statement", text))


@pytest.mark.parametrize(
    "text",
    [
        """sentence = f'the user "{name}" is not there'""",
        """query = f"SELECT {column} FROM {quoting.table(name)} WHERE deleted = 'no'" """,
    ],
)
def test_the_quoting_rule_lets_pass(text: str) -> None:
    assert not own_quoting(Module("extraction/statement", text))


@pytest.mark.parametrize(
    "text",
    [
        """line = f"-- {entity}: damaged" """,
        """line = "-- " + entity""",
        """line = "--" + entity""",
        """line = "-- %s" % entity""",
        """script = f"BEGIN;\\n-- {name}\\nCOMMIT" """,
        """script = f"BEGIN; -- {name}\\n" """,
        """def script():\n    return "\\n".join(f"-- {name}" for name in names)""",
    ],
)
def test_the_rule_of_comments_sees(text: str) -> None:
    assert own_comments(Module("capture/script", text))


@pytest.mark.parametrize(
    "text",
    [
        """options = ["--no-header", "--json"]""",
        """line = comment(f"{entity}: damaged")""",
        """def f():\n    "A comment:\\n-- like this." """,
    ],
)
def test_the_rule_of_comments_lets_pass(text: str) -> None:
    assert not own_comments(Module("capture/script", text))


def test_the_rule_of_names_sees() -> None:
    assert vague_names(Module("jobs/utils", ""))
    assert vague_names(Module("jobs/job_helpers", ""))
    assert vague_names(Module("jobs/lease", "class LeaseManager: ..."))
    assert not vague_names(Module("jobs/lease", "class Leasing: ..."))


@pytest.mark.parametrize(
    "text",
    [
        "log = structlog.stdlib.get_logger()",
        "logger = get_logger()",
        "_log = logging.getLogger(__name__)",
        "assert row is not None",
        "raise AssertionError('one row')",
        "error = AssertionError('one row')",
        "def write(format: ExportFormat): ...",
        "def write(*, format='CSV'): ...",
        "def read(connection: asyncpg.Connection[Record]): ...",
        "def read(connection: 'asyncpg.Connection[asyncpg.Record]'): ...",
        "def read(pool: asyncpg.Pool): ...",
        "def read(connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record]): ...",
    ],
)
def test_the_rule_of_idioms_sees(text: str) -> None:
    assert odd_idioms(Module("jobs/job_table", text))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("jobs/job_table", "_logger = structlog.stdlib.get_logger()"),
        ("jobs/job_table", "logging.getLogger().setLevel(level)"),
        ("jobs/job_table", "raise InvariantError('one row')"),
        ("jobs/job_table", "def write(file_format: ExportFormat): ..."),
        ("jobs/job_table", "text = value.format(name)"),
        ("cli/job", "def list_jobs(*, format: str): ..."),
        ("jobs/job_table", "connection = await asyncpg.connect(dsn)"),
        ("database/connector", "Connection = asyncpg.Connection[asyncpg.Record]"),
        ("telemetry/logging", "LIBRARIES = ('asyncpg.pool', 'botocore')"),
    ],
)
def test_the_rule_of_idioms_lets_pass(path: str, text: str) -> None:
    assert not odd_idioms(Module(path, text))


def test_the_rule_of_one_way_to_a_name_sees() -> None:
    assert borrowed_names(Module("jobs/job_table", "from exportd.database.connector import asyncpg"))
    assert borrowed_names(Module("jobs/job_table", "def late():\n    from exportd.pipeline import JobRecord"))
    assert not borrowed_names(Module("jobs/job_table", "from exportd.database import connector"))
    assert not borrowed_names(Module("jobs/job_table", "from exportd.database.connector import Connector as C"))
    assert not borrowed_names(Module("jobs/job_table", "from exportd import __version__"))
