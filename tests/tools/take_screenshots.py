"""Takes the pictures of the console that the README shows: ``make screenshots``.

A real daemon shows the demo's data, which is the same each time. When its jobs have ended, they are given fixed times.
What would still tell about the machine or the day, such as ids and instants, is written over in the page before its
picture is taken.
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

from exportd.database.connector import Connector, Pool
from exportd.demo.changer import Changer
from exportd.demo.generator import create_tables, fill, organization_ids
from exportd.demo.stage import SCHEDULE, Stage, clear, running_daemon
from exportd.jobs.requests import JobSearch, OwnedJobTable
from exportd.postgres.postgres_server import PostgresServer
from tests.fixtures.daemon import until
from tests.fixtures.runs import fire_now

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
PAGES = {"overview": "", "create-schedule": "schedules/new", "entity": "entities/CONTRACTS"}
MAX_BYTES = 150_000
ROWS = 600_000
AS_OF = "2026-03-09T04:12:20Z"
"""What the clock of every picture says."""

_RATES = "20 s: 15\u202f511 records and 1.94 MB a second so far"
_ORGANIZATIONS = organization_ids(3)

# The first runs were two hours ago, then one failed and one succeeded. The status of each is as it was.
_SETTLE = """
WITH clock AS (
    SELECT date_trunc('second', now()) AS at
), turns AS (
    SELECT id, organization, row_number() OVER (PARTITION BY organization ORDER BY created_at) AS turn
    FROM exportd.job
), planned AS (
    SELECT id, at - CASE turn WHEN 1 THEN interval '2:42:20' ELSE interval '1:12:20' END AS due_at,
           at - interval '10 s' + interval '1 s' * row_number() OVER (ORDER BY turn, organization DESC)
               AS created_at,
           CASE turn WHEN 1 THEN interval '16 s' ELSE interval '1 s' END AS took
    FROM turns, clock
), jobs AS (
    UPDATE exportd.job
    SET created_at = planned.created_at, due_at = planned.due_at, started_at = planned.due_at,
        sealed_at = planned.due_at + took * 0.8, finished_at = planned.due_at + took,
        extraction = jsonb_set(extraction, '{taken_at}', to_jsonb(planned.due_at))
    FROM planned
    WHERE job.id = planned.id
    RETURNING job.id, job.started_at, job.sealed_at, job.finished_at
), deliveries AS (
    UPDATE exportd.delivery SET published_at = jobs.finished_at FROM jobs WHERE job_id = jobs.id
), attempts AS (
    UPDATE exportd.attempt SET started_at = jobs.started_at, ended_at = jobs.finished_at
    FROM jobs WHERE job_id = jobs.id
), positions AS (
    UPDATE exportd.position SET taken_at = jobs.started_at FROM jobs WHERE job_id = jobs.id
)
SELECT at FROM clock
"""

# The newest job, as it was when it had read eight entities and a part of two more.
_RUN_AGAIN = """
WITH entities AS (
    SELECT key AS code, value AS figures, row_number() OVER (ORDER BY key) AS number
    FROM exportd.job, jsonb_each(progress -> 'entities') WHERE id = $1
), shown AS (
    SELECT jsonb_object_agg(code, CASE
        WHEN number <= 8 THEN figures
        WHEN number <= 10 THEN figures || jsonb_build_object('done', false,
            'rows', (figures ->> 'rows')::int / 3, 'size_bytes', (figures ->> 'size_bytes')::int / 3)
        ELSE '{"rows": 0, "deleted_rows": 0, "size_bytes": 0, "files": 0, "done": false}'
    END) AS entities
    FROM entities
), attempts AS (
    UPDATE exportd.attempt SET started_at = now() - interval '20 s', ended_at = NULL WHERE job_id = $1
), deliveries AS (
    DELETE FROM exportd.delivery WHERE job_id = $1
), parts AS (
    DELETE FROM exportd.part WHERE job_id = $1
)
UPDATE exportd.job
SET state = 'RUNNING', phase = 'EXTRACTING', due_at = now() - interval '20 s', started_at = now() - interval '20 s',
    sealed_at = NULL, finished_at = NULL, extraction = NULL, spool_id = NULL, lease_until = now() + interval '1 h',
    lease_holder = 'web1:4711', lease_spool_id = gen_random_uuid(),
    progress = jsonb_build_object('entities', shown.entities)
