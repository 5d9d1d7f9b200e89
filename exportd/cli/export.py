"""``exportd export``: an export without a schedule; and ``exportd preview``: what a schedule's next run would hold."""

import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from cyclopts import Parameter

from exportd.cli import completion
from exportd.cli.daemon_client import DestinationsOption, FormatName, OrganizationAddress, OrganizationClient
from exportd.cli.output import AsJson, Exit, print_answer, print_json, print_line, print_table, size
from exportd.model.errors import SettingsError

_HERE = OrganizationAddress()


def export(
    *entities: Annotated[
        str, Parameter(name="ENTITY", help="As the catalog calls it; at least one.", completer=completion.ENTITIES)
    ],
    format: Annotated[FormatName, Parameter(help="Of the files.")] = "CSV",  # noqa: A002
    destinations: DestinationsOption = None,
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
    dry_run: Annotated[
        bool, Parameter(negative="", help="Only show what it would hold if it began now: rows and sizes. Runs nothing.")
    ] = False,
    json: AsJson = False,
    at: OrganizationAddress = _HERE,
) -> None:
    """Export entities once, without a schedule: completely, or what was modified since a date.

    Prints the job's id; the daemon does the rest.
    """
    if not entities:
        raise SettingsError.of("name at least one ENTITY to export; `exportd entity list` shows them")
    if dry_run and (wait or to):
        raise SettingsError.of("a dry run makes no job and no files: leave --wait and --to out", where="--dry-run")
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
    if dry_run:
        _print_preview(client.preview_export(body), as_json=json)
        return
    job = client.export(body)
    print_answer({"jobId": str(job)}, str(job), as_json=json)
    if wait or to:
        sys.exit(_finish(client, job, to, at, as_json=json))


def _finish(client: OrganizationClient, job: UUID, to: Path | None, at: OrganizationAddress, *, as_json: bool) -> Exit:
    """Follow the job to its end, and copy its files when it has succeeded."""
    from exportd.cli.progress import follow

    sys.stdout.flush()
    outcome = follow(client.client, job, as_json=as_json)
    if outcome is Exit.DONE and to is not None:
        from exportd.cli.download import download_job

        download_job(str(job), to, at, as_json=as_json)
    return outcome


def _with_zone(text: str) -> str:
    """Read a date and time. Raises SettingsError unless it has a time zone."""
    try:
        if datetime.fromisoformat(text).tzinfo is not None:
            return text
    except ValueError:
        pass
    raise SettingsError.of(
        f"{text!r} is no date and time with its zone: write it as 2026-01-31T00:00:00Z", where="--start-date"
    )


def preview(
    schedule: Annotated[
        str, Parameter(name="SCHEDULE", help="The schedule's code, or its id.", completer=completion.SCHEDULES)
    ],
    /,
    *,
    json: AsJson = False,
    at: OrganizationAddress = _HERE,
) -> None:
    """Show what a run of a schedule would hold if it began now: full or not and why, rows, sizes. Runs nothing."""
    organization = at.organization_client()
    schedule_id = organization.id_of("schedules", schedule)
    answer = organization.client.request("GET", f"/v1/schedules/{schedule_id}/preview")
    _print_preview(answer, as_json=json)


def _print_preview(answer: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    print_table(
        ["ENTITY", "MODE", "REASON", "ROWS", "DELETED", "SIZE"],
        [
            (
                entity["entity"],
                entity["mode"],
                entity.get("reason"),
                _figure(f"{entity['rows']:,}", entity, "rows"),
                _figure(f"{entity['deletedRows']:,}", entity, "deletedRows"),
                _figure(size(entity["contentBytes"]), entity, "contentBytes"),
            )
            for entity in answer["entities"]
        ],
        numbers=["ROWS", "DELETED", "SIZE"],
    )
    print_line()
    print_line(
        f"In all {answer['rows']:,} rows ({answer['deletedRows']:,} deleted), {size(answer['contentBytes'])} before"
        " compression. ~ marks estimates."
    )


def _figure(text: str, entity: Mapping[str, Any], name: str) -> str:
    return f"~{text}" if name in entity["estimated"] else text
