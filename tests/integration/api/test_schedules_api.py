"""Schedules, with the official client where it can say what is meant."""

import asyncio
from typing import Any

import httpx
import m3ter
import pytest
from m3ter import AsyncM3ter, M3ter

from exportd.model.schedule import Origin
from tests.integration.api.request_bodies import bucket, schedule
from tests.integration.api.standalone_api import ACME, ApiServer, path
from tests.integration.schedules.postgres_schedules import declare


def extra(body: dict[str, Any]) -> dict[str, Any]:
    """What the client has no arguments for."""
    return {key: value for key, value in body.items() if key not in {"sourceType", "operationalDataTypes", "version"}}


def create(client: M3ter, body: dict[str, Any]) -> Any:
    return client.data_exports.schedules.create(
        operational_data_types=body["operationalDataTypes"], source_type="OPERATIONAL", extra_body=extra(body)
    )


async def test_the_official_client_leads_a_schedule_through_its_life(api: ApiServer) -> None:
    def live(client: M3ter) -> None:
        schedules = client.data_exports.schedules
        created = create(client, schedule(exportFileFormat="JSONL"))
        assert (created.version, created.operational_data_types) == (1, ["ACCOUNTS", "BILLS"])
        assert created.model_extra["scheduleType"] == "DAY"
        assert created.model_extra["createdBy"].startswith("unix:")
        assert schedules.retrieve(created.id) == created

        updated: Any = schedules.update(
            created.id,
            operational_data_types=["BILLS", "PLANS"],
            source_type="OPERATIONAL",
            version=1,
            extra_body={"name": "Renamed", "code": "other", "cronExpression": "*/30 * * * *"},
        )
        assert (updated.version, updated.operational_data_types) == (2, ["BILLS", "PLANS"])
        (listed,) = schedules.list().data
        assert (listed.code, listed.cron_expression, listed.schedule_type, listed.period) == (
            "other",
            "*/30 * * * *",
            None,
            None,
        )
        assert listed.export_file_format == "CSV"  # left out: not set any more
        assert listed.dt_last_modified is not None and listed.dt_created is not None
        assert listed.dt_last_modified >= listed.dt_created
        assert schedules.delete(created.id).version == 2
        assert schedules.list().data == []
        with pytest.raises(m3ter.NotFoundError):
            schedules.delete(created.id)

    await api.official(live)
    actions = [action for _, action in await api.audit()]
    assert actions == ["schedule created", "schedule edited", "schedule deleted"]


async def test_a_new_schedule_is_due_at_once_and_belongs_to_the_api(api: ApiServer) -> None:
    await api.http.post(path(ACME, "schedules"), json=schedule())
    (found,) = await api.schedules.all()
    assert found.next_due_at == found.created_at
    assert found.origin is Origin.API
    await api.schedules.reconcile([declare("declared")], now=api.using.clock.now())
    assert {listed.declaration.code for listed in await api.schedules.all()} == {"nightly", "declared"}
    await api.schedules.reconcile([], now=api.using.clock.now())
    assert {listed.declaration.code for listed in await api.schedules.all()} == {"nightly"}


async def test_what_the_configuration_declares_is_shown_and_not_edited(api: ApiServer) -> None:
    await api.schedules.reconcile([declare("declared")], now=api.using.clock.now())
    (listed,) = (await api.http.get(path(ACME, "schedules"))).json()["data"]
    assert (listed["code"], listed["createdBy"]) == ("declared", "configuration")
    for answer in (
        await api.http.delete(path(ACME, "schedules", listed["id"])),
        await api.http.put(path(ACME, "schedules", listed["id"]), json=schedule(version=1)),
    ):
        assert answer.status_code == 403
        assert "configuration" in answer.json()["message"]


async def test_the_configuration_takes_over_what_it_declares(api: ApiServer) -> None:
    created = (await api.http.post(path(ACME, "schedules"), json=schedule("nightly"))).json()
    await api.schedules.reconcile([declare("nightly")], now=api.using.clock.now())
    shown = (await api.http.get(path(ACME, "schedules", created["id"]))).json()
    assert (shown["version"], shown["name"], shown["lastModifiedBy"]) == (2, "The nightly one", "configuration")
    assert (await api.http.delete(path(ACME, "schedules", created["id"]))).status_code == 403


