"""Takes the pictures of the console that the README shows: ``make screenshots``.

A real daemon shows the demo's data, which is the same each time. What would tell about the machine or the day, such as
ids and instants, is written over in the page before its picture is taken.
"""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import anyio.to_thread
from playwright.sync_api import Page, expect, sync_playwright

from exportd.database.connector import Connector
from exportd.demo.changer import Changer
from exportd.demo.generator import create_tables, fill
from exportd.demo.proportions import organization_ids
from exportd.demo.stage import SCHEDULE, Stage, clear, running_daemon
from exportd.jobs.job_table import JobTable
from exportd.model.job import JobId
from exportd.postgres.postgres_server import PostgresServer
from exportd.schedules.firing_table import ScheduleTable
from tests.fixtures.daemon import until

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
PAGES = {"overview": "", "create-schedule": "schedules/new", "entity": "entities/CONTRACTS"}
MAX_BYTES = 150_000
ROWS = 600_000
AS_OF = "2026-03-09T04:12:40Z"
"""What the clock of every picture says."""

_ORGANIZATIONS = organization_ids(3)
_OVERWRITE = """
([asOf, folder]) => {
    const offset = new Date(asOf) - new Date(document.querySelector("[data-as-of]").dateTime);
    const week = 7 * 86400000;  // firings keep their days and hours
    const shift = document.getElementById("rule") ? Math.round(offset / week) * week : offset;
    const instant = /(\\d{4}-\\d\\d-\\d\\d) (\\d\\d:\\d\\d:\\d\\d) UTC/g;
    const moved = (_, day, time) => new Date(new Date(`${day}T${time}Z`).getTime() + shift)
        .toISOString().replace("T", " ").replace(/\\..*/, " UTC");
    const write = (text) => text.replace(instant, moved).replaceAll(folder, "/srv/exportd")
        .replace(/database demo on \\S+ as \\S+/, "database shop on db1 as exportd")
        .replace(/\\b\\S+ \\((\\d+\\.\\d+\\.\\d+)\\)/g, "web1 ($1)").replace(/\\S+:\\d+(?=$)/, "web1:4711")
        .replace(/^\\S+, admin/, "ada, admin")
        .replace(/date=[\\d-]+\\/hour=\\d\\d/, "date=2026-03-09/hour=04");
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const text = write(texts.currentNode.nodeValue);
        if (text !== texts.currentNode.nodeValue) texts.currentNode.nodeValue = text;
    }
}
"""


async def take() -> None:
    """Play the scenes, and write a picture of each in both themes."""
    PICTURES.mkdir(exist_ok=True)
    with TemporaryDirectory() as temporary:
        await anyio.Path(temporary).chmod(0o711)
        folder = await anyio.to_thread.run_sync(clear, Path(temporary) / "demo")
        async with PostgresServer(directory=folder / "postgres", settings={"fsync": "off"}) as server:
            stage = Stage(folder, await server.create_database("demo"))
            stage.configure(_ORGANIZATIONS)
            async with Connector(stage.dsn).connection("pictures") as connection:
                await create_tables(connection)
                await fill(connection, rows=ROWS, organizations=len(_ORGANIZATIONS))
            async with running_daemon(stage), Connector(stage.dsn).pool(2) as pool:
                await _play(stage, JobTable(pool), ScheduleTable(pool))


async def _play(stage: Stage, jobs: JobTable, schedules: ScheduleTable) -> None:
    """The first runs, while they run; then one that fails."""

    async def is_ready() -> bool:
        return "daemon ready" in await anyio.Path(stage.log).read_text("utf-8")

    async def reads() -> JobId | None:
        found = [record.job.id for record in await jobs.list(limit=9) if record.progress.entities]
        return found[0] if found else None

    async def all_ended() -> bool:
        return all(record.finished for record in await jobs.list(limit=9))

    await until(is_ready, what="the daemon")
    running = await until(reads, what="a job that reads")
    await anyio.to_thread.run_sync(_photograph, stage, {"running-job": f"jobs/{running}"})
    await until(all_ended, what="the end of the first runs")
    async with Connector(stage.dsn).connection("pictures") as connection:
        await Changer(connection, seed=1).burst(size=400)
    away = stage.exports.rename(stage.directory / "away")
    failed = await schedules.fire_now(_ORGANIZATIONS[1], SCHEDULE)
    await until(all_ended, what="the end of the job that fails")
    away.rename(stage.exports)
    await schedules.fire_now(_ORGANIZATIONS[0], SCHEDULE)
    await until(all_ended, what="the end of the last job")
    await anyio.to_thread.run_sync(_photograph, stage, {**PAGES, "failed-job": f"jobs/{failed}"})


def _photograph(stage: Stage, pages: Mapping[str, str]) -> None:
    program = shutil.which("chromium")
    if program is None:
        sys.exit("Chromium is missing: apt-get install chromium")
    command = [sys.executable, "-m", "exportd", "console", "--no-browser", "--config", str(stage.config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, sync_playwright() as playwright:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().removeprefix("The console is at ").strip()
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(address)
            _photograph_pages(page, stage, pages)
            browser.close()
        finally:
            process.terminate()


def _photograph_pages(page: Page, stage: Stage, pages: Mapping[str, str]) -> None:
    here = page.url
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        for name, path in pages.items():
            page.goto(here + path)
            _arrange(page, name)
            page.evaluate(_OVERWRITE, [AS_OF, str(stage.directory)])
            picture = page.screenshot(path=str(PICTURES / f"console-{name}-{theme}.png"))
            assert len(picture) <= MAX_BYTES, f"{name} has {len(picture)} bytes"


def _arrange(page: Page, name: str) -> None:
    if name in {"overview", "running-job"}:
        expect(page.get_by_role("status")).to_have_text("Live")
    if name == "create-schedule":
        page.locator("[name=organization]").fill(_ORGANIZATIONS[0])
        page.locator("[name=name]").fill("Nightly copy")
        page.locator("[name=cron]").fill("30 2 * * 1-5")
        expect(page.locator("#rule")).to_contain_text("02:30:00")
        page.locator("#rule").scroll_into_view_if_needed()


if __name__ == "__main__":
    anyio.run(take)
