"""Jobs, exports without a schedule, and links to files."""

import random
import re
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zipfile import ZipFile

import anyio.to_thread
import pytest
from m3ter import M3ter

from exportd.jobs.history_pruner import HistoryKind, HistoryPruner
from exportd.model.clock import SystemClock
from exportd.spool.journal_keeper import JournalKeeper
from exportd.spool.part_files import ARCHIVE_NAME, SmallPartsWriter
from exportd.spool.spool import Spool
from exportd.stores.file_reader import FILE_BLOCK_BYTES
from tests.fixtures.executors import RecordingExecutor
from tests.fixtures.runs import fire_now
from tests.fixtures.settings import live_settings
from tests.integration.api.request_bodies import bucket, schedule
from tests.integration.api.standalone_api import ACME, SPOOL, ApiServer, path

ASKED: dict[str, Any] = {"sourceType": "OPERATIONAL", "operationalDataTypes": ["PLANS", "BILLS"]}


async def _jobs(api: ApiServer, count: int, *, organization: str = ACME) -> list[str]:
    """Jobs of one moment and of others, oldest first."""
    ids = []
    for number in range(count):
        job_id = await api.pool.fetchval(
            """INSERT INTO exportd.job (organization, due_at, entities, format, destinations, created_at)
               VALUES ($1, now(), '{PLANS}', 'CSV', '{}', $2) RETURNING id""",
            organization,
            datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number // 2),
        )
        ids.append(str(job_id))
    return ids


async def _add_part(api: ApiServer, job_id: str, number: int, name: str) -> None:
    await api.pool.execute(
        "INSERT INTO exportd.part VALUES ($1, 'ACCOUNTS', $2, $3, 1, 1, 1, 'aa')", UUID(job_id), number, name
    )


async def test_the_official_client_asks_for_an_export_and_follows_its_job(api: ApiServer) -> None:
    def live(client: M3ter) -> str:
        exports = client.data_exports
        answer = exports.create_adhoc(
            operational_data_types=["PLANS"], source_type="OPERATIONAL", extra_body={"exportFileFormat": "JSONL"}
        )
        assert answer.job_id is not None
        job = exports.jobs.retrieve(answer.job_id)
        assert (job.status, job.source_type, job.schedule_id, job.started_at) == ("PENDING", "OPERATIONAL", None, None)
        assert job.date_created is not None
        assert [listed.id for listed in exports.jobs.list(status="PENDING")] == [job.id]
        assert exports.jobs.list(status="RUNNING").data == []
        return job.id

    job_id = await api.official(live)
    shown = (await api.http.get(path(ACME, "jobs", job_id))).json()
    assert (shown["scheduleId"], shown["startedAt"]) == (None, None), "given, not left out"
    assert (await api.http.get(path(ACME, "jobs"))).json()["data"] == [shown]
    row = await api.pool.fetchrow("SELECT * FROM exportd.job")
    assert row is not None
    assert (str(row["id"]), row["format"], row["entities"], row["schedule_id"]) == (job_id, "JSONL", ["PLANS"], None)
    assert await api.audit() == [(f"unix:{_me()}", "export requested")]


