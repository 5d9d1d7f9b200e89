"""``exportd reload``: have the daemon put its configuration file into effect."""

from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import Parameter

from exportd.cli.daemon_address import DaemonAddress
from exportd.cli.output import AsJson, print_json, print_line

_HERE = DaemonAddress()

_TIMEOUT_S = 300.0
"""Everything is checked anew, and a reload waits for the one before it."""


def reload(
    *,
    dry_run: Annotated[
        bool, Parameter(negative="", help="Check the file, say what would change, change nothing.")
    ] = False,
    json: AsJson = False,
    at: DaemonAddress = _HERE,
) -> None:
    """Put the configuration file into effect; running jobs end as they began. A bad file changes nothing."""
    client = at.client(usual_timeout_s=_TIMEOUT_S)
    answer = client.request("POST", "/v1/reload", query={"dryRun": "true" if dry_run else "false"})
    if json:
        print_json(answer)
    else:
        _print(answer)


def _print(answer: Mapping[str, Any]) -> None:
    for sentence in answer["sentences"]:
        print_line(sentence)
    if not answer["sentences"]:
        print_line("The file says what the daemon does already.")
    elif answer["dryRun"]:
        print_line("Nothing was changed yet.")
    for sentence in answer["disagreements"]:
        print_line(sentence)
