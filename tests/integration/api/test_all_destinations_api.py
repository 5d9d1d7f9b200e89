"""What operators see of the destinations of every organization."""

from uuid import uuid4

from exportd.destinations.record import DestinationDeclaration
from exportd.model.entity import OrganizationId
from exportd.model.schedule import DestinationCode
from tests.integration.api.made_objects import got, make
from tests.integration.api.request_bodies import bucket
from tests.integration.api.standalone_api import ACME, ApiServer

OTHER = "other"


class TestSortedDestinations:
    async def test_by_what_they_received_last_and_by_what_failed_last(self, api: ApiServer) -> None:
        first, second, third = ("a", "b", "c")
        ids = [(await make(api, "destinations", bucket(code)))["id"] for code in (first, second, third)]
        names = dict(zip(ids, (first, second, third), strict=True))
        elsewhere = await api.http.post("/organizations/other/dataexports/destinations", json=bucket(first))
        assert elsewhere.is_success
        insert = """
            WITH ended AS (
                INSERT INTO exportd.job
                    (organization, due_at, entities, format, destinations, state, reason, finished_at)
                VALUES
                    ($1, now(), '{ACCOUNTS}', 'CSV', ARRAY[$2::text], $3::text::exportd.job_state, $4,
                     now() - make_interval(mins => $5))
                RETURNING id, finished_at)
            INSERT INTO exportd.delivery (job_id, destination, manifest_sha256, published_at)
            SELECT id, $2, '', finished_at FROM ended WHERE $3 = 'SUCCEEDED'"""
        for organization, code, reason, minutes_ago in (
            *((ACME, first, None, 30), (ACME, second, None, 40), ("other", first, None, 10)),
            *((ACME, first, "DESTINATION_REFUSED", 20), (ACME, third, "DESTINATION_UNAVAILABLE", 50)),
            (ACME, second, "SPOOL_FULL", 5),
        ):
            state = "FAILED" if reason else "SUCCEEDED"
            await api.pool.execute(insert, organization, code, state, reason, minutes_ago)

        async def order(**query: str) -> str:
            page = await got(api, "/v1/destinations", organization=ACME, **query)
            return "".join(names[shown["id"]] for shown in page["data"])

        assert await order(sort="lastSuccess") == "bac"
        assert await order(sort="lastSuccess", descending="true") == "abc"
        assert await order(sort="lastFailure") == "cab"
        assert await order(sort="lastFailure", descending="true") == "acb"


class TestDestinations:
    async def test_can_be_searched_by_name_code_and_bucket(self, api: ApiServer) -> None:
        await make(api, "destinations", bucket())
        await make(api, "destinations", bucket("other", name="Elsewhere", bucketName="theirs"))
        for text in ("LAKE", "acme-EX"):
            assert [found["code"] for found in (await got(api, "/v1/destinations", search=text))["data"]] == ["lake"]

    async def test_are_those_of_the_organization_with_more_about_them(self, api: ApiServer) -> None:
        made = await make(api, "destinations", bucket(prefix="daily"))
        await api.http.post(f"/v1/destinations/{made['id']}/pause")
        (listed,) = (await got(api, "/v1/destinations"))["data"]
        assert listed == await got(api, f"/v1/destinations/{made['id']}")
        more = {"organization", "origin", "place", "paused"}
        assert {name: value for name, value in listed.items() if name not in more} == made
        assert (listed["organization"], listed["origin"]) == (ACME, "API")
        assert listed["place"] == "s3://acme-exports/daily"
        assert listed["paused"]["by"].startswith("unix:")

    async def test_that_are_directories_have_their_type_here(self, api: ApiServer) -> None:
        declared = DestinationDeclaration(
            OrganizationId(ACME), DestinationCode("shelf"), "Shelf", {"type": "DIRECTORY", "directory": "/srv/shelf"}
        )
        await api.using.destinations.table.reconcile([declared], now=api.using.clock.now())
        (listed,) = (await got(api, "/v1/destinations", organization=ACME))["data"]
        assert [listed[name] for name in ("destinationType", "place", "origin")] == [
            *("DIRECTORY", "/srv/shelf", "CONFIGURATION"),
        ]
        assert (await got(api, "/v1/destinations", organization=OTHER))["data"] == []

    async def test_that_do_not_exist_are_404(self, api: ApiServer) -> None:
        for wrong in (uuid4(), "lake"):
            answer = await api.http.get(f"/v1/destinations/{wrong}")
            assert (answer.status_code, "There is no destination" in answer.json()["message"]) == (404, True)
