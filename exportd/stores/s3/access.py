"""How a bucket of S3 is reached and as whom. Pure."""

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class S3Access:
    """Where the store is and whose rights are used there; holds no secret.

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
        """What the owner of the role reads in the trail of his account."""
        return f"exportd-{re.sub(r'[^A-Za-z0-9+=,.@-]', '-', self.external_id)}"[:64]
