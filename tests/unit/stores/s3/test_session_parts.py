"""The components of the S3 library's sessions that roles and shared descriptions rest on: named, not public.

A version that calls one otherwise fails here, with a name, before every role is refused.
"""

import pytest
from aiobotocore.credentials import AioDeferredRefreshableCredentials
from aiobotocore.session import AioSession


async def _renewed() -> dict[str, str]:
    return {"access_key": "a", "secret_key": "s", "token": "t", "expiry_time": "2099-01-01T00:00:00+00:00"}


class _Provider:
    async def load_credentials(self) -> AioDeferredRefreshableCredentials:
        return AioDeferredRefreshableCredentials(refresh_using=_renewed, method="sts-assume-role")


async def test_a_session_takes_its_credentials_from_the_component_that_we_register() -> None:
    session = AioSession()
    session.register_component("credential_provider", _Provider())
    credentials = await session.get_credentials()
    assert credentials is not None
    frozen = await credentials.get_frozen_credentials()
    assert (frozen.access_key, frozen.secret_key, frozen.token) == ("a", "s", "t")


async def test_a_client_reads_its_description_from_the_component_that_we_register(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    descriptions = AioSession().get_component("data_loader")
    read: list[str] = []
    load = descriptions.load_service_model

    def counted(service: str, *arguments: object, **options: object) -> object:
        read.append(service)
        return load(service, *arguments, **options)

    monkeypatch.setattr(descriptions, "load_service_model", counted)
    session = AioSession()
    session.register_component("data_loader", descriptions)
    async with session.create_client("s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="s"):
        assert "s3" in read
