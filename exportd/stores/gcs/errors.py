"""Translates errors of Google Cloud Storage, of the connection and of the identity into sentences for people. Pure.

Reasons are those of the JSON API ("HTTP status and error codes for JSON"). Addresses are never repeated: that of an
upload grants access. Google, and the daemon's own identity provider, may repeat the token in their errors: whatever
could be one is left out.
"""

import re
import ssl

import aiohttp
from google.auth.exceptions import GoogleAuthError, TransportError

from exportd.model.errors import ExportdError, PermanentError, Reason, TransientError
from exportd.stores.gcs.answers import GcsAnswer
from exportd.stores.gcs.identity import GcsIdentity

_ROLES = {
    "storage.objects.create": "roles/storage.objectCreator",
    "storage.objects.get": "roles/storage.objectViewer",
    "storage.objects.list": "roles/storage.objectViewer",
}
_WRITING_ROLE = "roles/storage.objectUser"
"""This role may also replace and delete objects."""

_TRANSIENT_STATUSES = {408, 425, 429}
_TRANSIENT_REASONS = {"rateLimitExceeded", "userRateLimitExceeded", "backendError", "internalError"}

_KMS = (
    "The bucket's key in Cloud KMS has to be enabled, and its project's storage service agent needs "
    "roles/cloudkms.cryptoKeyEncrypterDecrypter for it."
)
_PROTECTED = (
    "A retention policy or a hold protects the object, so it can be neither replaced nor deleted: exportd needs a "
    "bucket, or a prefix, without."
)
_ORGANIZATION_POLICY = "A policy of the bucket's organization forbids it (VPC Service Controls, or a constraint)."

_PERMISSION = re.compile(r"\bstorage\.[A-Za-z]+\.[A-Za-z]+\b")
_SERVICE_ACCOUNT = re.compile(r"[\w.+-]+@[\w.-]+\.gserviceaccount\.com")
_MAX_MESSAGE_LENGTH = 300

_TOKEN_LIKE = re.compile(r"[A-Za-z0-9_.+=~%-]{32,}")
_ADDRESS = re.compile(r"\bwith url: \S+|\bhttps?://\S+")
_OUTPUT = re.compile(r"(?<=non-zero return code )(\d+)\..*", re.DOTALL)

_IDENTITY_ADVICE = (
    "The pool, its provider and the source of the token have to fit each other, and the service account has to grant "
    "roles/iam.workloadIdentityUser to the pool's principal: docs/destinations.md says how."
)


def message_of(answer: GcsAnswer) -> str:
    """Google's message, on one line; empty when there is none."""
    error = answer.document.get("error")
    text = str(error.get("message", "")) if isinstance(error, dict) else ""
    printable = "".join(character if character.isprintable() else " " for character in text).strip().rstrip(".")
    return printable if len(printable) <= _MAX_MESSAGE_LENGTH else f"{printable[:_MAX_MESSAGE_LENGTH]}…"


def is_damage(answer: GcsAnswer) -> bool:
    """Whether the content that arrived does not match the checksum."""
    return answer.status in {400, 409} and "calculated" in message_of(answer)


def is_precondition(answer: GcsAnswer) -> bool:
    """Whether the object is not the one that ``ifGenerationMatch`` names. Errors about policies and keys have status
    412 too.
    """
    return answer.status == 412 and not _policy_advice(answer, _reasons(answer))


def is_missing_bucket(answer: GcsAnswer) -> bool:
    return answer.status == 404 and "bucket does not exist" in message_of(answer).lower()


def translate_answer(answer: GcsAnswer, *, bucket: str, doing: str, permission: str, member: str) -> ExportdError:
    """The error to raise for a failure that Google has answered.

    ``permission`` is what the request needs, and ``member`` who would be granted it.
    """
    reasons = _reasons(answer)
    facts = f"{message_of(answer) or 'it gave no reason'} ({', '.join(_facts(answer, reasons))})"
    if (
        answer.status in _TRANSIENT_STATUSES
        or answer.status >= 500
        or reasons & _TRANSIENT_REASONS
        or is_damage(answer)
        or answer.status < 400
    ):
        return TransientError(
            f"The bucket gs://{bucket} failed at {doing}: {facts}.",
            reason=Reason.DESTINATION_UNAVAILABLE,
            retry_after_s=_retry_after_s(answer),
        )
    advice = _advice(answer, reasons, bucket=bucket, permission=permission, member=member)
    return PermanentError(
        f"The bucket gs://{bucket} refused {doing}: {facts}. {advice}".rstrip(), reason=Reason.DESTINATION_REFUSED
    )


