"""Options for a bucket of S3: how to connect to it and with which rights, and how objects are written (pieces,
checksums, encryption). Pure.

AWS requires that an upload is created with the checksum algorithm of its parts, and that their checksums are repeated
when it is completed.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from exportd.settings.destination_schema import S3Destination, S3Settings
from exportd.stores.crc_combination import Polynomial, combine
from exportd.stores.store import Piece

if TYPE_CHECKING:
    from types_aiobotocore_s3.type_defs import CompletedPartTypeDef


MIN_PIECE_BYTES = 5 << 20
"""S3 accepts no smaller pieces, except the last."""
MAX_PIECES = 10_000
MAX_KEY_BYTES = 1024
USUAL_PIECE_BYTES = 8 << 20
"""Several pieces of a file are sent at the same time. Twice the size would not be faster, and would take twice the
memory.
"""
_MIB = 1 << 20
_CRC32_BYTES = 4


@dataclass(frozen=True, slots=True)
class S3Access:
    """The address of a store and the rights that are used there. It holds no secret.

    ``endpoint`` is empty for AWS; ``region`` empty for what the environment says. With ``role_arn`` the credentials of
    ``profile`` (empty: the standard chain) assume that role, and tell its trust policy ``external_id``.
    """

    region: str = ""
    endpoint: str = ""
    sts_endpoint: str = ""
    profile: str = ""
    role_arn: str = ""
    external_id: str = ""
    ca_file: Path | None = None

    @property
    def is_encrypted(self) -> bool:
        """Whether requests go over TLS."""
        return not self.endpoint.startswith("http://")

    @property
    def role_session_name(self) -> str:
        """The name that the owner of the role sees in the account's audit trail."""
        return f"exportd-{re.sub(r'[^A-Za-z0-9+=,.@-]', '-', self.external_id)}"[:64]


def access_of(declared: S3Destination, shared: S3Settings) -> S3Access:
    """The access to a destination's bucket."""
    return S3Access(
        region=declared.region or shared.region,
        endpoint=declared.endpoint or shared.endpoint,
        sts_endpoint=shared.sts_endpoint,
        profile=declared.profile or shared.profile,
        role_arn=declared.role_arn,
        external_id=declared.external_id or declared.organization,
        ca_file=shared.ca_file,
    )


def piece_bytes_for(largest_file_bytes: int) -> int:
    """The size of pieces with which 10,000 pieces hold a file of this size: 8 MiB, or as many MiB as it takes."""
    needed = -(-largest_file_bytes // MAX_PIECES)
    return max(USUAL_PIECE_BYTES, -(-needed // _MIB) * _MIB)


@dataclass(frozen=True, slots=True)
class S3Options:
    """The options that differ between stores: ``checksum`` and ``encryption`` as in the configuration.

    The methods return arguments of requests.
    """

    checksum: Literal["FULL_OBJECT", "PIECES", "NONE"] = "FULL_OBJECT"
    encryption: Literal["BUCKET", "AES256", "KMS"] = "BUCKET"
    kms_key: str = ""

    def of_encryption(self) -> dict[str, Any]:
        match self.encryption:
            case "BUCKET":
                return {}
            case "AES256":
                return {"ServerSideEncryption": "AES256"}
            case "KMS":
                key = {"SSEKMSKeyId": self.kms_key} if self.kms_key else {}
                return {"ServerSideEncryption": "aws:kms", **key}

    def of_start(self) -> dict[str, Any]:
        match self.checksum:
            case "FULL_OBJECT":
                return {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"}
            case "PIECES":
                return {"ChecksumAlgorithm": "CRC32"}
            case "NONE":
                return {}

    def of_body(self, checksum: int) -> dict[str, Any]:
        """The arguments for a body with this CRC-32."""
        if self.checksum == "NONE":
            return {}
        # A bucket with object lock demands the algorithm's name too.
        return {"ChecksumAlgorithm": "CRC32", "ChecksumCRC32": encoded(checksum)}

    def of_completion(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        arguments: dict[str, Any] = {"MultipartUpload": {"Parts": [self._part(piece) for piece in pieces]}}
        if self.checksum == "FULL_OBJECT":
            checksums = [(piece.checksum, piece.size_bytes) for piece in pieces if piece.checksum is not None]
            arguments["ChecksumCRC32"] = encoded(combine(checksums, Polynomial.CRC32))
            arguments["ChecksumType"] = "FULL_OBJECT"
            arguments["MpuObjectSize"] = sum(piece.size_bytes for piece in pieces)
        return arguments

    def _part(self, piece: Piece) -> "CompletedPartTypeDef":
        part: CompletedPartTypeDef = {"PartNumber": piece.number, "ETag": piece.tag}
        if self.checksum != "NONE" and piece.checksum is not None:
            part["ChecksumCRC32"] = encoded(piece.checksum)
        return part


def encoded(checksum: int) -> str:
    """A CRC-32 as S3 writes it."""
    return base64.b64encode(checksum.to_bytes(_CRC32_BYTES, "big")).decode("ascii")


def decoded(checksum: str | None) -> int | None:
    """The CRC-32 that ``encoded`` wrote; None for anything else, such as what a store lists that has no checksums."""
    try:
        digest = base64.b64decode(checksum or "", validate=True)
    except ValueError:
        return None
    return int.from_bytes(digest, "big") if len(digest) == _CRC32_BYTES else None
