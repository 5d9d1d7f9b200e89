"""``exportd daemon …``: the daemons of a database."""

from uuid import UUID

from cyclopts import App

from exportd.cli.daemon_address import DaemonAddress
from exportd.cli.output import AsJson, print_answer
from exportd.model.errors import SettingsError

app = App(name="daemon")

_HERE = DaemonAddress()


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