def _me() -> str:
    import os
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        ({"sourceType": "USAGE"}, "USAGE is not exported"),
        ({"operationalDataTypes": []}, "at least 1"),
        ({"startDate": "yesterday"}, "startDate: should be a date and time"),
        ({"startDate": "2026-01-01T00:00:00"}, "startDate: should be a date and time such as 2026-01-31T00:00:00Z"),
        ({"startDate": 1767225600}, "startDate: should be a date and time"),
        ({"startDate": ["2026-01-01T00:00:00Z"]}, "startDate: should be a date and time"),
        ({"startDate": "0001-01-01T00:00:00+14:00"}, "startDate: should be a date and time"),
        ({"startDate": "1969-12-31T23:59:59.999999Z"}, "startDate: should be in the years 1970 to 9998; leave it out"),
        ({"startDate": "9998-12-31T23:59:59-01:00"}, "startDate: should be in the years 1970 to 9998; leave it out"),
        (
            {"startDate": "2026-01-01T00:00:00Z", "operationalDataTypes": ["PLANS", "METERS"]},
            "startDate: METERS: the catalog names no column with the time of the last change, so there is no export "
            "from a start date on. Leave it or the start date out, or set `modified` in its entry of the catalog.",
        ),
        ({"endDate": "2026-01-01T00:00:00Z"}, 'unknown field "endDate"'),
        ({"destinationIds": [str(uuid4())]}, "there is no destination"),
    ],
)
async def test_what_cannot_be_exported_is_refused_in_a_sentence(
    api: ApiServer, spoilt: dict[str, Any], words: str
) -> None:
    answer = await api.http.post(path(ACME, "adhoc"), json={**ASKED, **spoilt})
    assert answer.status_code == 400
    assert words in answer.json()["message"]
    assert await api.pool.fetchval("SELECT count(*) FROM exportd.job") == 0


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("2026-03-09T12:00:00Z", "2026-03-09T12:00:00.000Z"),
        ("2026-03-09T12:00:00.123456+05:45", "2026-03-09T06:15:00.123456Z"),
        ("9000-01-01T00:00:00Z", "9000-01-01T00:00:00.000Z"),
        (None, None),
    ],
)
async def test_the_start_date_of_an_export_stays_as_it_was_asked_for(
    api: ApiServer, asked: str | None, shown: str | None
) -> None:
    def ask(client: M3ter) -> str:
        body = {} if asked is None else {"startDate": asked}
        exports = client.data_exports
        answer = exports.create_adhoc(operational_data_types=["PLANS"], source_type="OPERATIONAL", extra_body=body)
        assert answer.job_id is not None
        assert [listed.id for listed in exports.jobs.list()] == [answer.job_id]
        return exports.jobs.retrieve(answer.job_id).id

    job_id = await api.official(ask)
    start_date = await api.pool.fetchval("SELECT start_date FROM exportd.job")
    assert start_date == (None if asked is None else datetime.fromisoformat(asked))
    documents = [
        (await api.http.get(path(ACME, "jobs", job_id))).json(),
        *(await api.http.get(path(ACME, "jobs"))).json()["data"],
        (await api.http.get(f"/v1/jobs/{job_id}")).json(),
        *(await api.http.get("/v1/jobs")).json()["data"],
    ]
    assert [document["startDate"] for document in documents] == [shown] * 4
    (row,) = (await api.http.get("/v1/audit")).json()["data"]
    assert row["details"].get("start_date") == (None if start_date is None else start_date.isoformat())


async def test_equal_exports_that_wait_are_one_and_another_start_date_is_another(api: ApiServer) -> None:
    async def ask(start_date: str | None) -> str:
        answer = await api.http.post(path(ACME, "adhoc"), json={**ASKED, "startDate": start_date})
        return str(answer.json()["jobId"])

    first = await ask("2026-03-09T12:00:00Z")
    assert await ask("2026-03-09T13:00:00+01:00") == first, "the same instant"
    assert len({first, await ask("2026-03-09T12:00:00.000001Z"), whole := await ask(None)}) == 3
    assert await ask(None) == whole


async def test_an_export_goes_to_the_destinations_that_it_names(api: ApiServer) -> None:
    ids = [(await api.http.post(path(ACME, "destinations"), json=bucket(code))).json()["id"] for code in ("a", "b")]
    await api.http.post(path(ACME, "adhoc"), json={**ASKED, "destinationIds": ids[::-1], "version": 3})
    assert await api.pool.fetchval("SELECT destinations FROM exportd.job") == ["b", "a"]


async def test_jobs_come_newest_first_in_pages_and_by_filters(api: ApiServer) -> None:
    ids = await _jobs(api, 7)
    await _jobs(api, 3, organization="other")
    expected = [
        str(row["id"])
        for row in await api.pool.fetch(
            "SELECT id FROM exportd.job WHERE organization = $1 ORDER BY created_at DESC, id DESC", ACME
        )
    ]

    def read(client: M3ter) -> None:
        jobs = client.data_exports.jobs
        assert [listed.id for listed in jobs.list(page_size=2)] == expected
        assert {listed.id for listed in jobs.list(ids=[ids[0], ids[5]])} == {ids[0], ids[5]}
        window = jobs.list(date_created_start="2026-01-02T00:00:00Z", date_created_end="2026-01-03T00:00:00Z")
        assert {listed.id for listed in window} == set(ids[2:4])
        assert jobs.list(schedule_id=str(uuid4())).data == []

    await api.official(read)


