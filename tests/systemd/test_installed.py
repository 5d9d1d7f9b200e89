"""exportd as docs/install.md installs it: the page's own commands, in a container with a systemd that has booted.

What cannot be had without a network is put there before: Python's packages, and a Postgres.
``make systemd-test`` runs it.
"""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from exportd.postgres.binaries import find_binaries, is_from_wheel
from tests.fixtures.container import Container, container
from tests.fixtures.install_page import CHECKOUT, steps

pytestmark = [pytest.mark.systemd_boot, pytest.mark.timeout(300)]

PACKAGES = next(Path(folder) for folder in sys.path if folder.endswith("site-packages"))
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
OFFLINE = {
    "apt-get install --yes python3-venv": "python3 -c 'import ensurepip, venv'",
    "/opt/exportd/bin/pip install --require-hashes --requirement requirements.lock": (
        f"cp -r {shlex.quote(str(PACKAGES))}/. /opt/exportd/lib/python{VERSION}/site-packages/"
    ),
    # A wheel of this checkout instead of the link to it: the service cannot look into other people's homes.
    "/opt/exportd/bin/pip install --no-deps --no-build-isolation .": (
        "/opt/exportd/bin/pip install --quiet --no-index --no-deps --no-build-isolation --force-reinstall ."
    ),
}
"""What the page says, and what is done instead where there is no network."""

SERVER = """
install --directory --owner=postgres --group=postgres /srv/postgres /var/run/postgresql
runuser -u postgres -- {binaries}/initdb --auth=peer --encoding=UTF8 --locale=C.UTF-8 /srv/postgres > /dev/null
systemd-run --quiet --unit=database --property=User=postgres {binaries}/postgres -D /srv/postgres \
  -c unix_socket_directories=/var/run/postgresql -c fsync=off
for attempt in $(seq 100); do
  runuser -u postgres -- psql --quiet --dbname=postgres --command='SELECT' > /dev/null 2>&1 && break
  sleep 0.1
done
runuser -u postgres -- psql --quiet --dbname=postgres --command='CREATE DATABASE product'
"""
TABLES = """
CREATE TABLE account (id bigint PRIMARY KEY, organization_id text NOT NULL, name text);
INSERT INTO account SELECT n, 'org-acme', 'account ' || n FROM generate_series(1, 50000) AS n;
CREATE TABLE bill (id bigint PRIMARY KEY, organization_id text NOT NULL, total numeric);
INSERT INTO bill SELECT n, 'org-acme', n / 7.0 FROM generate_series(1, 50000) AS n;
"""
SOCKET = "/run/exportd/control.sock"
AS_EXPORTD = next(
    line for step in steps() for line in step.commands.splitlines(True) if line.startswith("as_exportd()")
)
"""As the page defines it, for the shells of the tests."""


@pytest.fixture(scope="module")
def machine() -> Iterator[Container]:
    """A machine with a Postgres, after all commands of the page."""
    binaries = next(find_binary for find_binary in find_binaries() if not is_from_wheel(find_binary))
    with container() as booted:
        booted.shell(SERVER.format(binaries=binaries))
        booted.shell(
            "runuser -u postgres -- psql --quiet --set=ON_ERROR_STOP=1 --dbname=product", files=TABLES.encode()
        )
        # One shell, as the page says.
        booted.shell(page(), work_folder=CHECKOUT)
        yield booted


def page() -> str:
    commands = "\n".join(step.commands for step in steps())
    for said, done in OFFLINE.items():
        assert said in commands
        commands = commands.replace(said, done, 1)
    return commands


def number_of(machine: Container, query: str) -> int:
    return int(
        machine.shell(f"runuser -u postgres -- psql --tuples-only --no-align --dbname=product --command={query!r}")
    )


def main_process(machine: Container) -> int:
    return int(machine.property_of("exportd.service", "MainPID"))


def test_the_service_is_ready_and_says_how_it_is(machine: Container) -> None:
    assert machine.property_of("exportd.service", "Type") == "notify"
    assert machine.property_of("exportd.service", "ActiveState") == "active"
    assert machine.property_of("exportd.service", "StatusText") == "reloaded; changes: 1"
    assert machine.property_of("exportd.service", "NRestarts") == "0"


def test_the_first_export_arrives_through_the_hardening(machine: Container) -> None:
    machine.wait_until("ls /srv/exports/orgId=org-acme/_manifests/*.json")
    for entity in ("account", "bill"):
        lines = machine.shell(f"zcat /srv/exports/orgId=org-acme/date=*/hour=*/type={entity}/*_{entity}.csv.gz | wc -l")
        assert int(lines) == 50_001, "a header, and a line for each row"
    libraries = machine.shell(f"cat /proc/{main_process(machine)}/maps")
    assert "uvloop" in libraries
    assert "isal" in libraries
    assert machine.shell("find /var/lib/exportd -name '*.csv.gz'").count("\n") == 2
    assert machine.shell("stat --format='%U %a' /var/lib/exportd").split() == ["exportd", "700"]
    assert "Traceback" not in machine.shell("journalctl --unit=exportd.service --no-pager")


