"""Destinations, with the official client where it can say what is meant."""

from typing import Any
from uuid import UUID

import m3ter
import pytest
from m3ter import M3ter

from exportd.api.identity.client_table import Role
from exportd.destinations.checker import MAX_CHECKS
from exportd.destinations.record import DestinationDeclaration
from exportd.destinations.table import DestinationTable
from exportd.model.entity import OrganizationId
from exportd.model.errors import PermanentError, Reason
from exportd.model.schedule import DestinationCode
from exportd.settings.schema import QuotaSettings
from tests.integration.api.request_bodies import ROLE, bucket, gcs_bucket, schedule
from tests.integration.api.standalone_api import ACME, ApiServer, declared_shelf, path

ID = "00000000-0000-4000-8000-00000000000a"


async def test_the_official_client_leads_destinations_through_their_lives(api: ApiServer) -> None:
    def live(client: M3ter) -> None:
        destinations = client.data_exports.destinations
        s3 = destinations.create(
            bucket_name="acme-exports",
            iam_role_arn=ROLE,
            prefix="m3",
            partition_order="TYPE_FIRST",
            destination_type="S3",
            extra_body={"name": "The lake", "code": "lake"},
        )
        assert type(s3).__name__ == "ExportDestinationS3Response"
        assert (s3.version, s3.prefix, s3.partition_order) == (1, "m3", "TYPE_FIRST")
        gcs = destinations.create(
            bucket_name="acme-gcs",
            pool_id="pool",
            project_number="1",
            provider_id="provider",
            destination_type="GCS",
            extra_body={"name": "The other", "code": "gcs"},
        )
        assert type(gcs).__name__ == "ExportDestinationGoogleCloudStorageResponse"
        assert destinations.retrieve(gcs.id).to_dict() == gcs.to_dict()
        updated = destinations.update(
            s3.id,
            bucket_name="acme-exports",
            iam_role_arn=ROLE,
            destination_type="S3",
            version=1,
            extra_body={"name": "Renamed", "code": "lake"},
        )
        assert (updated.version, getattr(updated, "prefix", None)) == (2, None)
        assert [listed.code for listed in destinations.list(page_size=1)] == ["gcs", "lake"]
        assert [listed.code for listed in destinations.list(ids=[s3.id])] == ["lake"]
        assert destinations.delete(s3.id).version == 2
        with pytest.raises(m3ter.NotFoundError):
            destinations.retrieve(s3.id)

    await api.official(live)
    assert [action for _, action in await api.audit()] == [
        *["destination created"] * 2,
        "destination edited",
        "destination deleted",
    ]


async def test_a_document_has_all_its_keys_but_those_of_the_other_kind(api: ApiServer) -> None:
    common = {"id", "version", "name", "code", "destinationType", "dtCreated", "dtLastModified", "createdBy"}
    common |= {"lastModifiedBy", "prefix", "partitionOrder", "emptyFiles", "bucketName"}
    more = {"organization", "origin", "place", "paused"}
    for body, own in (
        (bucket(prefix=None), {"iamRoleArn"}),
        (gcs_bucket(serviceAccountEmail=None), {"projectNumber", "poolId", "providerId"}),
    ):
        made = (await api.http.post(path(ACME, "destinations"), json=body)).json()
        assert (made.keys(), made["prefix"]) == (common | own, None)
        shown = (await api.http.get(f"/v1/destinations/{made['id']}")).json()
        assert (shown.keys(), shown["paused"]) == (common | own | more, None)
        kept = await api.http.put(path(ACME, "destinations", made["id"]), json=made)
        assert (kept.status_code, kept.json()["version"]) == (200, 2), "what was read may be sent back"


async def test_what_was_made_can_be_delivered_to_at_once(api: ApiServer) -> None:
    def there() -> bool:
        try:
            return api.destinations.get(OrganizationId(ACME), DestinationCode("lake")) is not None
        except PermanentError:
            return False

    assert not there()
    made = (await api.http.post(path(ACME, "destinations"), json=bucket())).json()
    assert there()
    await api.http.put(path(ACME, "destinations", made["id"]), json=bucket(bucketName="elsewhere", version=1))
    assert api.opened[-1].settings["bucket"] == "elsewhere"
    await api.http.delete(path(ACME, "destinations", made["id"]))
    assert not there()


async def test_the_type_is_told_by_the_fields_when_it_is_left_out(api: ApiServer) -> None:
    for body, kind in ((bucket(destinationType=None), "S3"), (gcs_bucket(destinationType=None), "GCS")):
        answer = await api.http.post(path(ACME, "destinations"), json=body)
        assert (answer.status_code, answer.json()["destinationType"]) == (200, kind)


