"""The commands that make a directory a destination. Pure."""

import shlex

from exportd.destinations.checks.grant import Grant


def directory_grants(*, directory: str, user: str) -> tuple[Grant, ...]:
    """``user`` is whom exportd runs as. Files are readable for the directory's group, which new folders inherit."""
    path = shlex.quote(directory)
    return (
        Grant(
            f"Owner and mode, with the group of those who read in place of READERS ({user} is the user of this check: "
            "take the daemon's)",
            f"mkdir -p {path}\nchown {shlex.quote(user)}:READERS {path}\nchmod 2750 {path}",
        ),
    )
