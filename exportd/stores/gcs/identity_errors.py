"""Turns what goes wrong while exportd proves to Google who it is into what a person can act on. Pure.

Google, and the daemon's own identity provider, may repeat the token in what they say: whatever could be one is left
out.
"""

import re

from google.auth.exceptions import GoogleAuthError, TransportError

from exportd.model.errors import ExportdError, PermanentError, TransientError
from exportd.model.reason import Reason
from exportd.stores.gcs.identity import GcsIdentity

_TOKEN_LIKE = re.compile(r"[A-Za-z0-9_.+=~%-]{32,}")
_ADDRESS = re.compile(r"\bwith url: \S+|\bhttps?://\S+")
_OUTPUT = re.compile(r"(?<=non-zero return code )(\d+)\..*", re.DOTALL)
_LONGEST_MESSAGE = 300

_ADVICE = (
    "The pool, its provider and the source of the token have to fit each other, and the service account has to grant "
    "roles/iam.workloadIdentityUser to the pool's principal: docs/destinations.md says how."
)


def translate(error: Exception, identity: GcsIdentity, *, bucket: str) -> ExportdError:
    """The error to raise for ``error``, met while ``identity`` was proven, to write to ``bucket``."""
    said = redacted(_last_words(error))
    place = f"The bucket gs://{bucket}: Google gave no token to {identity}"
    if _is_passing(error):
        return TransientError(f"{place}: {said}.", reason=Reason.DESTINATION_UNAVAILABLE)
    return PermanentError(f"{place}: {said}. {_ADVICE}", reason=Reason.DESTINATION_REFUSED)


def redacted(text: str) -> str:
    """``text`` on one line, without addresses, outputs of programs and anything that looks like a token."""
    text = _OUTPUT.sub(r"\1", text)
    text = _TOKEN_LIKE.sub("…", _ADDRESS.sub("…", text))
    printable = " ".join("".join(each if each.isprintable() else " " for each in text).split()).rstrip(".")
    return printable if len(printable) <= _LONGEST_MESSAGE else f"{printable[:_LONGEST_MESSAGE]}…"


def _is_passing(error: Exception) -> bool:
    match error:
        case TransportError():
            return "CERTIFICATE_VERIFY_FAILED" not in str(error)
        case GoogleAuthError():
            return bool(error.retryable)
        case TimeoutError() | ConnectionError():
            return True
        case _:
            return False


def _last_words(error: Exception) -> str:
    match error:
        case TimeoutError():
            return str(error) or "there was no answer in time"
        case OSError(strerror=str(why), filename=where) if where is not None:
            return f"{where}: {why}"
        case KeyError():
            return f"{error} is missing"
        case _:
            return ": ".join(str(each) for each in error.args) or type(error).__name__
