"""Credentials that are replaced are used without a restart."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from exportd.model.errors import PermanentError
from exportd.stores.layout import ObjectKey
from tests.fixtures.stores import give_credentials, s3_store
from tests.fixtures.swift import SwiftServer

KEY = ObjectKey("orgId=org-1/file.csv.gz")


async def test_after_a_refusal_the_credentials_are_read_anew(
    swift: SwiftServer, swift_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outdated = replace(swift, secret_key="replaced-since")
    give_credentials(outdated, tmp_path, monkeypatch)
    store = s3_store(swift, swift_bucket)
    try:
        with pytest.raises(PermanentError, match="The credentials are wrong or not active: correct them"):
            await store.put(KEY, b"rows")
        give_credentials(swift, tmp_path, monkeypatch)
        await store.put(KEY, b"rows")
        assert (await store.head(KEY)) is not None
    finally:
        await store.aclose()


@pytest.mark.parametrize(
    "missing",
    [
        pytest.param(["AWS_SHARED_CREDENTIALS_FILE"], id="credentials"),
        pytest.param(["AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"], id="profile"),
    ],
)
async def test_credentials_that_were_missing_are_read_when_they_are_there(
    swift: SwiftServer, swift_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: list[str]
) -> None:
    give_credentials(swift, tmp_path, monkeypatch)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    files = [Path(os.environ[variable]) for variable in missing]
    for file in files:
        file.rename(file.with_suffix(".away"))
    store = s3_store(swift, swift_bucket)
    try:
        with pytest.raises(PermanentError, match="Give exportd's user credentials"):
            await store.put(KEY, b"rows")
        for file in files:
            file.with_suffix(".away").rename(file)
        await store.put(KEY, b"rows")
    finally:
        await store.aclose()