async def test_jobs_of_a_schedule_are_found_by_it(api: ApiServer) -> None:
    made = (await api.http.post(path(ACME, "schedules"), json=schedule())).json()
    await _jobs(api, 2)
    job_id = await fire_now(api.pool, "nightly")
    found = (await api.http.get(path(ACME, "jobs"), params={"scheduleId": made["id"]})).json()["data"]
    assert [listed["id"] for listed in found] == [str(job_id)]
    assert found[0]["scheduleId"] == made["id"]
    assert (await api.http.get(path(ACME, "jobs"), params={"scheduleId": "nonsense"})).json()["data"] == []


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"pageSize": "0"}, "pageSize: should be at least 1"),
        ({"pageSize": "-1"}, "pageSize: should be at least 1"),
        ({"pageSize": "101"}, "pageSize: should be at most 100"),
        ({"pageSize": "x"}, "pageSize: should be a whole number"),
        ({"pageSize": "9" * 40}, "pageSize: should be at most 100"),
        ({"status": "DONE"}, "status: should be one of PENDING, RUNNING, SUCCEEDED or FAILED"),
        ({"dateCreatedStart": "2026-01-01"}, "dateCreatedStart: should be a date and time"),
        ({"dateCreatedEnd": "0001-01-01T00:00:00+14:00"}, "dateCreatedEnd: should be a date and time"),
        ({"nextToken": "forged"}, "nextToken: this list has not given"),
        ({"nextToken": "e30.AAAA"}, "nextToken: this list has not given"),
    ],
)
async def test_bad_filters_are_refused_in_a_sentence(api: ApiServer, params: dict[str, str], words: str) -> None:
    answer = await api.http.get(path(ACME, "jobs"), params=params)
    assert answer.status_code == 400
    assert words in answer.json()["message"]


async def test_a_page_token_is_good_for_its_list_and_organization_alone(api: ApiServer) -> None:
    await _jobs(api, 3)
    token = (await api.http.get(path(ACME, "jobs"), params={"pageSize": 1})).json()["nextToken"]
    assert (await api.http.get(path(ACME, "jobs"), params={"nextToken": token})).status_code == 200
    for elsewhere in (path("other", "jobs"), path(ACME, "schedules")):
        assert (await api.http.get(elsewhere, params={"nextToken": token})).status_code == 400
    for place in (0, 10, len(token) - 1):
        bent = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert (await api.http.get(path(ACME, "jobs"), params={"nextToken": bent})).status_code == 400


async def test_a_deleted_job_is_not_found_and_its_page_goes_on(api: ApiServer, tmp_path: Path) -> None:
    """A link that was handed out before finds nothing either."""
    ids = await _jobs(api, 6)
    await api.pool.execute(
        """UPDATE exportd.job SET state = 'SUCCEEDED', spool_id = $2, finished_at = clock_timestamp()
           WHERE id = ANY ($1::uuid[])""",
        ids[2:5],
        SPOOL,
    )
    listed = (await api.http.get(path(ACME, "jobs"), params={"pageSize": 2})).json()
    behind = listed["data"][-1]["id"]
    assert behind in ids[2:6]
    link = (await api.http.get(path(ACME, "jobs", ids[3], "getdownloadurl"))).json()["url"]
    async with Spool(live_settings(spool={"directory": tmp_path / "spool"})) as spool:
        settings = live_settings(retention={"jobs": 0.0})
        deleted = await HistoryPruner(api.pool, spool, settings=settings, clock=SystemClock()).run_once()
    assert deleted[HistoryKind.JOBS] == 3
    rest = (await api.http.get(path(ACME, "jobs"), params={"nextToken": listed["nextToken"]})).json()
    assert {job["id"] for job in rest["data"]} == set(ids[:2])
    for gone in (path(ACME, "jobs", ids[3]), path(ACME, "jobs", ids[3], "getdownloadurl"), f"/v1/jobs/{ids[3]}", link):
        answer = await api.http.get(gone)
        assert answer.status_code == 404
        assert "may have been deleted" in answer.json()["message"]