class TestVersions:
    async def test_a_stale_one_is_told_once_and_not_tried_again(self, api: ApiServer) -> None:
        created = (await api.http.post(path(ACME, "schedules"), json=schedule())).json()
        seen: list[httpx.Request] = []

        def edit(client: M3ter) -> None:
            client._client.event_hooks = {"request": [seen.append]}
            with pytest.raises(m3ter.ConflictError, match="version 1, not 7"):
                client.data_exports.schedules.update(
                    created["id"],
                    operational_data_types=["PLANS"],
                    source_type="OPERATIONAL",
                    version=7,
                    extra_body=extra(schedule()),
                )

        await api.official(edit, retries=2)
        assert [request.method for request in seen] == ["POST", "PUT"]  # a token, and one attempt
        assert (await api.http.get(path(ACME, "schedules", created["id"]))).json() == created

    async def test_of_several_who_edit_the_same_one_wins(self, api: ApiServer) -> None:
        created = (await api.http.post(path(ACME, "schedules"), json=schedule())).json()
        answers = await asyncio.gather(
            *(
                api.http.put(path(ACME, "schedules", created["id"]), json=schedule(name=str(number), version=1))
                for number in range(6)
            )
        )
        assert sorted(answer.status_code for answer in answers) == [200, *[409] * 5]

    async def test_one_is_needed_to_edit(self, api: ApiServer) -> None:
        created = (await api.http.post(path(ACME, "schedules"), json=schedule())).json()
        answer = await api.http.put(path(ACME, "schedules", created["id"]), json=schedule())
        assert (answer.status_code, answer.json()) == (400, {"message": "version: is missing"})

    async def test_what_a_client_read_may_be_sent_back(self, api: ApiServer) -> None:
        created = (await api.http.post(path(ACME, "schedules"), json=schedule(version=9, id="mine"))).json()
        assert created["version"] == 1
        answer = await api.http.put(path(ACME, "schedules", created["id"]), json={**created, "name": "New"})
        assert (answer.status_code, answer.json()["version"], answer.json()["name"]) == (200, 2, "New")


class TestPages:
    async def test_cover_the_list_newest_first_without_gap_or_repetition(self, api: ApiServer) -> None:
        codes = [f"s{number}" for number in range(7)]
        for code in codes:
            await api.http.post(path(ACME, "schedules"), json=schedule(code))

        def read(client: M3ter) -> list[str | None]:
            return [listed.code for listed in client.data_exports.schedules.list(page_size=3)]

        assert await api.official(read) == codes[::-1]
        for size, pages in ((1, 7), (7, 1), (6, 2), (100, 1)):
            assert await self._walk(api, size) == (codes[::-1], pages)

    async def test_are_read_by_the_asynchronous_client_too(self, api: ApiServer) -> None:
        for code in ("a", "b", "c"):
            await api.http.post(path(ACME, "schedules"), json=schedule(code))
        token = (
            await api.http.post("/oauth/token", auth=("local", "-"), data={"grant_type": "client_credentials"})
        ).json()["access_token"]
        async with AsyncM3ter(
            api_key="-",
            api_secret="-",
            token=token,
            org_id=ACME,
            base_url="http://localhost",
            _strict_response_validation=True,
            http_client=api.http,
        ) as client:
            found = [listed.code async for listed in client.data_exports.schedules.list(page_size=2)]
        assert found == ["c", "b", "a"]

    async def test_can_be_filtered_by_ids(self, api: ApiServer) -> None:
        ids = [(await api.http.post(path(ACME, "schedules"), json=schedule(code))).json()["id"] for code in "abc"]

        def read(client: M3ter) -> list[str]:
            return [listed.id for listed in client.data_exports.schedules.list(ids=[ids[0], ids[2], "nonsense"])]

        assert await api.official(read) == [ids[2], ids[0]]
        repeated = await api.http.get(path(ACME, "schedules"), params={"ids": [ids[0], ids[1]]})
        assert [listed["id"] for listed in repeated.json()["data"]] == [ids[1], ids[0]]
        assert len((await api.http.get(path(ACME, "schedules"), params={"ids": ""})).json()["data"]) == 3
        assert (await api.http.get(path(ACME, "schedules"), params={"ids": "nonsense"})).json()["data"] == []

    async def _walk(self, api: ApiServer, size: int) -> tuple[list[str], int]:
        codes, pages, token = [], 0, None
        while pages == 0 or token:
            params = {"pageSize": size, **({"nextToken": token} if token else {})}
            answer = (await api.http.get(path(ACME, "schedules"), params=params)).json()
            assert answer["data"]
            codes += [listed["code"] for listed in answer["data"]]
            token, pages = answer["nextToken"], pages + 1
        return codes, pages