FROM shown
WHERE id = $1
"""

_OVERWRITE = """
([asOf, settled, folder, running]) => {
    let shift = new Date(asOf) - new Date(settled);
    const instant = /(\\d{4}-\\d\\d-\\d\\d) (\\d\\d:\\d\\d:\\d\\d) UTC/g;
    const shown = (milliseconds) => new Date(milliseconds).toISOString().replace("T", " ").replace(/\\..*/, " UTC");
    const firing = document.getElementById("rule")?.textContent.match(instant);
    if (firing) shift = new Date("2026-03-10T02:30:00Z") - new Date(firing[0].replace(" UTC", "Z").replace(" ", "T"));
    let then = 0;
    const moved = (_, day, time) => {
        then = new Date(`${day}T${time}Z`).getTime() + shift;
        const ago = new Date(asOf) - then;
        return shown(ago < 600000 && ago > -60000 ? new Date(asOf) - 20000 : then);
    };
    const ids = new Map();
    const fixed = (text) => {  // the same id is the same everywhere in the page
        const start = text.slice(0, 8);
        if (!ids.has(start)) ids.set(start, (0x9e3779b1 * (ids.size + 3) >>> 0).toString(16).padStart(8, "0"));
        return ids.get(start) + (text.length > 8 ? "-5c1e-4d0b-9a67-3f1c2b8de504" : "");
    };
    const distance = () => {
        const minutes = Math.floor((then - new Date(asOf)) / 60000), hours = Math.floor(minutes / 60);
        return hours < 24 ? `in ${hours} h ${minutes % 60} min` : `in ${Math.floor(hours / 24)} d ${hours % 24} h`;
    };
    const weekday = () => new Date(then).toLocaleString([], { weekday: "short" });
    const write = (text) => text.replace(instant, moved).replaceAll(folder, "/srv/exportd")
        .replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, fixed)
        .replace(/^[0-9a-f]{8}$/, fixed)
        .replace(/in \\d+ \\w+( \\d+ \\w+)?(?=\\))/, distance).replace(/^\\w{3}(?= .* here$)/, weekday)
        .replace(/\\b(\\d+ min )?\\d+ s ago\\b/g, "20 s ago")
        .replace(/\\d+ s: .* a second so far/, running)
        .replace(/database demo on \\S+ as \\S+/, "database shop on db1 as exportd")
        .replace(/\\b\\S+ \\((\\d+\\.\\d+\\.\\d+)\\)/g, "web1 ($1)").replace(/\\S+:\\d+(?=$)/, "web1:4711")
        .replace(/^\\S+, admin/, "ada, admin")
        .replace(/date=[\\d-]+\\/hour=\\d\\d/, "date=2026-03-09/hour=03");
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
                await _play(stage, pool)


async def _play(stage: Stage, pool: Pool) -> None:
    """The first runs; then one that fails, and one that succeeds."""
    jobs = OwnedJobTable(pool)

    async def is_ready() -> bool:
        return "daemon ready" in await anyio.Path(stage.log).read_text("utf-8")

    async def all_ended() -> bool:
        found, _ = await jobs.search(None, JobSearch(), limit=9)
        return len(found) >= len(_ORGANIZATIONS) and all(job.finished_at for job in found)

    await until(is_ready, what="the daemon")
    await until(all_ended, what="the end of the first runs")
    async with Connector(stage.dsn).connection("pictures") as connection:
        await Changer(connection, seed=1).burst(size=400)
    away = stage.exports.rename(stage.directory / "away")
    failed = await fire_now(pool, SCHEDULE, _ORGANIZATIONS[1])
    await until(all_ended, what="the end of the job that fails")
    away.rename(stage.exports)
    await fire_now(pool, SCHEDULE, _ORGANIZATIONS[0])
    await until(all_ended, what="the end of the last job")
    async with Connector(stage.dsn).connection("pictures") as connection:
        settled = (await connection.fetchval(_SETTLE)).isoformat()
        pages = {**PAGES, "failed-job": f"jobs/{failed}"}
        await anyio.to_thread.run_sync(_photograph, stage, settled, pages)
        first = (await jobs.search(None, JobSearch(), limit=9))[0][2].id
        await connection.execute(_RUN_AGAIN, first)
        await anyio.to_thread.run_sync(_photograph, stage, settled, {"running-job": f"jobs/{first}"})


def _photograph(stage: Stage, settled: str, pages: Mapping[str, str]) -> None:
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
            _photograph_pages(page, [AS_OF, settled, str(stage.directory), _RATES], pages)
            browser.close()
        finally:
            process.terminate()


def _photograph_pages(page: Page, overwriting: list[str], pages: Mapping[str, str]) -> None:
    here = page.url
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        for name, path in pages.items():
            page.goto(here + path)
            _arrange(page, name)
            page.evaluate(_OVERWRITE, overwriting)
            picture = page.screenshot(path=str(PICTURES / f"console-{name}-{theme}.png"))
            assert len(picture) <= MAX_BYTES, f"{name} has {len(picture)} bytes"


def _arrange(page: Page, name: str) -> None:
    if name in {"overview", "running-job"}:
        expect(page.get_by_role("status")).to_have_text("Live")
    if name == "create-schedule":
        page.locator("main [name=organization]").fill(_ORGANIZATIONS[0])
        page.locator("[name=name]").fill("Nightly copy")
        page.locator("[name=cron]").fill("30 2 * * *")
        expect(page.locator("#rule")).to_contain_text("02:30:00")
        page.locator("#rule").scroll_into_view_if_needed()


if __name__ == "__main__":
    anyio.run(take)
