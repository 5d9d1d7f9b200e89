import json
import re
import shlex
from pathlib import Path

from exportd.destinations.permission import (
    ACCOUNT_PLACEHOLDER,
    IDENTITY_PLACEHOLDER,
    PURPOSES,
    Grant,
    Permission,
    action_of,
    grants_of,
    principal_of,
)
from exportd.settings.destination_schema import DirectoryDestination, GcsDestination, S3Destination

ROOT = Path(__file__).parents[3]
ROLE = "arn:aws-cn:iam::111122223333:role/exports"
FOLDER = "m3/orgId=org-1/"
OWNED = {"code": "lake", "organization": "org-1"}


def s3_grants(*, folder: str = FOLDER, identity: str = "", **fields: str) -> tuple[Grant, ...]:
    declared = S3Destination.model_validate({"type": "S3", "bucket": "lake", **OWNED, **fields})
    return grants_of(declared, folder=folder, identity=identity, user="exportd")


def gcs_grants(**fields: str) -> tuple[Grant, ...]:
    declared = GcsDestination.model_validate({"type": "GCS", "bucket": "lake", **OWNED, **fields})
    return grants_of(declared, folder=FOLDER, identity="", user="exportd")


def test_the_policy_grants_each_action_that_is_tried_for_exactly_the_folder() -> None:
    (policy,) = s3_grants()
    statements = json.loads(policy.text)["Statement"]
    assert statements[0]["Action"] == ["s3:PutObject"]
    assert {action for statement in statements for action in statement["Action"]} == {
        action_of(permission, "S3") for permission in Permission
    }
    resources = {statement["Sid"]: statement["Resource"] for statement in statements}
    assert resources == {
        "ExportdWrites": "arn:aws:s3:::lake/m3/orgId=org-1/*",
        "ExportdTidiesUp": "arn:aws:s3:::lake/m3/orgId=org-1/*",
        "ExportdLists": "arn:aws:s3:::lake",
        "ExportdListsUploads": "arn:aws:s3:::lake",
    }
    assert statements[2]["Condition"] == {"StringLikeIfExists": {"s3:prefix": "m3/orgId=org-1/*"}}


def test_the_document_shows_what_the_check_prints() -> None:
    text = (ROOT / "docs" / "destinations.md").read_text(encoding="utf-8")
    shown = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
    policy, trust, _ = s3_grants(
        bucket="acme-exports",
        folder="m3/orgId=org-acme/",
        role_arn="arn:aws:iam::111122223333:role/exports",
        organization="org-acme",
        identity="arn:aws:iam::444455556666:role/exportd",
    )
    assert json.loads(policy.text) in shown
    assert json.loads(trust.text) in shown


def test_what_would_be_a_wildcard_in_a_policy_is_taken_literally() -> None:
    (policy,) = s3_grants(folder="a*b?c${d}/")
    assert json.loads(policy.text)["Statement"][0]["Resource"] == "arn:aws:s3:::lake/a${*}b${?}c${$}{d}/*"


def test_a_role_has_a_trust_policy_with_its_external_id_and_the_identity_of_exportd() -> None:
    identity = "arn:aws-cn:sts::444455556666:assumed-role/exportd/i-0123"
    policy, trust, own = s3_grants(role_arn=ROLE, identity=identity)
    assert "arn:aws-cn:s3:::lake/" in policy.text
    assert json.loads(trust.text)["Statement"] == [
        {
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws-cn:iam::444455556666:role/exportd"},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"sts:ExternalId": "org-1"}},
        }
    ]
    assert json.loads(own.text)["Statement"] == [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": ROLE}]
    assert "placeholder" not in trust.title


def test_an_unknown_identity_is_a_placeholder_and_called_so() -> None:
    _, trust, _ = s3_grants(role_arn=ROLE)
    assert json.loads(trust.text)["Statement"][0]["Principal"] == {"AWS": IDENTITY_PLACEHOLDER}
    assert f"{IDENTITY_PLACEHOLDER} is a placeholder" in trust.title


def test_a_user_is_named_as_such() -> None:
    assert principal_of("arn:aws:iam::1:user/exportd") == "arn:aws:iam::1:user/exportd"


def test_a_key_of_kms_may_be_used() -> None:
    key = "arn:aws:kms:eu-west-1:111122223333:key/1"
    (policy,) = s3_grants(encryption="KMS", kms_key=key)
    statement = json.loads(policy.text)["Statement"][1]
    assert (statement["Action"], statement["Resource"]) == (["kms:GenerateDataKey", "kms:Decrypt"], key)


def test_google_binds_a_service_account_which_the_pool_may_act_as() -> None:
    recommended, minimal, acting = gcs_grants(
        project_number="123",
        pool_id="exports",
        provider_id="daemon",
        service_account="exporter@acme.iam.gserviceaccount.com",
    )
    assert shlex.split(recommended.text) == [
        *("gcloud", "storage", "buckets", "add-iam-policy-binding", "gs://lake"),
        *("--member=serviceAccount:exporter@acme.iam.gserviceaccount.com", "--role=roles/storage.objectUser"),
    ]
    assert shlex.split(minimal.text)[-1] == "--role=roles/storage.objectCreator"
    assert shlex.split(acting.text)[-2:] == [
        "--member=principalSet://iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/exports/*",
        "--role=roles/iam.workloadIdentityUser",
    ]


def test_google_binds_the_pool_itself_or_a_placeholder() -> None:
    recommended, _ = gcs_grants(project_number="123", pool_id="exports", provider_id="daemon")
    assert "--member=principalSet://" in shlex.split(recommended.text)[5]
    recommended, _ = gcs_grants()
    assert shlex.split(recommended.text)[5] == f"--member=serviceAccount:{ACCOUNT_PLACEHOLDER}"
    assert f"{ACCOUNT_PLACEHOLDER} is a placeholder" in recommended.title


def test_commands_for_a_directory_survive_any_path() -> None:
    declared = DirectoryDestination.model_validate({"directory": "/srv/it's here", **OWNED})
    (grant,) = grants_of(declared, folder=FOLDER, identity="", user="exportd")
    assert [shlex.split(line)[-1] for line in grant.text.splitlines()] == ["/srv/it's here"] * 3


def test_each_permission_has_its_purpose() -> None:
    assert set(PURPOSES) == set(Permission)
    assert {permission for permission in Permission if permission.is_required} == {Permission.WRITE, Permission.UPLOAD}
