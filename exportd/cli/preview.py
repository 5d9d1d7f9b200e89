"""``exportd preview``: what a schedule's next run would hold, asked of the daemon."""

from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import Parameter

from exportd.cli.daemon_client import OrganizationAddress
from exportd.cli.output import AsJson, print_json, print_line, print_table, size

_HERE = OrganizationAddress()


def preview(
    schedule: Annotated[str, Parameter(name="SCHEDULE", help="The schedule's code, or its id.")],
    /,
    *,
    json: AsJson = False,
    at: OrganizationAddress = _HERE,
) -> None:
    """Show what a run of a schedule would hold if it began now: full or not and why, rows, sizes. Runs nothing."""
    organization = at.organization_client()
    schedule_id = organization.id_of("schedules", schedule)
    answer = organization.client.request("GET", f"/v1/schedules/{schedule_id}/preview")
    if json:
        print_json(answer)
    else:
        _print(answer)


def _print(answer: Mapping[str, Any]) -> None:
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
