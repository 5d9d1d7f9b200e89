"""An organization's own destinations in Google Cloud Storage reach its own pools only."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from exportd.destinations.opener import DestinationOpener, settings_of
from exportd.destinations.record import DestinationDeclaration
from exportd.model.entity import OrganizationId
from exportd.model.errors import SettingsError
from exportd.model.schedule import DestinationCode
from exportd.settings.destination_schema import GcsDestination
from exportd.settings.schema import Settings
from exportd.stores.gcs.identity import TokenFile, WorkloadIdentity, provider_id_of

POOL = {"type": "GCS", "bucket": "their-bucket", "project_number": "123", "pool_id": "pool-a", "provider_id": "prov-a"}


async def opens(organization: str, *, pools: tuple[str, ...] = (), declared: bool = False, **others: Any) -> None:
    settings = Settings.model_validate(
        {"database": {"dsn": "postgresql://db/product"}, "gcs": {"token_url": "http://tokens.test/", "pools": pools}}
    )
    declaration = DestinationDeclaration(
        OrganizationId(organization), DestinationCode("sea"), "The sea", {**POOL, **others}
    )
    opener = DestinationOpener(settings)
    opened = opener.open(settings_of(declaration)) if declared else opener.open_made(declaration)
    await opened.store.aclose()


@pytest.mark.parametrize(
    "pools", [("acme 123/pool-a/prov-a",), ("acme 123/pool-a",), ("b 1/x-pool", "acme 123/pool-a")]
)
async def test_a_pool_is_its_organizations_alone(pools: tuple[str, ...]) -> None:
    await opens("acme", pools=pools)
    for other in ("other", "acme2", "ACME", "acme 123"):
        with pytest.raises(SettingsError, match=rf"not known to be that of the organization {other}\."):
            await opens(other, pools=pools)


@pytest.mark.parametrize("changed", [{"project_number": "1234"}, {"pool_id": "pool-b"}, {"provider_id": "prov-b"}])
async def test_each_part_of_a_pool_counts(changed: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="not known"):
        await opens("acme", pools=("acme 123/pool-a/prov-a",), **changed)


async def test_without_a_line_the_provider_is_named_after_the_organization() -> None:
    """As an external id: the owner of a pool makes it, so that another organization's is not in it."""
    own = provider_id_of(OrganizationId("acme"))
    await opens("acme", provider_id=own)
    with pytest.raises(SettingsError, match=f"Call the provider '{own}' in your pool, or ask the operator"):
        await opens("acme")
    with pytest.raises(SettingsError, match="not known"):
        await opens("other", provider_id=own)


async def test_a_declared_destination_names_any_pool() -> None:
    await opens("other", pools=("acme 123/pool-a",), declared=True)


@pytest.mark.parametrize(
    "changed",
    [
        {"project_number": "12/../3"},
        {"project_number": "١٢٣"},
        {"pool_id": "pool/../../other"},
        {"pool_id": "POOL"},
        {"provider_id": "a?b=c"},
        {"service_account": "a@b/../c:signBlob?"},
        {"service_account": "nothing"},
    ],
)
def test_what_becomes_part_of_an_address_has_a_pattern(changed: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"should (be|have)"):
        GcsDestination.model_validate({"code": "sea", "organization": "acme", **POOL, **changed})


@pytest.mark.parametrize(
    "line", ["", "acme", "acme 123", "acme x/pool-a", "acme 123/p", "a/b 123/pool-a", "acme 123/pool-a/p/q"]
)
def test_a_line_that_names_no_pool_is_refused(line: str) -> None:
    with pytest.raises(ValidationError, match="an organization and its pool"):
        Settings.model_validate({"database": {"dsn": "postgresql://db/product"}, "gcs": {"pools": [line]}})


def test_an_identity_is_quoted_in_addresses() -> None:
    hostile = WorkloadIdentity("1/2", "p?q", "x#y", TokenFile(Path("/token")), "a@b/c?d")
    configuration: dict[str, Any] = hostile.credential_configuration()
    assert hostile.audience.endswith("projects/1%2F2/locations/global/workloadIdentityPools/p%3Fq/providers/x%23y")
    assert configuration["service_account_impersonation_url"].endswith("/a@b%2Fc%3Fd:generateAccessToken")
