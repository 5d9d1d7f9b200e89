"""Builds the control API of a daemon. Nothing listens yet."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio

from exportd import __version__
from exportd.catalog.document import Catalog
from exportd.control.access import Access, group_id, group_ids
from exportd.control.application import application, guarded
from exportd.control.archive import zipped
from exportd.control.authenticator import Authenticator
from exportd.control.client_table import ClientTable
from exportd.control.collaborators import Collaborators
from exportd.control.destination_table import DestinationTable
from exportd.control.downloads import SpoolDownloads
from exportd.control.rate_limit import RateLimit
from exportd.control.server import ControlServer
from exportd.control.signing import Signer
from exportd.daemon.assembly import Components
from exportd.daemon.metrics_assembly import exposition
from exportd.jobs.job_record import JobRecord
from exportd.jobs.owned_job_table import OwnedJobTable
from exportd.model.errors import SettingsError
from exportd.parts.spool import MANIFEST_NAME
from exportd.schedules.limits import check_rule
from exportd.schedules.owned_schedule_table import OwnedScheduleTable
from exportd.settings.addresses import split_listen
from exportd.settings.schema import ControlSettings, Settings

_ORGANIZATION_REQUESTS_A_SECOND = 50
_TOKENS_A_SECOND = 100


async def control_server(settings: Settings, catalog: Catalog, components: Components) -> ControlServer:
    """The API over these components. Raises SettingsError for a group that this machine does not have, or a key file
    that cannot be used.
    """
    control, clock = settings.control, components.clock
    clients = ClientTable(components.control_pool)
    signer = Signer(await _signing_key(control, clients))
    access = Access(os.getuid(), group_ids(control.operators), group_ids(control.admins))
    using = Collaborators(
        schedules=OwnedScheduleTable(components.control_pool),
        destinations=DestinationTable(components.control_pool),
        jobs=OwnedJobTable(components.control_pool),
        clients=clients,
        authenticator=Authenticator(clients, access, signer, clock),
        signer=signer,
        entities=tuple(catalog.entities),
        check_rule=check_rule,
        live_destinations=components.refresher,
        downloads=SpoolDownloads(
            components.jobs,
            signer,
            lambda record: _archive(components, record),
            spool_id=components.spool.id,
            clock=clock,
        ),
        exposition=exposition(components),
        status=lambda: _status(components),
        public_url=control.public_url,
        clock=clock,
        organization_limit=RateLimit(_ORGANIZATION_REQUESTS_A_SECOND, 1.0),
        token_limit=RateLimit(_TOKENS_A_SECOND, 1.0),
    )
    return ControlServer(
        guarded(application(using), using, hosts=_hosts(control)),
        socket_path=control.socket,
        group_id=group_id(control.group) if control.group else None,
        listen=control.listen,
        tls=_tls(control),
    )


async def _signing_key(control: ControlSettings, clients: ClientTable) -> bytes:
    path = control.signing_key_file
    if path is None:
        return await clients.signing_key()
    try:
        key = await anyio.Path(path).read_bytes()
    except OSError as error:
        raise SettingsError.of(
            f"the file {path} cannot be read: {error.strerror or error}", where="control.signing_key_file"
        ) from error
    if len(key) < 32:
        raise SettingsError.of(
            f"the file {path} has {len(key)} bytes; a key has at least 32 (openssl rand -out {path} 32)",
            where="control.signing_key_file",
        )
    return key


def _hosts(control: ControlSettings) -> frozenset[str]:
    own = {split_listen(control.listen)[0]} if control.listen else set()
    return frozenset(each.lower() for each in {"localhost", "127.0.0.1", "::1", *own, *control.hosts})


def _tls(control: ControlSettings) -> tuple[Path, Path] | None:
    if control.tls_certificate is None or control.tls_key is None:
        return None
    return control.tls_certificate, control.tls_key


def _status(components: Components) -> dict[str, Any]:
    listener, spool = components.listener, components.spool
    return {
        "version": __version__,
        "database": str(components.connector.address),
        "services": {"listener": {"listening": listener.listening}},
        "spool": {
            "id": str(spool.id),
            "directory": str(spool.directory),
            "usedBytes": spool.usage.used_bytes,
            "budgetBytes": spool.usage.budget_bytes,
        },
        "changesWaiting": {
            entity: since.isoformat().replace("+00:00", "Z") for entity, since in listener.changes_waiting.items()
        },
    }


def _archive(components: Components, record: JobRecord) -> AsyncIterator[bytes]:
    names = (*(part.file_name for part in record.parts), MANIFEST_NAME)
    return zipped(components.spool.job_folder(record.job.id), names)