class TestDownloads:
    @pytest.mark.parametrize(
        ("change", "status", "words"),
        [
            ("state = 'PENDING'", 400, "not finished"),
            ("state = 'RUNNING'", 400, "not finished"),
            ("state = 'FAILED'", 400, "failed"),
            ("state = 'SUCCEEDED', expired_at = now()", 404, "have been removed"),
            ("state = 'SUCCEEDED', spool_id = gen_random_uuid()", 404, "another daemon"),
        ],
    )
    async def test_what_cannot_be_had_is_refused(self, api: ApiServer, change: str, status: int, words: str) -> None:
        (job_id,) = await _jobs(api, 1)
        await api.pool.execute(f"UPDATE exportd.job SET {change}")
        answer = await api.http.get(path(ACME, "jobs", job_id, "getdownloadurl"))
        assert answer.status_code == status
        assert words in answer.json()["message"]

    async def test_one_file_is_that_file_and_several_are_an_archive_with_the_manifest_last(
        self, api: ApiServer
    ) -> None:
        (job_id,) = await _jobs(api, 1)
        await api.pool.execute("UPDATE exportd.job SET state = 'SUCCEEDED', spool_id = $1", SPOOL)
        folder = api.folder / job_id
        folder.mkdir()
        (folder / "manifest.json").write_bytes(b"{}")
        names = [f"{job_id}_accounts.csv.gz", f"{job_id}_accounts.0002.csv.gz"]
        for number, name in enumerate(names, start=1):
            (folder / name).write_bytes(f"part {number}".encode())
            await _add_part(api, job_id, number, name)
            answer = await api.tcp.get(path(ACME, "jobs", job_id, "getdownloadurl"), headers=await api.bearer())
            got = await api.tcp.get(answer.json()["url"])
            assert got.status_code == 200
            if number == 1:
                assert (got.headers["content-type"], got.content) == ("application/gzip", b"part 1")
                assert name in got.headers["content-disposition"]
            else:
                with ZipFile(BytesIO(got.content)) as archive:
                    *members, last = archive.namelist()
                    assert last == f"orgId={ACME}/_manifests/{job_id}.json"
                    assert [member.rpartition("/")[2] for member in members] == names
                    assert all(
                        re.match(rf"orgId={ACME}/date=[^/]+/hour=\d\d/type=accounts/", member) for member in members
                    )

    async def test_files_are_sent_in_blocks_by_threads_of_their_own(
        self, api: ApiServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (job_id,) = await _jobs(api, 1)
        await api.pool.execute("UPDATE exportd.job SET state = 'SUCCEEDED', spool_id = $1", SPOOL)
        name, content = f"{job_id}_accounts.csv.gz", random.Random(1).randbytes(5 * FILE_BLOCK_BYTES // 2)
        (api.folder / job_id).mkdir()
        (api.folder / job_id / name).write_bytes(content)
        (api.folder / job_id / "manifest.json").write_bytes(b"{}")
        await _add_part(api, job_id, 1, name)
        link = (await api.tcp.get(path(ACME, "jobs", job_id, "getdownloadurl"), headers=await api.bearer())).json()
        middle = slice(FILE_BLOCK_BYTES // 2, 2 * FILE_BLOCK_BYTES)
        files = RecordingExecutor(monkeypatch)

        whole = await api.tcp.get(link["url"])
        assert (whole.status_code, whole.content) == (200, content)
        assert files.calls() == ["open", "read", "read", "read", "close"]
        some = await api.tcp.get(link["url"], headers={"range": f"bytes={middle.start}-{middle.stop - 1}"})
        assert (some.status_code, some.content) == (206, content[middle])
        assert files.calls() == ["open", "seek", "read", "read", "close"]

        second = name.replace(".csv", ".0002.csv")
        (api.folder / job_id / second).write_bytes(b"")
        await _add_part(api, job_id, 2, second)
        answer = await api.tcp.get(link["url"])
        with ZipFile(BytesIO(answer.content)) as archive:
            assert archive.read(archive.namelist()[0]) == content
        assert files.calls()[:6] == ["open", *["read"] * 4, "close"]

    async def test_small_parts_in_one_file_are_handed_out_as_files(self, api: ApiServer) -> None:
        (job_id,) = await _jobs(api, 1)
        await api.pool.execute("UPDATE exportd.job SET state = 'SUCCEEDED', spool_id = $1", SPOOL)
        folder = api.folder / job_id
        folder.mkdir()
        names = [f"{job_id}_accounts.csv.gz", f"{job_id}_accounts.0002.csv.gz", f"{job_id}_accounts.0003.csv.gz"]
        contents = [random.Random(number).randbytes(1000 * number) for number in (1, 2, 3)]
        journal = JournalKeeper(api.folder)
        await anyio.to_thread.run_sync(journal.open)
        small_parts = SmallPartsWriter(folder, journal)
        for name, content in zip(names[:2], contents, strict=False):
            small_parts.add(name, content)
        await anyio.to_thread.run_sync(small_parts.finish)
        await anyio.to_thread.run_sync(journal.drop)
        (folder / names[2]).write_bytes(contents[2])
        (folder / "manifest.json").write_bytes(b"{}")
        for number, name in enumerate(names, start=1):
            await _add_part(api, job_id, number, name)

        for name, content in zip(names, contents, strict=True):
            route = f"/v1/jobs/{job_id}/files/{name}"
            whole = await api.http.get(route)
            assert (whole.status_code, whole.content) == (200, content)
            assert whole.headers["content-length"] == str(len(content))
            assert name in whole.headers["content-disposition"]
            for header, wanted in (
                ("bytes=10-99", content[10:100]),
                ("bytes=990-", content[990:]),
                ("bytes=-7", content[-7:]),
                ("bytes=0-99999", content),
            ):
                some = await api.http.get(route, headers={"range": header})
                assert (some.status_code, some.content) == (206, wanted)
            beyond = await api.http.get(route, headers={"range": f"bytes={len(content)}-"})
            assert beyond.status_code == 416
        link = (await api.tcp.get(path(ACME, "jobs", job_id, "getdownloadurl"), headers=await api.bearer())).json()
        with ZipFile(BytesIO((await api.tcp.get(link["url"])).content)) as archive:
            assert [archive.read(member) for member in archive.namelist()] == [*contents, b"{}"]

        (folder / ARCHIVE_NAME).unlink()
        gone = await api.http.get(f"/v1/jobs/{job_id}/files/{names[0]}")
        assert (gone.status_code, "has been removed" in gone.json()["message"]) == (404, True)

    @pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "secret", "x_accounts.csv.gz"])
    async def test_a_row_that_names_another_file_hands_out_nothing(self, api: ApiServer, name: str) -> None:
        (job_id,) = await _jobs(api, 1)
        await api.pool.execute("UPDATE exportd.job SET state = 'SUCCEEDED', spool_id = $1", SPOOL)
        (api.folder / job_id).mkdir()
        (api.folder / "secret").write_bytes(b"secret")
        (api.folder / job_id / "secret").write_bytes(b"secret")
        await _add_part(api, job_id, 1, name)
        answer = await api.tcp.get(path(ACME, "jobs", job_id, "getdownloadurl"), headers=await api.bearer())
        got = await api.tcp.get(answer.json()["url"])
        assert got.status_code == 500
        assert b"secret" not in got.content.replace(name.encode(), b"")

    async def test_a_link_is_good_without_credentials_until_it_expires(self, api: ApiServer) -> None:
        (job_id,) = await _jobs(api, 1)
        await api.pool.execute("UPDATE exportd.job SET state = 'SUCCEEDED', spool_id = $1", SPOOL)
        (api.folder / job_id).mkdir()
        (api.folder / job_id / "manifest.json").write_bytes(b"{}")
        answer = await api.tcp.get(path(ACME, "jobs", job_id, "getdownloadurl"), headers=await api.bearer())
        url, expires_at = answer.json()["url"], datetime.fromisoformat(answer.json()["expirationTime"])
        assert timedelta(minutes=14) < expires_at - datetime.now(UTC) <= timedelta(minutes=15)
        got = await api.tcp.get(url)
        assert (got.status_code, got.headers["content-type"]) == (200, "application/zip")
        assert job_id in got.headers["content-disposition"]
        with ZipFile(BytesIO(got.content)) as archive:
            assert archive.read(f"orgId={ACME}/_manifests/{job_id}.json") == b"{}"
        late = api.using.signer.sign("download", {"job": job_id, "until": datetime.now(UTC).timestamp() - 1})
        for forged in (url[:-1] + ("A" if url[-1] != "A" else "B"), f"/downloads/{late}", "/downloads/x"):
            refused = await api.tcp.get(forged)
            assert refused.status_code == 403
            assert "getdownloadurl" in refused.json()["message"]
