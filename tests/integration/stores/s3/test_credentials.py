"""Credentials that are replaced are used without a restart."""

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
