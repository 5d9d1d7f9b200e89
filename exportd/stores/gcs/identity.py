"""The identities with which exportd writes to Google, and the sources of their tokens. Pure.

Nothing here is a secret: tokens and keys are read where they are used, each time again.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from exportd.model.entity import OrganizationId
from exportd.model.errors import SettingsError
from exportd.settings.destination_schema import DestinationSettings, GcsDestination, GcsSettings, parse_pool

_PROVIDER_DIGEST_LENGTH = 20
_JWT = "urn:ietf:params:oauth:token-type:jwt"
_AWS_REQUEST = "urn:ietf:params:aws:token-type:aws4_request"
_AWS_METADATA = "http://169.254.169.254/latest"


@dataclass(frozen=True, slots=True)
class TokenFile:
    """The subject token is in a file that another program keeps up to date."""

    path: Path


@dataclass(frozen=True, slots=True)
class TokenUrl:
    """The subject token is the answer of an HTTP address."""

    url: str


@dataclass(frozen=True, slots=True)
class TokenCommand:
    """The subject token is printed by a program, as Google's executable credential source demands.

    ``timeout_s`` is how long it may take; Google allows 5 to 120.
    """

    command: str
    timeout_s: int = 15


@dataclass(frozen=True, slots=True)
class AwsRole:
    """The daemon's role on AWS, from the environment or the instance's metadata."""


SubjectTokenSource = TokenFile | TokenUrl | TokenCommand | AwsRole
"""The sources of the subject token, which Google exchanges for an access token."""


@dataclass(frozen=True, slots=True)
class WorkloadIdentity:
    """An identity in a customer's workload identity pool; acts as ``service_account`` if that is given (its e-mail).

    ``sts_url`` and ``credentials_url`` are Google's, but for tests.
    """

    project_number: str
    pool_id: str
    provider_id: str
    source: SubjectTokenSource
    service_account: str = ""
    sts_url: str = "https://sts.googleapis.com/v1/token"
    credentials_url: str = "https://iamcredentials.googleapis.com"

    @property
    def pool(self) -> str:
        """The pool's resource name."""
        number, pool = quote(self.project_number, safe=""), quote(self.pool_id, safe="")
        return f"projects/{number}/locations/global/workloadIdentityPools/{pool}"

    @property
    def audience(self) -> str:
        """The audience of the exchange: the provider's resource name."""
        return f"//iam.googleapis.com/{self.pool}/providers/{quote(self.provider_id, safe='')}"

    @property
    def member(self) -> str:
        """The member to whom a role is granted: the service account, or every principal of the pool."""
        if self.service_account:
            return f"serviceAccount:{self.service_account}"
        return f"principalSet://iam.googleapis.com/{self.pool}/*"

    def __str__(self) -> str:
        return f"the provider {self.provider_id} of the workload identity pool {self.pool}"

    def credential_configuration(self) -> dict[str, Any]:
        """The identity as the JSON that Google's tools write."""
        configuration = {
            "type": "external_account",
            "audience": self.audience,
            "subject_token_type": _AWS_REQUEST if isinstance(self.source, AwsRole) else _JWT,
            "token_url": self.sts_url,
            "credential_source": _credential_source(self.source),
        }
        if self.service_account:
            account = quote(self.service_account, safe="@")
            configuration["service_account_impersonation_url"] = (
                f"{self.credentials_url}/v1/projects/-/serviceAccounts/{account}:generateAccessToken"
            )
        return configuration


@dataclass(frozen=True, slots=True)
class CredentialsFile:
    """A key of a service account, or a credential configuration of workload identity federation, in a file."""

    path: Path

    @property
    def member(self) -> str:
        """The member to whom a role is granted. It stands in the file, which is not read for this."""
        return "serviceAccount:EMAIL"

    def __str__(self) -> str:
        return f"the credentials file {self.path}"


@dataclass(frozen=True, slots=True)
class Anonymous:
    """No identity: what an emulator expects."""

    @property
    def member(self) -> str:
        return "allUsers"

    def __str__(self) -> str:
        return "an anonymous caller"


GcsIdentity = WorkloadIdentity | CredentialsFile | Anonymous


def identity_of(declared: GcsDestination, shared: GcsSettings) -> GcsIdentity:
    """The identity that writes to a destination. Raises SettingsError when its settings and ``[gcs]`` do not name
    one.
    """
    if shared.endpoint:
        return Anonymous()
    if declared.credentials_file is not None:
        return CredentialsFile(declared.credentials_file)
    if not declared.pool_id:
        raise SettingsError.of(
            f"The destination {declared.code} does not say who writes there: give project_number, pool_id and "
            "provider_id, or a credentials_file."
        )
    source = _token_source(shared)
    if source is None:
        raise SettingsError.of(
            f"The destination {declared.code} has a workload identity pool, but [gcs] does not say where exportd's own "
            "token comes from: give token_file, token_url, token_command or aws."
        )
    return WorkloadIdentity(
        declared.project_number, declared.pool_id, declared.provider_id, source, declared.service_account
    )


def provider_id_of(organization: OrganizationId) -> str:
    """The id of the provider that an organization may use in any pool."""
    digest = hashlib.sha256(organization.encode()).hexdigest()[:_PROVIDER_DIGEST_LENGTH]
    return f"exportd-{digest}"


def require_own_pool(declared: DestinationSettings, gcs: GcsSettings) -> None:
    """Refuse the pool of another organization, for a destination that was made through the API.

    The daemon's token proves its own identity, not the organization for which it works, and is accepted by every pool
    that trusts it. For a role of AWS, ``sts:ExternalId`` protects against this. Here a line of the configuration
    (``gcs.pools``) does, or else the provider's id, which is made from the organization: only the owner of a pool can
    make a provider with that id in it.

    Raises SettingsError when it names a pool that is not its organization's.
    """
    if not isinstance(declared, GcsDestination) or gcs.endpoint:
        return  # an emulator gets no token
    organization = OrganizationId(declared.organization)
    if declared.provider_id == provider_id_of(organization):
        return
    named = (declared.project_number, declared.pool_id, declared.provider_id)
    for owner, pool in map(parse_pool, gcs.pools):
        if owner == organization and named[: len(pool)] == pool:
            return
    raise SettingsError.of(
        f"The provider {'/'.join(named)} is not known to be that of the organization {organization}. Call the provider "
        f"{provider_id_of(organization)!r} in your pool, or ask the operator to add "
        f'"{organization} {"/".join(named)}" to pools in the table [gcs].',
        where="providerId",
    )


def _token_source(shared: GcsSettings) -> SubjectTokenSource | None:
    if shared.token_file is not None:
        return TokenFile(shared.token_file)
    if shared.token_url:
        return TokenUrl(shared.token_url)
    if shared.token_command:
        return TokenCommand(shared.token_command)
    return AwsRole() if shared.aws else None


def _credential_source(source: SubjectTokenSource) -> dict[str, Any]:
    match source:
        case TokenFile(path):
            return {"file": str(path)}
        case TokenUrl(url):
            return {"url": url}
        case TokenCommand(command, timeout_s):
            return {"executable": {"command": command, "timeout_millis": timeout_s * 1000}}
        case AwsRole():
            return {
                "environment_id": "aws1",
                "region_url": f"{_AWS_METADATA}/meta-data/placement/availability-zone",
                "url": f"{_AWS_METADATA}/meta-data/iam/security-credentials",
                "imdsv2_session_token_url": f"{_AWS_METADATA}/api/token",
                "regional_cred_verification_url": (
                    "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15"
                ),
            }
