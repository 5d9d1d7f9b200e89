"""What a store says, and the error that it becomes."""

import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    SSLError,
)

from exportd.model.errors import ExportdError, PermanentError, Reason, TransientError
from exportd.stores.s3.errors import ForeignAnswerError, required, translate, translated

PLACE = "the bucket s3://mine"
REFUSED, UNAVAILABLE, NOT_FOUND = Reason.DESTINATION_REFUSED, Reason.DESTINATION_UNAVAILABLE, Reason.NOT_FOUND


def answer(
    code: str, status: int, operation: str = "PutObject", message: str = "no", headers: Mapping[str, str] | None = None
) -> ClientError:
    return ClientError(
        {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {
                "RequestId": "R1",
                "HostId": "",
                "HTTPStatusCode": status,
                "HTTPHeaders": dict(headers or {}),
                "RetryAttempts": 0,
            },
        },
        operation,
    )


def met(error: Exception) -> ExportdError:
    return translate(error, PLACE, doing="writing k")


@pytest.mark.parametrize(
    ("code", "status", "kind", "reason"),
    [
        ("SlowDown", 503, TransientError, UNAVAILABLE),
        ("InternalError", 500, TransientError, UNAVAILABLE),
        ("InternalError", 200, TransientError, UNAVAILABLE),
        ("RequestTimeout", 400, TransientError, UNAVAILABLE),
        ("BadDigest", 400, TransientError, UNAVAILABLE),
        ("XAmzContentSHA256Mismatch", 400, TransientError, UNAVAILABLE),
        ("OperationAborted", 409, TransientError, UNAVAILABLE),
        ("Throttling", 400, TransientError, UNAVAILABLE),
        ("TooManyRequests", 429, TransientError, UNAVAILABLE),
        ("502", 502, TransientError, UNAVAILABLE),
        ("", 504, TransientError, UNAVAILABLE),
        ("AccessDenied", 403, PermanentError, REFUSED),
        ("403", 403, PermanentError, REFUSED),
        ("NoSuchBucket", 404, PermanentError, REFUSED),
        ("InvalidAccessKeyId", 403, PermanentError, REFUSED),
        ("SignatureDoesNotMatch", 403, PermanentError, REFUSED),
        ("ExpiredToken", 400, PermanentError, REFUSED),
        ("RequestTimeTooSkewed", 403, PermanentError, REFUSED),
        ("PermanentRedirect", 301, PermanentError, REFUSED),
        ("NotImplemented", 501, PermanentError, REFUSED),
        ("501", 501, PermanentError, REFUSED),
        ("InvalidArgument", 400, PermanentError, REFUSED),
        ("NoSuchKey", 404, PermanentError, NOT_FOUND),
        ("404", 404, PermanentError, NOT_FOUND),
    ],
)
def test_what_a_code_means(code: str, status: int, kind: type[ExportdError], reason: Reason) -> None:
    error = met(answer(code, status))
    assert (type(error), error.reason) == (kind, reason)
    assert f"HTTP {status}, request R1" in error.sentence
    assert PLACE in error.sentence
    assert "writing k" in error.sentence