SPOILT: list[tuple[dict[str, Any], str]] = [
    (bucket(destinationType="FTP"), "destinationType should be S3 or GCS"),
    (bucket(destinationType=None, iamRoleArn=None), "destinationType should be S3 or GCS"),
    (bucket(destinationType=7), "destinationType should be S3 or GCS"),
    (bucket(destinationType="GCS"), "projectNumber: is missing"),
    (bucket(name=""), "name: should be at least 1"),
    (bucket(name="x" * 201), "name: should be at most 200"),
    (bucket(bucketName="ab"), "bucketName: should be at least 3"),
    (bucket(bucketName="a" * 64), "bucketName: should be at most 63"),
    (bucket(iamRoleArn="arn:aws:iam::x:role/exports"), "iamRoleArn: should be the ARN of a role"),
    (bucket(iamRoleArn="arn:aws:iam::123:user/exports"), "iamRoleArn: should be the ARN of a role"),
    (bucket(prefix="../elsewhere"), "prefix: should be a plain relative path"),
    (bucket(prefix="/a"), "prefix: should be a plain relative path"),
    (bucket(partitionOrder="RANDOM"), "partitionOrder: should be one of TIME_FIRST or TYPE_FIRST"),
    (bucket(emptyFiles="no"), "emptyFiles: should be true or false"),
    (bucket(poolId="pool"), 'unknown field "poolId"'),
    (bucket(code="a\nb"), "code: should have no control characters"),
    (gcs_bucket(projectNumber=123), "projectNumber: should be a text"),
    (gcs_bucket(poolId=""), "poolId: should be at least 1"),
    ({}, "destinationType should be S3 or GCS"),
]


async def test_what_cannot_be_a_destination_is_refused_in_a_sentence(api: ApiServer) -> None:
    for body, words in SPOILT:
        answer = await api.http.post(path(ACME, "destinations"), json=body)
        assert (answer.status_code, list(answer.json())) == (400, ["message"]), body
        assert words in answer.json()["message"], body
    assert await api.using.destinations.table.all() == []


async def test_one_that_a_schedule_uses_stays(api: ApiServer) -> None:
    made = (await api.http.post(path(ACME, "destinations"), json=bucket())).json()
    using = (await api.http.post(path(ACME, "schedules"), json=schedule(destinationIds=[made["id"]]))).json()
    refused = await api.http.delete(path(ACME, "destinations", made["id"]))
    assert refused.status_code == 400
    assert "'nightly'" in refused.json()["message"]
    await api.http.put(path(ACME, "schedules", using["id"]), json=schedule(version=1))
    assert (await api.http.delete(path(ACME, "destinations", made["id"]))).status_code == 200


async def test_code_and_type_stay(api: ApiServer) -> None:
    made = (await api.http.post(path(ACME, "destinations"), json=bucket())).json()
    for body in (bucket("other", version=1), gcs_bucket("lake", version=1)):
        refused = await api.http.put(path(ACME, "destinations", made["id"]), json=body)
        assert refused.status_code == 400
        assert "Create another destination" in refused.json()["message"]
    stale = await api.http.put(path(ACME, "destinations", made["id"]), json=bucket(version=2))
    assert (stale.status_code, stale.headers["x-should-retry"]) == (409, "false")


async def test_another_place_makes_the_next_run_of_its_schedules_full(api: ApiServer) -> None:
    made = (await api.http.post(path(ACME, "destinations"), json=bucket())).json()
    using = (await api.http.post(path(ACME, "schedules"), json=schedule(destinationIds=[made["id"]]))).json()

    async def has_it() -> list[str]:
        found: list[str] = await api.pool.fetchval("SELECT destinations FROM exportd.position")
        return found

    await api.pool.execute(
        """INSERT INTO exportd.position (schedule_id, entity, job_id, snapshot, taken_at, guards, destinations)
           VALUES ($1, 'ACCOUNTS', gen_random_uuid(), '10:20:', now(), '{}', '{attic,lake}')""",
        using["id"],
    )
    await api.http.put(path(ACME, "destinations", made["id"]), json=bucket(name="Renamed", version=1))
    assert await has_it() == ["attic", "lake"]
    await api.http.put(path(ACME, "destinations", made["id"]), json=bucket(prefix="elsewhere", version=2))
    assert await has_it() == ["attic"]


async def test_a_place_is_not_moved_under_a_job(api: ApiServer) -> None:
    made = (await api.http.post(path(ACME, "destinations"), json=bucket())).json()
    asked = {"sourceType": "OPERATIONAL", "operationalDataTypes": ["PLANS"], "destinationIds": [made["id"]]}
    job = (await api.http.post(path(ACME, "adhoc"), json=asked)).json()["jobId"]
    moved = await api.http.put(path(ACME, "destinations", made["id"]), json=bucket(prefix="elsewhere", version=1))
    deleted = await api.http.delete(path(ACME, "destinations", made["id"]))
    for refused in (moved, deleted):
        assert refused.status_code == 400
        assert job in refused.json()["message"]
    await api.pool.execute("UPDATE exportd.job SET state = 'SUCCEEDED'")
    assert (await api.http.delete(path(ACME, "destinations", made["id"]))).status_code == 200


