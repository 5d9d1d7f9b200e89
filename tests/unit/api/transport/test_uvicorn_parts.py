"""The parts of uvicorn that are not its public interface and that the API's transport rests on.

A version of uvicorn that renames one, or that does not use it any more, fails here. Otherwise a timeout or the identity
of a client could be gone without an error.
"""

import inspect

import pytest
import uvicorn
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from exportd.api.transport.connection import ApiConnection
from exportd.api.transport.server import EmbeddedServer

CALLED_BY_ASYNCIO = {"connection_made", "data_received", "connection_lost", "pause_writing", "resume_writing"}

OVERRIDDEN = {
    (ApiConnection, H11Protocol): {*CALLED_BY_ASYNCIO, "on_response_complete", "send_400_response"},
    (EmbeddedServer, uvicorn.Server): {"capture_signals", "startup", "main_loop", "shutdown"},
}

ASSIGNED = [
    *((H11Protocol.__init__, name) for name in ("transport", "cycle", "loop", "app_state")),
    *((H11Protocol.connection_made, name) for name in ("transport",)),
    *((RequestResponseCycle.__init__, name) for name in ("more_body", "response_complete")),
    *((ServerState.__init__, name) for name in ("tasks", "connections")),
    *((uvicorn.Server.__init__, name) for name in ("config", "server_state", "started", "should_exit")),
]


@pytest.mark.parametrize(("ours", "theirs"), OVERRIDDEN)
def test_nothing_else_is_overridden(ours: type, theirs: type) -> None:
    own = {name for name, member in vars(ours).items() if callable(member) and not name.startswith("_")}
    assert own & set(dir(theirs)) == OVERRIDDEN[ours, theirs]


@pytest.mark.parametrize(
    ("theirs", "name"),
    [(theirs, name) for (_, theirs), names in OVERRIDDEN.items() for name in sorted(names - CALLED_BY_ASYNCIO)],
)
def test_uvicorn_calls_what_is_overridden(theirs: type, name: str) -> None:
    assert f"self.{name}" in inspect.getsource(theirs)


@pytest.mark.parametrize(("method", "name"), ASSIGNED)
def test_uvicorn_keeps_what_is_read_where_it_is_read(method: object, name: str) -> None:
    assert f"self.{name}" in inspect.getsource(method)  # type: ignore[arg-type]


def test_a_connection_is_made_with_what_it_takes() -> None:
    parameters = list(inspect.signature(H11Protocol.__init__).parameters)
    assert parameters[1:] == ["config", "server_state", "app_state", "_loop"]
    assert "self.app_state.copy()" in inspect.getsource(H11Protocol.handle_events), "request.state.peer comes from it"


def test_a_server_loads_its_settings_before_it_starts() -> None:
    source = inspect.getsource(uvicorn.Server)
    assert source.index("config.load()") < source.index("self.startup(")
    assert "self.lifespan" in source
    assert Config("app:app", h11_max_incomplete_event_size=1).h11_max_incomplete_event_size == 1
