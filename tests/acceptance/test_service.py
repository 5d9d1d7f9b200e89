"""The real daemon as a service: what it notifies its service manager of, and the socket that it is passed."""

import asyncio

import pytest

from tests.acceptance.sample_application import CATALOG, Application
from tests.fixtures.control_clients import bare
from tests.fixtures.daemon import Site
from tests.fixtures.service_manager import handing_over, service_manager


async def test_the_service_manager_is_notified_of_readiness_life_and_shutdown(
    site: Site, application: Application
) -> None:
    site.configure(CATALOG, {})
    with service_manager(site.folder) as manager:
        daemon = await site.start_program(wrapper=manager.telling(WATCHDOG_USEC=200_000))
        ready = await manager.message_with("READY")
        assert ready["STATUS"] == "0 schedules declared"
        for _ in range(3):
            assert "WATCHDOG" in await manager.message_with("WATCHDOG")
        assert await daemon.stop() == 0
        stopping = await manager.message_with("STOPPING")
        assert stopping["STATUS"] == "waiting up to 30 s for running jobs"
    await site.assert_clean()


async def test_a_daemon_that_cannot_start_is_never_ready(site: Site) -> None:
    """Its configuration is wrong."""
    site.configure(CATALOG, {"daemon": {"jobz": 2}})
    with service_manager(site.folder) as manager:
        daemon = site.launch(wrapper=manager.telling())
        assert await daemon.ended() == 2
        with pytest.raises(BlockingIOError):
            manager.receiving.recv(4096)
    assert "jobz" in daemon.text


async def test_a_socket_that_was_handed_over_is_served_and_outlives_the_daemon(
    site: Site, application: Application
) -> None:
    path = site.folder / "control.sock"
    site.configure(CATALOG, {})
    daemon = await site.start_program(wrapper=handing_over(path))
    inode = path.stat().st_ino

    def version() -> str:
        with bare(path) as http:
            return str(http.get("/v1/status").raise_for_status().json()["version"])

    assert await asyncio.to_thread(version)
    assert await daemon.stop() == 0
    assert path.stat().st_ino == inode, "it is the service manager's to remove"
    await site.assert_clean()


async def test_a_socket_where_no_client_looks_is_refused(site: Site, application: Application) -> None:
    site.configure(CATALOG, {})
    daemon = site.launch(wrapper=handing_over(site.folder / "elsewhere.sock"))
    assert await daemon.ended() == 2
    assert "exportd.socket does not fit" in daemon.text
    assert "Traceback" not in daemon.text
