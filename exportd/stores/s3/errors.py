"""Translates errors of S3, of STS and of the connection into sentences that a person can act on. Pure.

Codes are those of the S3 API ("Error responses"). Stores that only speak S3 use a part of them. Answers to HEAD
requests have none, because they have no body: there the HTTP status stands for the code.
"""

import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigNotFound,
    ConnectTimeoutError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    SSLError,
)

from exportd.model.errors import ExportdError, PermanentError, Reason, TransientError

_PERMISSIONS = {
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "HeadObject": "s3:GetObject",
    "GetObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "DeleteObject": "s3:DeleteObject",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "ListParts": "s3:ListMultipartUploadParts",
    "AssumeRole": "sts:AssumeRole",
}

_TRANSIENT = {
    *("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "OperationAborted", "Busy"),
    *("Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "TooManyRequestsException"),
    # The content was damaged in transit.
    *("BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"),
}
_FORBIDDEN = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "UnauthorizedAccess", "403"}
_CLOCK = "The clock of this host and the store's differ too much: set it right, and keep it so (NTP)."
_CREDENTIALS = "The credentials are wrong or not active: correct them."
_EXPIRED = "The credentials have expired: renew them, or use ones that renew themselves (role_arn)."
_MULTIPART = "The store does not offer this: it has to know the multipart uploads of S3."
_ELSEWHERE = "The bucket lies in another region, or `endpoint` leads elsewhere: set `region`"
_ADVICE = {
    "NoSuchBucket": "There is no such bucket: create it, or correct `bucket`.",
    "InvalidBucketName": "Correct `bucket`.",
    "RequestTimeTooSkewed": _CLOCK,
    "RequestExpired": _CLOCK,
    **dict.fromkeys(("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidClientTokenId"), _CREDENTIALS),
    **dict.fromkeys(("UnrecognizedClientException", "InvalidToken", "AuthFailure", "401"), _CREDENTIALS),
    **dict.fromkeys(("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"), _EXPIRED),
    **dict.fromkeys(("PermanentRedirect", "TemporaryRedirect", "301", "307"), _ELSEWHERE),
    **dict.fromkeys(("AuthorizationHeaderMalformed", "IllegalLocationConstraintException"), _ELSEWHERE),
    **dict.fromkeys(("NotImplemented", "MethodNotAllowed", "501", "405"), _MULTIPART),
    "EntityTooLarge": "Lower limits.part_size.",
    "EntityTooSmall": "The store wants larger pieces than exportd sends.",
    "KeyTooLongError": "Choose a shorter `prefix`.",
}
_WITHOUT_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, ProfileNotFound, ConfigNotFound)
_ROLE_REFUSED = (
    "The role's trust policy has to allow sts:AssumeRole to exportd's own identity, with the organization's id as "
    "sts:ExternalId, and exportd's identity needs sts:AssumeRole for the role: grant it, or correct role_arn."
)
_MAX_MESSAGE_LENGTH = 300
_MAX_HEADER_LENGTH = 60


class ForeignAnswerError(BotoCoreError):
    """The answer is not that of S3. It may come from a gateway that asks for a login, or from a store that implements
    S3 incorrectly.
    """

    fmt = "what was answered is not an answer of S3, for it has no {name}"


def required(answer: Mapping[str, Any], name: str) -> str:
    """A field of an answer that S3 never leaves out. Raises ForeignAnswerError when it is missing."""
    if name not in answer:
        raise ForeignAnswerError(name=name)
    return str(answer[name])