def translate_failure(error: Exception, *, bucket: str, doing: str) -> ExportdError:
    """The error to raise when there was no answer."""
    place = f"The bucket gs://{bucket}"
    match error:
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return PermanentError(
                f"{place}: no secure connection for {doing} ({type(error).__name__}). Is something between here and "
                "Google, with a certificate of its own? Then name its authority in SSL_CERT_FILE.",
                reason=Reason.DESTINATION_REFUSED,
            )
        case TimeoutError():
            why = "nothing moved for too long"
        case aiohttp.ClientConnectorError():
            why = error.os_error.strerror or "no connection"
        case OSError():
            why = error.strerror or "the connection broke"
        case _:
            why = "the connection broke"
    return TransientError(f"{place} cannot be reached for {doing}: {why}.", reason=Reason.DESTINATION_UNAVAILABLE)


def translate_identity_failure(error: Exception, identity: GcsIdentity, *, bucket: str) -> ExportdError:
    """The error to raise for ``error``, met while fetching a token for ``identity``, to write to ``bucket``."""
    cause = redacted(_cause(error))
    place = f"The bucket gs://{bucket}: Google gave no token to {identity}"
    if _is_transient_identity_failure(error):
        return TransientError(f"{place}: {cause}.", reason=Reason.DESTINATION_UNAVAILABLE)
    return PermanentError(f"{place}: {cause}. {_IDENTITY_ADVICE}", reason=Reason.DESTINATION_REFUSED)


def redacted(text: str) -> str:
    """``text`` on one line, without addresses, outputs of programs and anything that looks like a token."""
    text = _OUTPUT.sub(r"\1", text)
    text = _TOKEN_LIKE.sub("…", _ADDRESS.sub("…", text))
    printable = "".join(character if character.isprintable() else " " for character in text)
    printable = " ".join(printable.split()).rstrip(".")
    return printable if len(printable) <= _MAX_MESSAGE_LENGTH else f"{printable[:_MAX_MESSAGE_LENGTH]}…"


def _advice(answer: GcsAnswer, reasons: set[str], *, bucket: str, permission: str, member: str) -> str:
    advice = _policy_advice(answer, reasons)
    if advice:
        return advice
    match answer.status:
        case 401:
            return f"Google does not accept who exportd says it is: correct the credentials of {member}."
        case 403:
            return _grant(message_of(answer), bucket=bucket, permission=permission, member=member)
        case 404:
            return "There is no such bucket: create it, or correct `bucket`."
        case _:
            return ""


def _policy_advice(answer: GcsAnswer, reasons: set[str]) -> str:
    """What to do about a policy or a key of the bucket's owner that prevents the request; empty if none does."""
    message = message_of(answer).lower()
    if "kms" in message or "encryption" in message:
        return _KMS
    if reasons & {"retentionPolicyNotMet", "objectUnderActiveHold"} or "retention policy" in message:
        return _PROTECTED
    if "constraint" in message or "organization's policy" in message:
        return _ORGANIZATION_POLICY
    return ""


def _grant(message: str, *, bucket: str, permission: str, member: str) -> str:
    named = _PERMISSION.search(message)
    permission = named[0] if named else permission
    account = _SERVICE_ACCOUNT.search(message)
    member = f"serviceAccount:{account[0]}" if account else member
    role = _ROLES.get(permission, _WRITING_ROLE)
    return (
        f"Grant {permission}: gcloud storage buckets add-iam-policy-binding gs://{bucket} "
        f"--member='{member}' --role={role}"
    )


def _reasons(answer: GcsAnswer) -> set[str]:
    error = answer.document.get("error")
    errors = error.get("errors") if isinstance(error, dict) else None
    if not isinstance(errors, list):
        return set()
    return {str(entry["reason"]) for entry in errors if isinstance(entry, dict) and "reason" in entry}


def _facts(answer: GcsAnswer, reasons: set[str]) -> list[str]:
    facts = [*sorted(reasons), f"HTTP {answer.status}"]
    return [*facts, f"request {answer.request_id}"] if answer.request_id else facts


def _retry_after_s(answer: GcsAnswer) -> float | None:
    said = answer.retry_after
    return float(said) if said.isascii() and said.isdigit() else None


def _is_transient_identity_failure(error: Exception) -> bool:
    match error:
        case TransportError():
            return "CERTIFICATE_VERIFY_FAILED" not in str(error)
        case GoogleAuthError():
            return bool(error.retryable)
        case TimeoutError() | ConnectionError():
            return True
        case _:
            return False


def _cause(error: Exception) -> str:
    match error:
        case TimeoutError():
            return str(error) or "there was no answer in time"
        case OSError(strerror=str(why), filename=where) if where is not None:
            return f"{where}: {why}"
        case KeyError():
            return f"{error} is missing"
        case _:
            return ": ".join(str(argument) for argument in error.args) or type(error).__name__
