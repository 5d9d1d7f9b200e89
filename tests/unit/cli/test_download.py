"""What a daemon hands out is written whole, and compared."""

import json
from collections.abc import Awaitable, Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest

from exportd.cli.daemon_client import DaemonAddress
from exportd.cli.download import download_job
from exportd.cli.socket_client import SocketClient
from exportd.manifest.document import render
from exportd.model.errors import PermanentError, Reason
from exportd.stores.layout import file_name
from tests.unit.manifest.manifest_examples import entity_of, manifest_of

CONTENT = b"one file of a job"
MANIFEST = manifest_of(7, entity_of(7, None))
NAME = file_name(MANIFEST.job_id, "account", 1, MANIFEST.format)
JOB = {
    "id": "7",
    "parts": [{"file": NAME, "sizeBytes": len(CONTENT), "sha256": sha256(CONTENT).hexdigest()}],
}
T = TypeVar("T")


class FakeClient:
    """A daemon that has one job; ``served`` is what it sends for its file."""

    def __init__(self, served: bytes, job: Any) -> None:
        self.served = served
        self._job = job

    def request(self, _method: str, path: str) -> Any:
        assert path == "/v1/jobs/7"
        return self._job

    def download(self, path: str) -> Iterator[bytes]:
        if path == "/v1/jobs/7/files/manifest.json":
            yield render(MANIFEST)
        else:
            assert path == f"/v1/jobs/7/files/{NAME}"
            yield self.served[:5]
            yield self.served[5:]


class FakeAddress:
    """Where that daemon is."""

    def __init__(self, served: bytes, job: Any) -> None:
        self._client = FakeClient(served, job)

    def ask_or_read(self, ask: Callable[[SocketClient], T], _read: Callable[[Path], Awaitable[T]]) -> T:
        return ask(cast("SocketClient", self._client))


def address(served: bytes, job: Any = JOB) -> DaemonAddress:
    return cast("DaemonAddress", FakeAddress(served, job))


def test_files_come_with_their_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "new" / "folder"
    download_job("7", to, address(CONTENT), as_json=True)
    folder = to / "orgId=org-1"
    assert {str(path.relative_to(folder)): path.read_bytes() for path in to.rglob("*") if path.is_file()} == {
        f"date=2026-03-09/hour=11/type=account/{NAME}": CONTENT,
        f"_manifests/{MANIFEST.job_id}.json": render(MANIFEST),
    }
    assert json.loads(capsys.readouterr().out) == {"directory": str(to), "files": 1, "sizeBytes": len(CONTENT)}


def test_a_file_that_is_not_what_the_job_wrote_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="its SHA-256 differs") as refused:
        download_job("7", tmp_path, address(CONTENT + b"!"))
    assert refused.value.reason is Reason.SPOOL_DAMAGED
    assert not list(tmp_path.rglob("*.json")), "the manifest says that the rest is there"


def test_a_file_that_no_job_writes_is_refused(tmp_path: Path) -> None:
    job = {**JOB, "parts": [{"file": "../7_account.csv.gz", "sizeBytes": 1, "sha256": "0"}]}
    with pytest.raises(PermanentError, match="which is none that exportd writes"):
        download_job("7", tmp_path, address(CONTENT, job))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PermanentError, match=r"Copying to .*file failed"):
        download_job("7", tmp_path / "file", address(CONTENT))
