"""Monitoring as an operator sets it up: a real Prometheus scrapes the daemon, and probes ask how it is."""

import shutil
from pathlib import Path

import httpx
import pytest

from tests.acceptance.declarations import destination, schedule
from tests.acceptance.sample_application import CATALOG, Application
from tests.fixtures.daemon import Daemon, Site, until
from tests.fixtures.prometheus import promtool, scraping

RULES = Path(__file__).parents[2] / "config" / "prometheus-rules.yml"


async def start(site: Site) -> tuple[Daemon, str]:
    """A daemon that answers at an address for monitoring; that address."""
    site.configure(
        CATALOG,
        {
            "metrics": {"listen": "127.0.0.1:0"},
            "destination": [destination("lake", site.destination())],
            "schedule": [schedule()],
        },
    )
    daemon = await site.start()
    await daemon.wait_for_event("listening")
    return daemon, daemon.events_named("metrics ready")[0]["address"]


async def get(address: str, path: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=20) as client:
        return await client.get(f"http://{address}{path}", headers=headers)


@pytest.mark.monitoring_tools
async def test_prometheus_scrapes_the_daemon_and_knows_its_rules(
    site: Site, application: Application, tmp_path: Path
) -> None:
    daemon, address = await start(site)
    await site.succeeded(application.connection, await site.first_job(application.connection))
    with scraping(address, folder=tmp_path, rules=RULES) as prometheus:

        async def ask(query: str) -> list[dict[str, object]]:
            async with httpx.AsyncClient() as client:
                try:
                    answer = await client.get(f"{prometheus}/api/v1/query", params={"query": query})
                except httpx.TransportError:
                    return []
            return list(answer.json()["data"]["result"]) if answer.is_success else []

        async def freshness() -> bool:
            return bool(await ask('exportd_freshness_lag_seconds{schedule="often", destination="lake"}'))

        await until(freshness, what="a scraped metric")
        (up,) = await ask('up{job="exportd"}')
        assert up["value"][1] == "1"  # type: ignore[index]
        assert await ask("process_resident_memory_bytes > 1e6 and on (instance) exportd_build_info")
        targets = (await get(prometheus.removeprefix("http://"), "/api/v1/targets")).json()["data"]["activeTargets"]
        assert [target["lastError"] for target in targets] == [""]
        groups = (await get(prometheus.removeprefix("http://"), "/api/v1/rules")).json()["data"]["groups"]
        assert [rule["lastError"] for group in groups for rule in group["rules"] if rule.get("lastError")] == []
        assert sum(len(group["rules"]) for group in groups) == RULES.read_text(encoding="utf-8").count("alert:")
    judged = promtool("check", "metrics", text=(await get(address, "/metrics")).content)
    assert (judged.returncode, judged.stdout + judged.stderr) == (0, b"")
    assert await daemon.stop() == 0


@pytest.mark.monitoring_tools
def test_promtool_finds_nothing_wrong_with_the_alerts() -> None:
    judged = promtool("check", "rules", str(RULES))
    assert judged.returncode == 0, judged.stderr
    assert b"SUCCESS" in judged.stdout


async def test_probes_tell_what_is_missing_and_that_it_came_back(site: Site, application: Application) -> None:
    daemon, address = await start(site)
    await site.succeeded(application.connection, await site.first_job(application.connection))
    assert (await get(address, "/healthz")).status_code == 200
    ready = await get(address, "/readyz")
    assert (ready.status_code, ready.text) == (200, "database ok\nlistener ok\nspool ok\n")

    await application.connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'exportd listener'"
    )
    shutil.move(site.spool, site.folder / "elsewhere")

    async def told() -> bool:
        answer = await get(address, "/readyz")
        return answer.status_code == 503 and "spool missing\n" in answer.text and "database ok\n" in answer.text

    await until(told, what="the probe's refusal")
    assert (await get(address, "/healthz")).text == "ok\n"
    shutil.move(site.folder / "elsewhere", site.spool)

    async def back() -> bool:
        return (await get(address, "/readyz")).status_code == 200

    await until(back, what="the probe's consent")
    assert await daemon.stop() == 0


@pytest.mark.usefixtures("application")
async def test_the_address_has_metrics_and_no_api_and_is_for_no_page(site: Site) -> None:
    daemon, address = await start(site)
    port = address.rpartition(":")[2]
    assert "exportd_build_info" in (await get(address, "/metrics")).text
    for path in ("/v1/status", "/v1/schedules", "/organizations/acme/dataexports/schedules", "/openapi.json", "/"):
        assert (await get(address, path)).status_code == 404
    assert (await get(address, "/metrics", host=f"rebound.example.com:{port}")).status_code == 400
    assert (await get(address, "/metrics", host=f"10.1.2.3:{port}")).status_code == 200
    assert (await get(address, "/metrics", **{"sec-fetch-site": "cross-site"})).status_code == 403
    async with httpx.AsyncClient() as client:
        assert (await client.post(f"http://{address}/metrics")).status_code == 405
    assert await daemon.stop() == 0
