import json

import pytest

from exportd.model.errors import PermanentError, Reason, TransientError
from exportd.stores.gcs.answers import GcsAnswer, StoredObject, decoded_checksum, encoded_checksum
from exportd.stores.gcs.errors import is_missing_bucket, is_precondition, redacted, translate_answer, translate_failure

MEMBER = "principalSet://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/*"


def answer(status: int, message: str = "", reason: str = "", **more: str) -> GcsAnswer:
    document = {"error": {"code": status, "message": message, "errors": [{"reason": reason}] if reason else []}}
    return GcsAnswer(status, json.dumps(document).encode(), **more)


def error_of(given: GcsAnswer, permission: str = "storage.objects.create") -> PermanentError | TransientError:
    error = translate_answer(given, bucket="acme", doing="writing a.csv.gz", permission=permission, member=MEMBER)
    assert isinstance(error, PermanentError | TransientError)
    return error


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_passes_is_transient(status: int) -> None:
    error = error_of(answer(status, "Busy", retry_after="17", request_id="abc"))
    assert isinstance(error, TransientError)
    assert error.retry_after_s == 17
    assert error.sentence == (f"The bucket gs://acme failed at writing a.csv.gz: Busy (HTTP {status}, request abc).")


def test_a_rate_limit_is_transient_although_forbidden() -> None:
    assert isinstance(error_of(answer(403, "Slow down", "userRateLimitExceeded")), TransientError)


def test_a_date_in_place_of_seconds_is_no_delay() -> None:
    error = error_of(answer(503, retry_after="Wed, 25 Nov 2026 16:00:00 GMT"))
    assert isinstance(error, TransientError)
    assert error.retry_after_s is None


def test_damage_on_the_way_is_transient() -> None:
    assert isinstance(
        error_of(answer(400, 'Provided CRC32C "a" doesn\'t match calculated CRC32C "b".')), TransientError
    )


@pytest.mark.parametrize(
    ("permission", "role"),
    [
        ("storage.objects.create", "roles/storage.objectCreator"),
        ("storage.objects.get", "roles/storage.objectViewer"),
        ("storage.objects.list", "roles/storage.objectViewer"),
        ("storage.objects.delete", "roles/storage.objectUser"),
    ],
)
def test_a_missing_permission_comes_with_what_grants_it(permission: str, role: str) -> None:
    error = error_of(answer(403, "Forbidden", "forbidden"), permission)
    assert isinstance(error, PermanentError)
    assert error.sentence.endswith(
        f"Grant {permission}: gcloud storage buckets add-iam-policy-binding gs://acme --member='{MEMBER}' --role={role}"
    )


def test_google_knows_better_which_permission_and_who() -> None:
    message = "x@p.iam.gserviceaccount.com does not have storage.objects.delete access to the object."
    sentence = error_of(answer(403, message)).sentence
    assert "Grant storage.objects.delete:" in sentence
    assert "--member='serviceAccount:x@p.iam.gserviceaccount.com' --role=roles/storage.objectUser" in sentence


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        (answer(401, "Invalid Credentials"), "correct the credentials"),
        (answer(404, "The specified bucket does not exist."), "create it, or correct `bucket`"),
        (answer(403, "Object is subject to bucket's retention policy", "retentionPolicyNotMet"), "retention policy or"),
        (answer(403, "Object is under active Event-Based hold", "objectUnderActiveHold"), "or a hold protects"),
        (answer(412, "Permission denied on Cloud KMS key."), "roles/cloudkms.cryptoKeyEncrypterDecrypter"),
        (answer(412, "Violates constraint constraints/gcp.restrictNonCmekServices"), "VPC Service Controls"),
        (answer(403, "Request is prohibited by organization's policy."), "VPC Service Controls"),
    ],
)
def test_what_stays_says_what_to_change(given: GcsAnswer, advice: str) -> None:
    error = error_of(given)
    assert isinstance(error, PermanentError)
    assert error.reason is Reason.DESTINATION_REFUSED
    assert advice in error.sentence


def test_a_policy_that_answers_as_a_precondition_would_is_none() -> None:
    assert is_precondition(answer(412, "At least one of the pre-conditions did not hold.", "conditionNotMet"))
    assert not is_precondition(answer(412, "Violates constraint constraints/gcp.x", "conditionNotMet"))
    assert not is_precondition(answer(409))


def test_an_object_in_a_bucket_called_bucket_is_not_a_missing_bucket() -> None:
    assert not is_missing_bucket(answer(404, "No such object: my-bucket/a.csv.gz"))
    assert is_missing_bucket(answer(404, "The specified bucket does not exist."))


def test_an_answer_without_json_is_understood() -> None:
    assert "it gave no reason (HTTP 502)" in error_of(GcsAnswer(502, b"<html>Bad gateway</html>")).sentence


def test_a_connection_that_broke_says_nothing_of_addresses() -> None:
    error = translate_failure(ConnectionResetError(104, "Connection reset by peer"), bucket="acme", doing="reading a")
    assert error.sentence == "The bucket gs://acme cannot be reached for reading a: Connection reset by peer."
    stalled = translate_failure(TimeoutError("https://secret"), bucket="acme", doing="reading a")
    assert stalled.sentence == "The bucket gs://acme cannot be reached for reading a: nothing moved for too long."


def test_checksums_are_those_of_google() -> None:
    # CRC-32C of b"123456789" is the polynomial's check value.
    assert encoded_checksum(0xE3069283) == "4waSgw=="
    assert decoded_checksum("4waSgw==") == 0xE3069283


@pytest.mark.parametrize("document", [{}, {"name": "a"}, {"name": "a", "size": "x", "generation": "1"}])
def test_what_describes_no_object_is_refused(document: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"describe|invalid literal"):
        StoredObject.of(document)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("The token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJleHBvcnRkIn0.c2ln is not for us.", "The token … is not for us"),
        (
            "Max retries exceeded with url: /token?key=abc (Caused by nothing)",
            "Max retries exceeded … (Caused by nothing)",
        ),
        (
            "Executable exited with non-zero return code 3. Error: b'secret'",
            "Executable exited with non-zero return code 3",
        ),
        ("two\nlines", "two lines"),
    ],
)
def test_what_could_be_a_token_is_left_out(text: str, left: str) -> None:
    assert redacted(text) == left