SPOILT: list[tuple[dict[str, Any], str]] = [
    ({"sourceType": "USAGE"}, "USAGE is not exported"),
    ({"sourceType": "usage"}, "sourceType: should be one of OPERATIONAL"),
    ({"name": ""}, "name: should be at least 1 characters"),
    ({"name": None}, "name: is missing"),
    ({"code": "x" * 81}, "code: should have at most 80"),
    ({"code": " nightly"}, "code: should have no control characters"),
    ({"code": "tab\tinside"}, "code: should have no control characters"),
    ({"operationalDataTypes": []}, "operationalDataTypes: should be a list of at least 1"),
    ({"operationalDataTypes": "ACCOUNTS"}, "operationalDataTypes: should be a list"),
    ({"operationalDataTypes": ["ACOUNTS"]}, "did you mean ACCOUNTS?"),
    ({"operationalDataTypes": ["PLANS", "PLANS"]}, "PLANS is named twice"),
    ({"operationalDataTypes": [7]}, "operationalDataTypes[0]: should be a text"),
    ({"scheduleType": "HOURLY"}, "scheduleType: should be one of HOUR, DAY or MINUTE"),
    ({"scheduleType": "AD_HOC"}, "scheduleType: should be one of"),
    ({"period": 0}, "period: should be at least 1"),
    ({"period": 4}, "the period must be 1 to 3"),
    ({"period": 10**30}, "the period must be 1 to 3"),
    ({"period": 1.5}, "period: should be a whole number"),
    ({"period": "1"}, "period: should be a whole number"),
    ({"period": True}, "period: should be a whole number"),
    ({"offset": 0}, "offset: should be at least 1"),
    ({"offset": 24}, "the offset must be 1 to 23"),
    ({"scheduleType": "MINUTE", "period": 30}, "an offset means nothing"),
    ({"scheduleType": "MINUTE", "period": 14, "offset": None}, "the period must be 15 to 4320"),
    ({"period": None}, "(period missing)"),
    ({"cronExpression": "0 2 * * *"}, "give either cronExpression or scheduleType and period"),
    ({"scheduleType": None, "period": None, "offset": None}, "(scheduleType and period missing)"),
    (
        {"scheduleType": None, "period": None, "offset": None, "cronExpression": "* * * * *"},
        "fires too soon",
    ),
    ({"scheduleType": None, "period": None, "offset": None, "cronExpression": "@daily"}, "not five fields"),
    ({"exportFileFormat": "PARQUET"}, "exportFileFormat: should be one of CSV or JSONL"),
    ({"destinationIds": ["lake"]}, "there is no destination 'lake'"),
    ({"destinationIds": ["5d1e0000-0000-4000-8000-000000000000"]}, "there is no destination 5d1e"),
    ({"destinationIds": {}}, "destinationIds: should be a list, but is an object"),
    ({"colour": "red"}, 'unknown field "colour"'),
    ({"entities": None}, 'unknown field "entities"'),
    ({"name": "x\x00y"}, "NUL"),
]
"""What is changed in a good schedule, and what the answer then says."""


async def test_what_cannot_be_a_schedule_is_refused_in_a_sentence(api: ApiServer) -> None:
    for spoilt, words in SPOILT:
        answer = await api.http.post(path(ACME, "schedules"), json=schedule(**spoilt))
        assert (answer.status_code, list(answer.json())) == (400, ["message"]), spoilt
        assert words in answer.json()["message"], spoilt
    assert await api.schedules.all() == []
    assert await api.audit() == []


async def test_a_code_is_unique_within_an_organization_alone(api: ApiServer) -> None:
    await api.http.post(path(ACME, "schedules"), json=schedule())
    again = await api.http.post(path(ACME, "schedules"), json=schedule())
    assert again.status_code == 400
    assert "code" in again.json()["message"]
    assert (await api.http.post(path("other", "schedules"), json=schedule())).status_code == 200
    second = (await api.http.post(path(ACME, "schedules"), json=schedule("second"))).json()
    renamed = await api.http.put(path(ACME, "schedules", second["id"]), json=schedule(version=1))
    assert renamed.status_code == 400
    await api.http.delete(path(ACME, "schedules", second["id"]))
    assert (await api.http.post(path(ACME, "schedules"), json=schedule("second"))).status_code == 200


async def test_of_several_who_take_a_code_one_gets_it(api: ApiServer) -> None:
    answers = await asyncio.gather(*(api.http.post(path(ACME, "schedules"), json=schedule()) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [200, *[400] * 5]


async def test_destinations_are_shown_in_their_order(api: ApiServer) -> None:
    ids = [(await api.http.post(path(ACME, "destinations"), json=bucket(code))).json()["id"] for code in ("a", "b")]
    created = await api.http.post(path(ACME, "schedules"), json=schedule(destinationIds=ids[::-1]))
    assert created.json()["destinationIds"] == ids[::-1]
    twice = await api.http.post(path(ACME, "schedules"), json=schedule("two", destinationIds=[ids[0], ids[0]]))
    assert (twice.status_code, "twice" in twice.json()["message"]) == (400, True)