def test_only_the_daemon_sees_the_password(machine: Container) -> None:
    credential = "/run/credentials/exportd.service/dsn"
    assert machine.shell("stat --format='%U %a' /etc/exportd/dsn").split() == ["root", "600"]
    assert machine.shell(f"runuser -u exportd -- cat {credential}") == machine.shell("cat /etc/exportd/dsn")
    assert machine.tried(f"runuser -u nobody -- cat {credential}").returncode != 0
    assert "postgresql://" not in machine.shell(f"tr '\\0' '\\n' < /proc/{main_process(machine)}/environ")


def test_a_wrong_file_fails_the_reload_and_changes_nothing(machine: Container) -> None:
    daemon = main_process(machine)
    machine.shell("cp -p /etc/exportd/exportd.toml /root/good.toml; echo 'perod = 2' >> /etc/exportd/exportd.toml")
    refused = machine.tried("systemctl reload exportd.service")
    # Put back first: the other tests need a daemon that can start.
    machine.shell("mv /root/good.toml /etc/exportd/exportd.toml")
    assert refused.returncode != 0
    assert "perod" in machine.property_of("exportd.service", "StatusText")
    assert machine.property_of("exportd.service", "ActiveState") == "active"
    assert main_process(machine) == daemon
    assert number_of(machine, "SELECT count(*) FROM exportd.schedule WHERE version = 1 AND deleted_at IS NULL") == 1

    machine.shell("systemctl reload exportd.service")
    assert machine.property_of("exportd.service", "StatusText") == "reloaded; changes: 0"
    assert main_process(machine) == daemon


def asked(user: str, method: str, path: str, body: str = "None") -> str:
    """A command by which ``user`` asks the daemon something and prints the answer."""
    client = f"SocketClient(Path('{SOCKET}'), timeout_s=20)"
    program = (
        "from pathlib import Path; from exportd.cli.socket_client import SocketClient; "
        f"print({client}.request('{method}', '{path}', body={body}))"
    )
    return f"runuser -u {user} -- /opt/exportd/bin/python -c {shlex.quote(program)}"


def test_the_kernel_tells_who_calls(machine: Container) -> None:
    machine.shell("useradd --groups=exportd watcher; useradd stranger")
    for user in ("root", "exportd"):
        machine.shell(asked(user, "PUT", "/v1/log-level", "{'level': 'info'}"))
        assert number_of(machine, f"SELECT count(*) FROM exportd.audit WHERE actor LIKE '%{user}'") >= 1
    # Who may open the socket may look; more takes a group of the configuration.
    assert "version" in machine.shell(asked("watcher", "GET", "/v1/status"))
    assert machine.tried(asked("watcher", "PUT", "/v1/log-level", "{'level': 'info'}")).returncode != 0
    assert machine.tried(asked("stranger", "GET", "/v1/status")).returncode != 0


def test_the_socket_outlives_the_daemon_and_wakes_it(machine: Container) -> None:
    assert machine.shell(f"stat --format='%U %G %a' {SOCKET}").split() == ["exportd", "exportd", "660"]
    inode = machine.shell(f"stat --format=%i {SOCKET}")
    # systemctl warns that the socket can start it again: that is what is wanted.
    machine.shell("systemctl stop exportd.service")
    assert machine.property_of("exportd.service", "ActiveState") == "inactive"
    assert "version" in machine.shell(asked("exportd", "GET", "/v1/status"))
    machine.wait_until("systemctl is-active exportd.service")
    assert machine.shell(f"stat --format=%i {SOCKET}") == inode


def test_who_wakes_a_daemon_that_cannot_start_is_told_so_and_does_not_keep_it_starting(machine: Container) -> None:
    machine.shell(
        "systemctl stop exportd.service\n"
        "cp -p /etc/exportd/exportd.toml /root/good.toml; echo '[limitz]' >> /etc/exportd/exportd.toml"
    )
    asking = machine.tried(asked("exportd", "GET", "/v1/status"))
    assert "closed the connection without an answer: it stopped, or could not start" in asking.stdout
    assert machine.property_of("exportd.service", "ActiveState") == "failed"
    assert "limitz" in machine.shell("journalctl --unit=exportd.service --no-pager --lines=20")
    # Nobody waits any more, so it stays where it is until somebody asks again.
    attempts = "systemctl show --value --property=ExecMainStartTimestampMonotonic exportd.service"
    before = machine.shell(attempts)
    assert machine.property_of("exportd.socket", "ActiveState") == "active"
    assert machine.shell(f"sleep 5; {attempts}") == before
    machine.shell("mv /root/good.toml /etc/exportd/exportd.toml")
    assert "version" in machine.shell(asked("exportd", "GET", "/v1/status"))
    machine.wait_until("systemctl is-active exportd.service")


def test_a_daemon_that_hangs_is_started_again(machine: Container) -> None:
    machine.shell(
        "printf '[Service]\\nWatchdogSec=3\\nRestartSec=1\\n' > /etc/systemd/system/exportd.service.d/impatient.conf\n"
        "systemctl daemon-reload; systemctl restart exportd.service"
    )
    daemon = main_process(machine)
    machine.shell(f"kill -STOP {daemon}")
    machine.wait_until('test "$(systemctl show --value --property=NRestarts exportd.service)" = 1')
    machine.wait_until("systemctl is-active exportd.service")
    assert main_process(machine) not in {0, daemon}
    assert "Watchdog timeout" in machine.shell("journalctl --unit=exportd.service --no-pager")
    assert "hourly" in machine.shell(f"{AS_EXPORTD}as_exportd schedule list")