def code_of(error: ClientError) -> str:
    """The store's error code, or the HTTP status when there is none."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def may_be_outdated(error: Exception) -> bool:
    """Whether credentials or certificates are missing or refused, which may have been replaced since they were read."""
    match error:
        case ClientError():
            return _ADVICE.get(code_of(error)) in {_CREDENTIALS, _EXPIRED}
        case SSLError() | ssl.SSLError() | aiohttp.ClientSSLError():
            return bool(_tls_advice(error))
        case _:
            return isinstance(error, (*_WITHOUT_CREDENTIALS, CredentialRetrievalError))


def translate(error: Exception, place: str, *, doing: str) -> ExportdError:
    """The error to raise for ``error``, met at ``place`` while ``doing`` something."""
    match error:
        case ClientError():
            return _answered(error, place, doing)
        case _ if isinstance(error, _WITHOUT_CREDENTIALS):
            return PermanentError(
                f"{place}: there are no AWS credentials for {doing} ({error}). Give exportd's user credentials (the "
                "environment, a profile, a role of the machine), or name their profile.",
                reason=Reason.DESTINATION_REFUSED,
            )
        case CredentialRetrievalError():
            # Without the error's text, which comes from another program.
            return TransientError(
                f"{place}: AWS credentials for {doing} cannot be fetched where the environment or profile says.",
                reason=Reason.DESTINATION_UNAVAILABLE,
            )
        case SSLError() | ssl.SSLError() | aiohttp.ClientSSLError() if advice := _tls_advice(error):
            return PermanentError(
                f"{place}: no secure connection for {doing}: {_cause(error)}. {advice}",
                reason=Reason.DESTINATION_REFUSED,
            )
        case _:
            return TransientError(
                f"{place} cannot be reached for {doing}: {_cause(error)}.", reason=Reason.DESTINATION_UNAVAILABLE
            )


@contextmanager
def translated(place: str, *, doing: str) -> Iterator[None]:
    """Raise the errors of the library and of its HTTP in the block as TransientError or PermanentError."""
    try:
        yield
    except (ClientError, BotoCoreError, aiohttp.ClientError, OSError, TimeoutError) as error:
        raise translate(error, place, doing=doing) from error


def _answered(error: ClientError, place: str, doing: str) -> ExportdError:
    if error.operation_name == "AssumeRole":
        place, doing = "STS", f"assuming the role for {doing} ({place})"
    code, status = code_of(error), status_of(error)
    facts = f"{code or 'no code'}, HTTP {status}, request {_request_id(error)}"
    if code in {"NoSuchKey", "404"}:
        return PermanentError(f"There is no object at {place} for {doing} ({facts}).", reason=Reason.NOT_FOUND)
    if code in _TRANSIENT or status in {408, 425, 429} or (status >= 500 and code not in _ADVICE):
        return TransientError(
            f"{place} failed at {doing}: {_message(error)} ({facts}).",
            reason=Reason.DESTINATION_UNAVAILABLE,
            retry_after_s=_retry_after_s(error),
        )
    return PermanentError(
        f"{place} refused {doing}: {_message(error)} ({facts}). {_advice(error, code)}".rstrip(),
        reason=Reason.DESTINATION_REFUSED,
    )


def _advice(error: ClientError, code: str) -> str:
    message = _message(error).lower()
    advice = _ADVICE.get(code, "")
    if "kms" in code.lower() or "kms:" in message:
        advice = "Grant kms:GenerateDataKey and kms:Decrypt for the key, or correct kms_key."
    elif code in _FORBIDDEN and error.operation_name == "AssumeRole":
        advice = _ROLE_REFUSED
    elif code in _FORBIDDEN:
        wanted = _PERMISSIONS.get(error.operation_name, error.operation_name)
        advice = (
            f"Grant {wanted}; `exportd destination check` prints the whole policy. A bucket's policy may also demand "
            "an encryption (set `encryption`), and object lock may protect the object."
        )
    elif advice == _ELSEWHERE:
        region = _headers(error).get("x-amz-bucket-region") or error.response.get("Error", {}).get("Region")
        advice = f'{_ELSEWHERE} = "{region}".' if region else f"{_ELSEWHERE}."
    elif advice == _MULTIPART and (header := _refused_header(error)):
        advice = f"The store does not take the header {header}: set {_setting_of(header)}."
    elif "content-md5" in message:
        advice = 'The bucket wants checksums, as with object lock: set checksum = "FULL_OBJECT" or "PIECES".'
    elif "checksum" in message and not advice:
        advice = 'The store does not take this checksum: set checksum = "PIECES", or "NONE".'
    return advice


def _refused_header(error: ClientError) -> str:
    """The header that a store does not implement; empty when it does not implement the request itself."""
    named = str(error.response.get("Error", {}).get("Header", "")).lower()
    if named.startswith("x-amz-"):
        return re.sub(r"[^a-z0-9-]", "", named)[:_MAX_HEADER_LENGTH]
    # Besides the body, only these headers distinguish the request from one that every store supports.
    is_plain = error.operation_name == "PutObject"
    return "x-amz-checksum-crc32" if is_plain or "header" in _message(error).lower() else ""


def _setting_of(header: str) -> str:
    if header.startswith("x-amz-server-side-encryption"):
        return 'encryption = "BUCKET"'
    return 'checksum = "PIECES", or "NONE"'


def _message(error: ClientError) -> str:
    text = str(error.response.get("Error", {}).get("Message", "")) or "it gave no reason"
    printable = "".join(character if character.isprintable() else " " for character in text).strip().rstrip(".")
    return printable if len(printable) <= _MAX_MESSAGE_LENGTH else f"{printable[:_MAX_MESSAGE_LENGTH]}…"


def _headers(error: ClientError) -> dict[str, Any]:
    return dict(error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}))


def _request_id(error: ClientError) -> str:
    metadata = error.response.get("ResponseMetadata", {})
    return str(metadata.get("RequestId") or _headers(error).get("x-amz-request-id") or "unknown")


def _retry_after_s(error: ClientError) -> float | None:
    said = str(_headers(error).get("retry-after", ""))
    return float(said) if said.isascii() and said.isdigit() else None


def _tls_advice(error: BaseException) -> str:
    """What to change so that TLS works; empty when the connection was only interrupted."""
    said = _cause(error).lower()
    if "wrong version number" in said or "record layer failure" in said:
        return "The store speaks no TLS there: correct `endpoint`."
    if "certificate" in said:
        return "If the store has a certificate of its own, name the authority in ca_file."
    return ""


def _cause(error: BaseException) -> str:
    """The sentence of the innermost cause. The outer ones only show where the error passed through."""
    if isinstance(error, TimeoutError | ConnectTimeoutError | ReadTimeoutError):
        return "it did not answer in time"
    cause = error.__cause__ or error.__context__
    if cause is not None:
        return _cause(cause)
    return str(error).rstrip(".") or type(error).__name__