@pytest.mark.parametrize(
    ("operation", "permission"),
    [
        ("PutObject", "s3:PutObject"),
        ("CreateMultipartUpload", "s3:PutObject"),
        ("UploadPart", "s3:PutObject"),
        ("CompleteMultipartUpload", "s3:PutObject"),
        ("AbortMultipartUpload", "s3:AbortMultipartUpload"),
        ("HeadObject", "s3:GetObject"),
        ("ListObjectsV2", "s3:ListBucket"),
        ("DeleteObject", "s3:DeleteObject"),
        ("ListMultipartUploads", "s3:ListBucketMultipartUploads"),
        ("ListParts", "s3:ListMultipartUploadParts"),
    ],
)
def test_a_refusal_names_the_permission_that_is_missing(operation: str, permission: str) -> None:
    assert f"Grant {permission};" in met(answer("AccessDenied", 403, operation)).sentence


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (NoCredentialsError(), PermanentError, "there are no AWS credentials"),
        (PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), PermanentError, "no AWS credent"),
        (ProfileNotFound(profile="p"), PermanentError, "The config profile (p) could not be found"),
        (
            SSLError(endpoint_url="https://s", error=ssl.SSLError(1, "certificate verify failed")),
            PermanentError,
            "ca_file",
        ),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), PermanentError, "speaks no TLS"),
        (ssl.SSLError(8, "EOF occurred in violation of protocol"), TransientError, "cannot be reached"),
        (ReadTimeoutError(endpoint_url="https://s"), TransientError, "did not answer in time"),
        (TimeoutError(), TransientError, "did not answer in time"),
        (EndpointConnectionError(endpoint_url="https://s"), TransientError, "cannot be reached for writing k"),
        (aiohttp.ServerDisconnectedError(), TransientError, "Server disconnected"),
        (ConnectionResetError(104, "Connection reset by peer"), TransientError, "Connection reset by peer"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_errors_without_an_answer(error: Exception, kind: type[ExportdError], says: str) -> None:
    found = met(error)
    assert type(found) is kind
    assert says in found.sentence


def test_what_a_credentials_program_says_is_not_repeated() -> None:
    error = met(CredentialRetrievalError(provider="custom-process", error_msg="the secret is s3cr3t"))
    assert isinstance(error, TransientError)
    assert "credentials" in error.sentence
    assert "s3cr3t" not in error.sentence


@pytest.mark.parametrize(
    ("said", "expected"), [("7", 7.0), ("0", 0.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("", None), ("-1", None)]
)
def test_when_to_come_again(said: str, expected: float | None) -> None:
    error = met(answer("SlowDown", 503, headers={"retry-after": said}))
    assert isinstance(error, TransientError)
    assert error.retry_after_s == expected


def test_the_words_of_a_store_are_short_and_printable() -> None:
    error = met(answer("AccessDenied", 403, message="a\nb\x1b[31m" + "x" * 1000))
    assert "\n" not in error.sentence
    assert "\x1b" not in error.sentence
    assert len(error.sentence) < 800


def test_an_answer_without_what_s3_always_says_is_not_one_of_s3() -> None:
    assert required({"ETag": "t"}, "ETag") == "t"
    with (
        pytest.raises(TransientError, match="is not an answer of S3, for it has no ETag"),
        translated(PLACE, doing="x"),
    ):
        required({}, "ETag")
    assert issubclass(ForeignAnswerError, BotoCoreError)


def test_a_bug_is_no_error_of_the_store() -> None:
    with pytest.raises(ZeroDivisionError), translated(PLACE, doing="writing k"):
        _ = 1 / 0


def test_a_role_that_cannot_be_assumed_is_a_refusal_of_sts() -> None:
    refused: Any = {"Error": {"Code": "AccessDenied", "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    sentence = translate(ClientError(refused, "AssumeRole"), "the bucket s3://b", doing="writing k").sentence
    assert sentence.startswith("STS refused assuming the role for writing k (the bucket s3://b)")


def test_a_header_that_is_not_implemented_is_named_with_its_setting() -> None:
    for header, setting in (
        ("x-amz-sdk-checksum-algorithm", 'checksum = "PIECES", or "NONE"'),
        ("x-amz-server-side-encryption", 'encryption = "BUCKET"'),
    ):
        said: Any = {"Code": "NotImplemented", "Message": "not implemented", "Header": header}
        answered: Any = {"Error": said, "ResponseMetadata": {"HTTPStatusCode": 501}}
        error = ClientError(answered, "CreateMultipartUpload")
        sentence = translate(error, "the bucket s3://b", doing="starting k").sentence
        assert f"does not take the header {header}: set {setting}." in sentence
