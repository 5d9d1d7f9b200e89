"""The command line. One module per group of commands; what a command does not need is not imported."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from exportd import __version__
from exportd.cli import completion
from exportd.cli.configuration import DEFAULT_CONFIG, ConfigPath
from exportd.cli.daemon_client import DaemonAddress
from exportd.cli.output import AsJson, print_script
from exportd.model.schedule import DialectName

_HERE = DaemonAddress()

Place = Annotated[str, Parameter(help="A directory, file://…, s3://bucket/prefix or gs://bucket/prefix.")]
Organization = Annotated[str | None, Parameter(help="Only what belongs to this organization.")]

app = App(
    name="exportd",
    help="Scheduled, exact data export from Postgres: complete first, then only what changed.",
    version=__version__,
    help_format="plaintext",
)
# Registered by name, so that a command's imports are loaded only when it is run. Therefore its line in the help stands
# here.
for _group, _help in {
    "capture": "Install, inspect and remove the triggers that record changes.",
    "daemon": "The daemons of the database, which `exportd status` lists.",
    "destination": "Make, change and check destinations.",
    "entity": "Look at what can be exported, and how it hangs together.",
    "job": "Look at export jobs, follow, cancel and retry them.",
    "schedule": "Make, change, look at and run schedules.",
}.items():
    app.command(f"exportd.cli.{_group}:app", name=_group, help=_help)
app.command(
    "exportd.cli.configuration:app",
    name="config",
    help="Show the configuration that is in effect, and what can be configured.",
)
app.command("exportd.cli.daemon:client_app", name="client", help="Credentials of programs that call the API over TCP.")
app.command("exportd.cli.entity:catalog_app", name="catalog", help="Propose a catalog from a database.")
app.command("exportd.cli.capture:role_app", name="role", help="The daemon's role in Postgres.")
for _verb, _place, _help in (
    ("console", "console:console", "Open the daemon's pages in a browser, until Ctrl-C."),
    ("audit", "daemon:audit", "Print who did what, the newest first."),
    ("export", "export:export", "Export entities once, without a schedule; print the job's id."),
    ("log-level", "daemon:log_level", "Print how much the daemon logs, or change it until it is started again."),
    ("pause", "daemon:pause", "Begin no further job, on all daemons of the database; no change is lost."),
    ("preview", "export:preview", "Show what a schedule's run would hold if it began now."),
    ("reload", "daemon:reload", "Put the configuration file into effect; a bad file changes nothing."),
    ("resume", "daemon:resume", "Go on after a pause."),
    ("status", "status:status", "Show the daemon: pauses, queue, running jobs, spool, destinations, what is behind."),
):
    app.command(f"exportd.cli.{_place}", name=_verb, help=_help)


_AS_A_FILE_OR_SOURCED = """
if [[ ${funcstack[1]} == _exportd ]]; then
  _cyclopts_exportd "$@"
else
  (( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
  compdef _cyclopts_exportd exportd
fi
"""
"""The script of cyclopts defines a function, and does not say what it is for. In a folder of ``fpath`` the file is the
function itself.
"""


@app.command(name="completion")
def print_completion(shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(name="SHELL")], /) -> None:
    """Print the completion of commands for a shell.

    For the shell that runs: `source <(exportd completion bash)`, the same with `zsh`; in fish pipe the output to
    `source`. Codes, entities and jobs are asked of the daemon at each Tab.
    """
    print_script(app.generate_completion(shell=shell) + (_AS_A_FILE_OR_SOURCED if shell == "zsh" else ""))


@app.command
def run(*, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Run the daemon in the foreground, until SIGTERM or SIGINT (a second one hurries)."""
    from exportd.daemon.runner import run_daemon

    run_daemon(config)


@app.command
def check(*, json: AsJson = False, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Test the configuration, the catalog against the database, capture and destinations; say what to fix."""
    import anyio

    from exportd.cli.check import check_everything

    sys.exit(anyio.run(lambda: check_everything(config, as_json=json)))


@app.command
def download(
    job_id: Annotated[str, Parameter(completer=completion.JOBS)],
    *,
    to: Annotated[Path, Parameter(help="The directory that receives the files.")],
    json: AsJson = False,
    at: DaemonAddress = _HERE,
) -> None:
    """Copy the files of a finished job from the daemon that ran it, verified by their checksums.

    The directory gets the layout of a destination: later downloads overwrite nothing, and `exportd verify` and
    `exportd replay` take it as one.
    """
    from exportd.cli.download import download_job

    download_job(job_id, to, at, as_json=json)


@app.command
def verify(place: Place, *, organization: Organization = None, json: AsJson = False) -> None:
    """Check a bucket or directory without the database: nothing missing, nothing altered, no gap."""
    import anyio

    from exportd.cli.delivered import verify_place

    sys.exit(anyio.run(verify_place, place, organization, json))


@app.command
def replay(
    place: Place,
    *,
    into: Annotated[Path, Parameter(help="The DuckDB file to make.")],
    as_of: Annotated[
        str | None, Parameter(help="The last job to load; the newest of the schedule if left out.")
    ] = None,
    organization: Organization = None,
    schedule: Annotated[str | None, Parameter(help="The schedule to replay, where there are several.")] = None,
    json: AsJson = False,
) -> None:
    """Rebuild the exported tables in a DuckDB file, as of any job, from a bucket or directory."""
    import anyio

    from exportd.cli.delivered import replay_place

    anyio.run(
        lambda: replay_place(place, into, as_of=as_of, organization=organization, schedule=schedule, as_json=json)
    )


_DIALECT_HELP = (
    "The database that the statements are for. Those for snowflake, bigquery and redshift have never been run by "
    "exportd's tests."
)


@app.command
def loader(
    place: Annotated[str, Parameter(help="A manifest, or the place where it lies: as for `exportd verify`.")],
    *,
    dialect: Annotated[DialectName, Parameter(help=_DIALECT_HELP)],
    job: Annotated[
        str | None, Parameter(help="The job whose run is to be loaded; needed unless PLACE is a manifest.")
    ] = None,
) -> None:
    """Print statements that load and merge a run into a database."""
    import anyio

    from exportd.cli.delivered import print_statements

    anyio.run(print_statements, place, job, dialect)


@app.command
def demo(
    *,
    dir: Annotated[Path, Parameter(help="Where the files, the log and the database go.")] = Path("demo-run"),  # noqa: A002
    rows: Annotated[int, Parameter(help="About how many rows to make, in all 20 entities.")] = 200_000,
    once: Annotated[bool, Parameter(help="Stop after the comparison (the default without a terminal).")] = False,
    keep: Annotated[bool, Parameter(help="Keep everything running until Ctrl-C (the default on a terminal).")] = False,
) -> None:
    """Show the whole journey on an embedded Postgres: data, daemon, changes, exports, files, proof."""
    import anyio

    from exportd.demo.story import tell

    keeps = not once and (keep or sys.stdout.isatty())
    sys.exit(anyio.run(lambda: tell(dir, rows=rows, keep=keeps), backend_options={"use_uvloop": True}))
