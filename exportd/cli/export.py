"""``exportd export``: a complete export without a schedule."""

import sys
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
    wait: Annotated[bool, Parameter(negative="", help="Follow the job; exit code 1 when it fails.")] = False,
    to: Annotated[
        Path | None, Parameter(help="Wait, and copy the files into this directory, as to a destination.")
    ] = None,
    json: AsJson = False,
    at: OrganizationAddress = _HERE,
) -> None:
    """Export entities completely, once, without a schedule. Prints the job's id; the daemon does the rest."""
    if not entities:
        raise SettingsError.of("name at least one ENTITY to export; `exportd entity list` shows them")
    if to is not None:
        from exportd.cli.download import try_target

        try_target(to)  # before the export, which may take hours
    client = at.organization_client()
    job = client.export(
        {
            "sourceType": "OPERATIONAL",
            "operationalDataTypes": list(entities),
            "destinationIds": client.ids_of("destinations", destinations or []),
            "exportFileFormat": format,
        }
    )
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
