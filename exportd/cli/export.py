"""``exportd export``: an export without a schedule."""

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from exportd.cli import completion
from exportd.cli.daemon_client import OrganizationAddress
from exportd.cli.failures import Exit
from exportd.cli.output import AsJson, print_answer
from exportd.model.errors import SettingsError

_HERE = OrganizationAddress()


def export(
    *entities: Annotated[
        str, Parameter(name="ENTITY", help="As the catalog calls it; at least one.", completer=completion.ENTITIES)
    ],
    format: Annotated[Literal["CSV", "JSONL"], Parameter(help="Of the files.")] = "CSV",  # noqa: A002
    destinations: Annotated[
        list[str] | None,
        Parameter(
            consume_multiple=True,
            negative="",
            help="Codes; with none, files are for download only.",
            completer=completion.DESTINATIONS,
        ),
    ] = None,
    start_date: Annotated[
        str | None,
        Parameter(
            help="Only records modified at or after this instant, such as 2026-01-31T00:00:00Z, and no deletions. "
            "The catalog says by `modified` which column tells."
        ),
    ] = None,
    wait: Annotated[bool, Parameter(negative="", help="Follow the job; exit code 1 when it fails.")] = False,
    to: Annotated[
        Path | None, Parameter(help="Wait, and copy the files into this directory, as to a destination.")
    ] = None,
    json: AsJson = False,
    at: OrganizationAddress = _HERE,
) -> None:
    """Export entities once, without a schedule: completely, or what was modified since a date.

    Prints the job's id; the daemon does the rest.
    """
    if not entities:
        raise SettingsError.of("name at least one ENTITY to export; `exportd entity list` shows them")
    since = None if start_date is None else _with_zone(start_date)
    if to is not None:
        from exportd.cli.download import try_target

        try_target(to)  # before the export, which may take hours
    client = at.organization_client()
    body = {
        "sourceType": "OPERATIONAL",
        "operationalDataTypes": list(entities),
        "destinationIds": client.ids_of("destinations", destinations or []),
        "exportFileFormat": format,
        "startDate": since,
    }
    job = client.export(body)
    print_answer({"jobId": str(job)}, str(job), as_json=json)
    if not (wait or to):
        return
    from exportd.cli.job_events import follow

    sys.stdout.flush()
    outcome = follow(client.client, job, as_json=json)
    if outcome is Exit.DONE and to is not None:
        from exportd.cli.download import download_job

        download_job(str(job), to, at, as_json=json)
    sys.exit(outcome)


def _with_zone(text: str) -> str:
    """Raises SettingsError for what is no date and time with a time zone."""
    try:
        if datetime.fromisoformat(text).tzinfo is not None:
            return text
    except ValueError:
        pass
    raise SettingsError.of(
        f"{text!r} is no date and time with its zone: write it as 2026-01-31T00:00:00Z", where="--start-date"
    )
