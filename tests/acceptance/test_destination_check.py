"""``exportd destination``: what is there, and whether it works."""

import asyncio
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.declarations import destination, gcs_destination, s3_destination
from tests.acceptance.destinations import GcsBucket, S3Bucket
from tests.acceptance.sample_application import CATALOG, ORGANIZATION, Application
from tests.fixtures.control_clients import official
from tests.fixtures.daemon import Site, files_in
from tests.fixtures.fault_proxy import FaultProxy
from tests.fixtures.faults import Answer, Rule, s3_error
from tests.fixtures.moto import MotoServer
from tests.fixtures.stores import PROFILE, aws_environment

EVERYTHING = {
    *("WRITE", "UPLOAD", "ABORT", "LOOK_AT_UPLOAD", "LIST_UPLOADS"),
    *("LOOK", "READ", "LIST", "DELETE"),
}
DONE, FAILED, USAGE, TRY_AGAIN = 0, 1, 2, 3


async def checked(site: Site, *arguments: str, code: int) -> dict[str, Any]:
    """What ``destination check`` says to programs."""
    outcome = await site.quickly("destination", "check", *arguments, "--json")
    assert outcome.returncode == code, outcome.stdout + outcome.stderr
    assert outcome.stderr == ""
    document: dict[str, Any] = json.loads(outcome.stdout)
    return document


def states(document: dict[str, Any], state: str) -> set[str]:
    return {permission["permission"] for permission in document["permissions"] if permission["state"] == state}


async def test_a_directory_is_checked_and_left_as_it_was(site: Site, application: Application) -> None:
    lake = site.destination()
    site.configure(CATALOG, {"destination": [destination("lake", lake, prefix="m3")]})
    outcome = await site.quickly("destination", "check", "lake")
    assert (outcome.returncode, outcome.stderr) == (DONE, "")
    first, *lines = outcome.stdout.splitlines()
    assert first == f"destination lake of {ORGANIZATION}: {lake}/m3"
    assert {line.split()[0] for line in lines} == {"ok", "rate"}
    assert files_in(lake) == set()


async def test_a_directory_that_is_not_there_comes_with_the_commands_that_make_it(
    site: Site, application: Application
) -> None:
    lake = site.folder / "not mounted"
    site.configure(CATALOG, {"destination": [destination("lake", lake)]})
    outcome = await site.quickly("destination", "check", "lake")
    assert outcome.returncode == FAILED
    assert "it does not exist" in outcome.stdout
    assert f"mkdir -p {shlex.quote(str(lake))}" in outcome.stdout
    assert not lake.exists()


async def test_a_bucket_has_all_that_is_wanted_and_keeps_nothing(
    site: Site, application: Application, empty_s3_bucket: S3Bucket
) -> None:
    site.configure(CATALOG, {"destination": [s3_destination("lake", empty_s3_bucket)]})
    document = await checked(site, "lake", code=DONE)
    assert states(document, "THERE") == EVERYTHING
    assert (document["verdict"], document["leftOver"], document["setting"]) == ("GOOD", [], None)
    assert document["megabytesPerSecond"] > 0
    assert (await empty_s3_bucket.delivered()).objects == {}
    assert await empty_s3_bucket.leftovers() == set()
    everything = await site.quickly("check")
    assert f"ok     destination lake of {ORGANIZATION}\n" in everything.stdout


async def test_a_bucket_of_google_that_only_lets_create_keeps_one_probe(
    site: Site, application: Application, empty_gcs_bucket: GcsBucket
) -> None:
    async with FaultProxy(empty_gcs_bucket.server.endpoint) as proxy:
        declared = gcs_destination("lake", empty_gcs_bucket, prefix="m3")
        site.configure(CATALOG, {"destination": [declared], "gcs": {"endpoint": proxy.endpoint}})
        document = await checked(site, "lake", code=DONE)
        assert states(document, "THERE") == EVERYTHING - {"LIST_UPLOADS"}
        assert (document["leftOver"], (await empty_gcs_bucket.delivered()).objects) == ([], {})
        refusal = Answer(403, b'{"error": {"code": 403, "message": "denied"}}', {"Content-Type": "application/json"})
        proxy.add(*(Rule(refusal, method, r"/b/[^/]+/o(/|\?|$)", times=None) for method in ("GET", "DELETE")))
        document = await checked(site, "lake", code=DONE)
    assert states(document, "MISSING") == {"LOOK", "READ", "LIST", "DELETE"}
    (left,), (key,) = document["leftOver"], (await empty_gcs_bucket.delivered()).objects
    assert left.startswith(f"the object {key} in ")
    assert "--role=roles/storage.objectUser" in document["grants"][0]["text"]


@pytest.mark.parametrize(
    ("refused", "setting"), [(1, 'checksum = "PIECES"'), (2, 'checksum = "NONE"'), (3, None)], ids=str
)
async def test_a_checksum_that_the_store_does_not_take_is_named(
    site: Site, application: Application, empty_s3_bucket: S3Bucket, refused: int, setting: str | None
) -> None:
    async with FaultProxy(empty_s3_bucket.account.endpoint) as proxy:
        declared = s3_destination("lake", empty_s3_bucket, endpoint=proxy.endpoint)
        site.configure(CATALOG, {"destination": [declared]})
        refusal = s3_error(400, "InvalidRequest", "Unknown checksum type.")
        # The first that is completed is so as it is declared, then come the weaker checksums.
        proxy.add(Rule(refusal, "POST", r"\?uploadId=", times=refused))
        document = await checked(site, "lake", code=FAILED)
    assert document["setting"] == setting
    assert states(document, "MISSING") == {"UPLOAD"}
    assert states(document, "THERE") == EVERYTHING - {"UPLOAD"}
    assert (await empty_s3_bucket.delivered()).objects == {}
    assert await empty_s3_bucket.leftovers() == set()


