"""``exportd daemon …``, ``pause``, ``resume``, ``audit``, ``log-level`` and ``reload``: what concerns a daemon, or all.

And ``exportd client``: the programs that may call the daemons over TCP.
"""

from collections.abc import Mapping
from itertools import islice
from operator import itemgetter
from typing import Annotated, Any, Literal
from uuid import UUID

from cyclopts import App, Parameter, validators

from exportd.cli.daemon_client import LONG_TIMEOUT_S, DaemonAddress, OrganizationAddress, pages
from exportd.cli.output import (
    AsJson,
    instant,
    pause_words,
    print_answer,
    print_fields,
    print_json,
    print_line,
    print_list,
)
from exportd.model.errors import SettingsError

app = App(name="daemon")
client_app = App(name="client")

_HERE = DaemonAddress()
_ORGANIZATION = OrganizationAddress()

ClientRoleOption = Annotated[
    Literal["reader", "operator"], Parameter(help="A reader only looks; an operator also changes and exports.")
]

LogLevel = Literal["debug", "info", "warning", "error"]


@app.command
def forget(daemon_id: str, /, *, json: AsJson = False, at: DaemonAddress = _HERE) -> None:
    """Do not wait for a daemon that is gone to come back: what only it declares is taken out."""
    try:
        found = UUID(daemon_id)
    except ValueError:
        raise SettingsError.of(
            f"{daemon_id!r} is no daemon: it has to be the id of one, as in `exportd status`."
        ) from None
    answer = at.client().request("DELETE", f"/v1/daemons/{found}")
    print_answer(answer, answer["message"], as_json=json)


def pause(*, json: AsJson = False, at: DaemonAddress = _HERE) -> None:
    """Begin no further job, on all daemons of the database; those that run go on. No change is lost."""
    _print_pause(at.client().request("POST", "/v1/pause"), as_json=json)


def resume(*, json: AsJson = False, at: DaemonAddress = _HERE) -> None:
    """Go on after a pause."""
    _print_pause(at.client().request("POST", "/v1/resume"), as_json=json)


def log_level(level: LogLevel | None = None, /, *, json: AsJson = False, at: DaemonAddress = _HERE) -> None:
    """Print how much the daemon logs, or change it until the daemon is started again."""
    client = at.client()
    answer = client.request("PUT", "/v1/log-level", body={"level": level}) if level else None
    answer = answer or client.request("GET", "/v1/log-level")
    print_answer(answer, answer["level"], as_json=json)


def reload(
    *,
    dry_run: Annotated[
        bool, Parameter(negative="", help="Check the file, say what would change, change nothing.")
    ] = False,
    json: AsJson = False,
    at: DaemonAddress = _HERE,
) -> None:
    """Put the configuration file into effect; running jobs end as they began. A bad file changes nothing."""
    client = at.client(usual_timeout_s=LONG_TIMEOUT_S)
    answer = client.request("POST", "/v1/reload", query={"dryRun": "true" if dry_run else "false"})
    if json:
        print_json(answer)
    else:
        _print_reload(answer)


def audit(
    *,
    about: Annotated[
        UUID | None, Parameter(help="Only about the schedule, destination, job or client of this id.")
    ] = None,
    organization: Annotated[str | None, Parameter(help="Only about this organization.")] = None,
    limit: Annotated[
        int, Parameter(validator=validators.Number(gte=1), help="At most this many, the newest first.")
    ] = 20,
    json: AsJson = False,
    at: DaemonAddress = _HERE,
) -> None:
    """Print who did what, the newest first."""
    asked = pages(at.client(), "/v1/audit", organization=organization, object=None if about is None else str(about))
    print_list(
        list(islice(asked, limit)),
        {
            "WHEN": lambda entry: instant(entry["at"]),
            "WHO": itemgetter("actor"),
            "WHAT": itemgetter("action"),
            "ORGANIZATION": lambda entry: entry.get("organization"),
            "ABOUT": lambda entry: entry["details"].get("code") or entry.get("objectId"),
        },
        as_json=json,
    )


@client_app.command
def create(
    name: Annotated[str, Parameter(name="NAME", help="What the program is, for people.")],
    /,
    *,
    role: ClientRoleOption = "operator",
    json: AsJson = False,
    at: OrganizationAddress = _ORGANIZATION,
) -> None:
    """Make credentials for a program of an organization. The secret is shown this one time."""
    organization = at.organization_client()
    body = {"organization": organization.organization, "name": name, "role": role}
    made = organization.client.request("POST", "/v1/clients", body=body)
    if json:
        print_json(made)
        return
    print_fields(
        {
            "client": f"{made['name']} of {made['organization']}, {made['role']}",
            "id (access key)": made["id"],
            "secret": made["apiSecret"],
        }
    )
    print_line("The secret is shown this one time.")


@client_app.command(name="list")
def list_clients(*, json: AsJson = False, at: DaemonAddress = _HERE) -> None:
    """List the programs that have, or had, credentials."""
    print_list(
        at.client().request("GET", "/v1/clients")["data"],
        {
            "CLIENT": itemgetter("id"),
            "ORGANIZATION": itemgetter("organization"),
            "NAME": itemgetter("name"),
            "ROLE": itemgetter("role"),
            "STATE": lambda client: "active" if client["active"] else "withdrawn",
            "CREATED": lambda client: instant(client["dtCreated"]),
            "BY": itemgetter("createdBy"),
        },
        as_json=json,
    )


@client_app.command
def delete(
    client: Annotated[UUID, Parameter(name="CLIENT", help="Its id, as in `exportd client list`.")],
    /,
    *,
    json: AsJson = False,
    at: DaemonAddress = _HERE,
) -> None:
    """Withdraw credentials: the secret and its tokens are worth nothing from then on."""
    answer = at.client().request("DELETE", f"/v1/clients/{client}")
    print_answer(answer, f"withdrew the credentials of {answer['name']} of {answer['organization']}", as_json=json)


def _print_pause(answer: dict[str, Any], *, as_json: bool) -> None:
    print_answer(answer, pause_words(answer if answer["paused"] else None) or "not paused", as_json=as_json)


def _print_reload(answer: Mapping[str, Any]) -> None:
    for sentence in answer["sentences"]:
        print_line(sentence)
    if not answer["sentences"]:
        print_line("The file says what the daemon does already.")
    elif answer["dryRun"]:
        print_line("Nothing was changed yet.")
    for sentence in answer["disagreements"]:
        print_line(sentence)
