"""``exportd completion``: what a shell needs to complete commands and options."""

from typing import Annotated, Literal

from cyclopts import Parameter

from exportd.cli.output import print_line


def completion(shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(name="SHELL")], /) -> None:
    """Print the completion of commands for a shell, such as `source <(exportd completion bash)`."""
    from exportd.cli.main import app

    print_line(app.generate_completion(shell=shell))
