"""``exportd destination``: where files are delivered, and whether that works."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio
from cyclopts import App

from exportd.cli import destination_editing
from exportd.cli.configuration import DEFAULT_CONFIG, ConfigPath, connector, load
from exportd.cli.daemon_address import OrganizationOption
from exportd.cli.failures import Exit
from exportd.cli.output import AsJson, print_json, print_line, print_table
from exportd.cli.pauses import pause_document, pause_words

if TYPE_CHECKING:
    from exportd.destinations.checks.finding import Verdict
    from exportd.destinations.finder import KnownDestination, KnownDestinations
    from exportd.settings.destination_schema import DestinationSettings
    from exportd.settings.schema import Settings

app = App(name="destination")
for _command in (
    destination_editing.show,
    destination_editing.create,
    destination_editing.edit,
    destination_editing.delete,
    destination_editing.pause,
    destination_editing.resume,
):
    app.command(_command)


@app.command(name="list")
def list_destinations(*, json: AsJson = False, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """List destinations: those of the configuration, and those made through the API."""
    anyio.run(_list, json, config)


@app.command
def check(
    code: str,
    *,
    organization: OrganizationOption = None,
    json: AsJson = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Write, look at, read and remove a probe at a destination; say what is missing, and what to grant."""
    sys.exit(anyio.run(_check, code, organization, json, config))


async def _list(as_json: bool, config: ConfigPath) -> None:
    _, known = await _known(config)
    rows: list[dict[str, Any]] = [
        {
            "organization": each.settings.organization,
            "code": each.settings.code,
            "type": each.settings.type,
            "place": _place(each.settings),
            "origin": each.origin,
        }
        for each in known.found
    ]
    pauses = [each.pause for each in known.found]
    if as_json:
        print_json([{**row, "paused": pause_document(pause)} for row, pause in zip(rows, pauses, strict=True)])
        return
    print_table(
        ["ORGANIZATION", "CODE", "TYPE", "PLACE", "ORIGIN", "STATE"],
        [(*row.values(), pause_words(pause)) for row, pause in zip(rows, pauses, strict=True)],
    )


async def _check(code: str, organization: str | None, as_json: bool, config: ConfigPath) -> int:
    from exportd.destinations.checker import DestinationChecker
    from exportd.destinations.checks import report
    from exportd.destinations.opener import DestinationOpener
    from exportd.model.clock import SystemClock
    from exportd.telemetry.logging import leave_it_to_the_command

    leave_it_to_the_command()
    settings, known = await _known(config)
    declared = _named(known.found, code, organization)
    checker = DestinationChecker(DestinationOpener(settings), SystemClock())
    result = await checker.check(declared)
    grants = await checker.grants(declared) if result.lacking or as_json else ()
    if as_json:
        head = {"organization": declared.organization, "code": declared.code, "type": declared.type}
        print_json({**head, "place": _place(declared), **report.document(result, grants, kind=declared.type)})
    else:
        print_line(f"destination {declared.code} of {declared.organization}: {_place(declared)}")
        for line in report.lines(result, grants, kind=declared.type):
            print_line(line)
    return _exit_of(result.verdict)


def _exit_of(verdict: "Verdict") -> Exit:
    """The exit code of a check."""
    from exportd.destinations.checks.finding import Verdict

    return {Verdict.GOOD: Exit.DONE, Verdict.LACKING: Exit.FAILED, Verdict.OUT_OF_REACH: Exit.TRY_AGAIN}[verdict]


async def _known(config: ConfigPath) -> "tuple[Settings, KnownDestinations]":
    """What there is; what could not be learnt is said on standard error."""
    from exportd.destinations.finder import find_destinations

    settings, _ = load(config)
    known = await find_destinations(settings, connector(settings))
    for problem in known.problems:
        sys.stderr.write(f"exportd: {problem}\n")
    return settings, known


def _named(known: "Sequence[KnownDestination]", code: str, organization: str | None) -> "DestinationSettings":
    from exportd.model.errors import PermanentError, SettingsError
    from exportd.model.reason import Reason

    found = [each.settings for each in known if each.settings.code == code]
    if organization is not None:
        found = [each for each in found if each.organization == organization]
    if len(found) > 1:
        owners = ", ".join(sorted(each.organization for each in found))
        raise SettingsError.of(f"several organizations have a destination {code} ({owners}): say --organization")
    if not found:
        whose = f" of organization {organization}" if organization is not None else ""
        raise PermanentError(
            f"There is no destination {code}{whose}. `exportd destination list` shows them.", reason=Reason.NOT_FOUND
        )
    return found[0]


def _place(declared: "DestinationSettings") -> str:
    """Where it is, without what is secret there."""
    scheme = {"DIRECTORY": "", "S3": "s3://", "GCS": "gs://"}[declared.type]
    root = str(declared.directory) if declared.type == "DIRECTORY" else declared.bucket
    return f"{scheme}{root}/{declared.prefix}" if declared.prefix else f"{scheme}{root}"