async def test_a_bucket_that_does_not_answer_is_out_of_reach(
    site: Site, application: Application, empty_s3_bucket: S3Bucket
) -> None:
    site.configure(CATALOG, {"destination": [s3_destination("lake", empty_s3_bucket, endpoint="http://127.0.0.1:9")]})
    document = await checked(site, "lake", code=TRY_AGAIN)
    assert states(document, "OUT_OF_REACH") == {"WRITE"}
    assert states(document, "NOT_TRIED") == EVERYTHING - {"WRITE"}
    assert [sentence.startswith("perhaps the object ") for sentence in document["leftOver"]] == [True]


async def test_a_bucket_that_is_not_there_is_named(
    site: Site, application: Application, empty_s3_bucket: S3Bucket
) -> None:
    site.configure(CATALOG, {"destination": [s3_destination("lake", S3Bucket(empty_s3_bucket.account, "missing"))]})
    document = await checked(site, "lake", code=FAILED)
    assert states(document, "MISSING") == {"WRITE", "UPLOAD"}
    assert all("create it, or correct `bucket`" in permission["sentence"] for permission in document["permissions"][:2])


async def test_a_role_without_rights_gets_its_policies_ready_to_paste(
    site: Site, application: Application, moto: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on AWS: an own identity that may only assume roles, and a role that may only write."""
    bucket = moto.create_bucket("acme-exports")
    writes = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    role = await moto.create_role("exports", writes, external_id=ORGANIZATION)
    user = await moto.create_user("exportd", {"Effect": "Allow", "Action": "sts:*", "Resource": "*"})
    await moto.enforce_policies()
    for name, value in aws_environment(user, tmp_path).items():
        monkeypatch.setenv(name, value)
    declared = s3_destination("lake", S3Bucket(moto, bucket), role_arn=role, prefix="m3", checksum="NONE")
    site.configure(CATALOG, {"destination": [declared], "s3": {"sts_endpoint": moto.endpoint, "profile": PROFILE}})
    document = await checked(site, "lake", code=DONE)
    assert states(document, "THERE") >= {"WRITE", "UPLOAD"}
    assert states(document, "MISSING") >= {"LOOK", "READ", "LIST", "DELETE"}
    # The role may not even give its own uploads up.
    *uploads, left = document["leftOver"]
    assert all(upload.startswith("an unfinished upload of ") for upload in uploads)
    assert left.startswith(f"the object m3/orgId={ORGANIZATION}/_probe/")
    policy, trust, _ = [json.loads(grant["text"]) for grant in document["grants"]]
    assert policy["Statement"][0]["Resource"] == f"arn:aws:s3:::{bucket}/m3/orgId={ORGANIZATION}/*"
    (allowed,) = trust["Statement"]
    assert allowed["Condition"] == {"StringEquals": {"sts:ExternalId": ORGANIZATION}}
    assert allowed["Principal"]["AWS"].endswith(":user/exportd")


async def test_what_the_api_made_is_listed_and_checked_too(
    site: Site, application: Application, empty_s3_bucket: S3Bucket
) -> None:
    account = empty_s3_bucket.account
    site.configure(
        CATALOG,
        {
            "destination": [destination("lake", site.destination())],
            "s3": {
                **{"endpoint": account.endpoint, "region": account.region, "profile": PROFILE},
                "sts_endpoint": "http://127.0.0.1:9",
            },
        },
    )
    daemon = await site.start()

    def make() -> None:
        with official(site.folder / "control.sock", ORGANIZATION) as client:
            client.data_exports.destinations.create(
                bucket_name=empty_s3_bucket.name,
                iam_role_arn="arn:aws:iam::111122223333:role/exports",
                extra_body={"name": "Bucket", "code": "bucket"},
            )

    await asyncio.to_thread(make)
    assert await daemon.stop() == 0
    listed = json.loads((await site.quickly("destination", "list", "--json")).stdout)
    assert [(found["code"], found["destinationType"], found["origin"]) for found in listed] == [
        ("lake", "DIRECTORY", "CONFIGURATION"),
        ("bucket", "S3", "API"),
    ]
    document = await checked(site, "bucket", "--organization", ORGANIZATION, code=TRY_AGAIN)
    assert document["place"] == f"s3://{empty_s3_bucket.name}"
    assert "placeholder" in document["grants"][1]["title"], "the identity is unknown"
    everything = await site.quickly("check")
    assert everything.returncode == FAILED
    assert f"fix    destination bucket of {ORGANIZATION}: write an object (s3:PutObject): " in everything.stdout


async def test_a_destination_is_checked_without_the_database_too(site: Site, application: Application) -> None:
    site.configure(
        CATALOG,
        {
            "database": {"dsn": "postgresql://unknown@127.0.0.1:9/nothing"},
            "destination": [destination("lake", site.destination())],
        },
    )
    outcome = await site.quickly("destination", "check", "lake")
    assert outcome.returncode == DONE
    assert outcome.stderr.startswith("exportd: Destinations made through the API are not known: ")


async def test_a_code_that_several_or_none_have_is_refused(site: Site, application: Application) -> None:
    lakes = [
        destination("lake", site.destination("one")),
        destination("lake", site.destination("two"), organization="other"),
    ]
    site.configure(CATALOG, {"destination": lakes})
    ambiguous = await site.quickly("destination", "check", "lake")
    assert (ambiguous.returncode, "say --organization" in ambiguous.stderr) == (USAGE, True)
    assert (await checked(site, "lake", "--organization", "other", code=DONE))["organization"] == "other"
    unknown = await site.quickly("destination", "check", "pond")
    assert (unknown.returncode, "exportd destination list" in unknown.stderr) == (FAILED, True)