async def test_what_the_configuration_declares_is_shown_and_not_edited(api: ApiServer) -> None:
    declared = DestinationDeclaration(
        OrganizationId(ACME),
        DestinationCode("share"),
        "Share",
        {"type": "DIRECTORY", "directory": "/mnt", "prefix": ""},
    )
    table = api.using.destinations.table
    await table.reconcile([declared], now=api.using.clock.now())

    def read(client: M3ter) -> str:
        (listed,) = client.data_exports.destinations.list()
        assert listed.destination_type is None
        assert client.data_exports.destinations.retrieve(listed.id).code == "share"
        return listed.id

    found = await api.official(read)
    assert (await api.http.delete(path(ACME, "destinations", found))).status_code == 403
    assert (await api.http.put(path(ACME, "destinations", found), json=bucket(version=1))).status_code == 403
    made = (await api.http.post(path(ACME, "destinations"), json=bucket())).json()
    await table.reconcile([], now=api.using.clock.now())
    assert [listed["id"] for listed in (await api.http.get(path(ACME, "destinations"))).json()["data"]] == [made["id"]]


async def test_what_another_daemon_made_is_opened_too(api: ApiServer) -> None:
    declared = DestinationDeclaration(
        OrganizationId(ACME), DestinationCode("lake"), "Lake", {"type": "S3", "bucket": "acme-exports"}
    )
    await api.using.destinations.table.create(declared, actor="elsewhere", now=api.using.clock.now())
    with pytest.raises(PermanentError):
        api.destinations.get(OrganizationId(ACME), DestinationCode("lake"))
    await api.using.destinations.live.refresh()
    assert api.destinations.get(OrganizationId(ACME), DestinationCode("lake")).code == "lake"
    before = len(api.opened)
    await api.using.destinations.live.refresh()
    assert len(api.opened) == before


class TestChecks:
    async def test_try_everything_and_leave_nothing(self, api: ApiServer) -> None:
        found = (await api.http.post(f"/v1/destinations/{await declared_shelf(api)}/check")).json()
        assert (found["verdict"], found["code"], found["destinationType"]) == ("GOOD", "shelf", "DIRECTORY")
        states = {permission["permission"]: permission["state"] for permission in found["permissions"]}
        assert (states["WRITE"], states["UPLOAD"], set(states.values())) == ("THERE", "THERE", {"THERE"})
        assert "mkdir -p" in found["grants"][0]["text"]
        assert not [place for place in (api.folder / f"shelf of {ACME}").rglob("*") if place.is_file()]

    async def test_say_what_is_missing_and_what_is_lost_without(self, api: ApiServer) -> None:
        shelf = await declared_shelf(api)
        (api.folder / f"shelf of {ACME}").rmdir()
        found = (await api.http.post(f"/v1/destinations/{shelf}/check")).json()
        written = found["permissions"][0]
        assert (found["verdict"] != "GOOD", written["permission"], written["required"]) == (True, "WRITE", True)
        assert f"shelf of {ACME}" in written["sentence"]
        assert written["lostWithout"]

    async def test_are_for_operators_of_the_organization_and_policies_for_its_readers(self, api: ApiServer) -> None:
        ours, theirs = [
            (await api.http.post(path(organization, "destinations"), json=gcs_bucket())).json()["id"]
            for organization in (ACME, "other")
        ]
        operator, reader = await api.bearer(), await api.bearer(role=Role.READER)
        granted = await api.tcp.get(f"/v1/destinations/{ours}/grants", headers=reader)
        assert "gs://acme-gcs" in granted.json()["data"][0]["text"]
        assert (await api.tcp.post(f"/v1/destinations/{ours}/check", headers=reader)).status_code == 403
        for method, verb, headers in (("GET", "grants", reader), ("POST", "check", operator)):
            hidden = await api.tcp.request(method, f"/v1/destinations/{theirs}/{verb}", headers=headers)
            missing = await api.tcp.request(method, f"/v1/destinations/{ID}/{verb}", headers=headers)
            assert (hidden.status_code, hidden.text.replace(theirs, ID)) == (404, missing.text)
            shelf = await declared_shelf(api)
            refused = await api.tcp.request(method, f"/v1/destinations/{shelf}/{verb}", headers=headers)
            assert (refused.status_code, "a directory of the machine" in refused.text) == (403, True)
        assert "destination checked" not in [action for _, action in await api.audit()]

    async def test_come_one_after_the_other_and_count_as_changes(self, api: ApiServer) -> None:
        shelf = await declared_shelf(api)
        object.__setattr__(api.using.destinations.checker, "_running", MAX_CHECKS)
        busy = await api.http.post(f"/v1/destinations/{shelf}/check")
        assert (busy.status_code, "Try again later" in busy.json()["message"]) == (503, True)
        quotas = QuotaSettings.model_validate({"changes_per_hour": 1})
        table = DestinationTable(api.pool, quotas)
        with pytest.raises(PermanentError) as refused:
            await table.note_check(None, UUID(shelf), actor="unix:ann")
        assert refused.value.reason is Reason.QUOTA_BUSY
