"""Packs the source of an earlier commit for the upgrade test: ``python -m tests.tools.archive_release COMMIT FILE``.

FILE is a ``.tar.xz``. It holds what the daemon and the command line need to run, without demo and test doubles. The
same commit always gives the same content. Run it for the last commit before a change that a running installation has
to survive, name the file by the newest migration of that commit (``exportd-0007.tar.xz``), and add the file to
``tests/fixtures/old_release.py``.
"""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

_LEFT_OUT = ("exportd/demo/", "exportd/testing/")


def archive(checkout: Path, commit: str, target: Path) -> None:
    """Write the package as it was at a commit. Raises CalledProcessError when git does not have it."""
    packed = subprocess.run(
        ["git", "archive", "--format=tar", commit, "exportd"], cwd=checkout, check=True, capture_output=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as source, tarfile.open(target, mode="w:xz", preset=9) as result:
        for member in sorted(source.getmembers(), key=lambda member: member.name):
            content = source.extractfile(member) if member.isfile() else None
            if content is not None and not member.name.startswith(_LEFT_OUT):
                entry = tarfile.TarInfo(member.name)
                entry.size = member.size
                result.addfile(entry, content)


if __name__ == "__main__":
    archive(Path.cwd(), sys.argv[1], Path(sys.argv[2]))
