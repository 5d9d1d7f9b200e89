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
from exportd.model.errors import PermanentError
from exportd.model.reason import Reason

CONTENT = b"one file of a job"
JOB = {
    "id": "7",
    "parts": [{"file": "7_account.csv.gz", "sizeBytes": len(CONTENT), "sha256": sha256(CONTENT).hexdigest()}],
}
T = TypeVar("T")


class FakeClient:
    """A daemon that has one job; ``served`` is what it sends for its file."""

    def __init__(self, served: bytes) -> None:
        self.served = served

    def request(self, _method: str, path: str) -> Any:
        assert path == "/v1/jobs/7"
        return JOB

    def download(self, path: str) -> Iterator[bytes]:
        if path == "/v1/jobs/7/files/manifest.json":
            yield b"{}"
        else:
            assert path == "/v1/jobs/7/files/7_account.csv.gz"
            yield self.served[:5]
            yield self.served[5:]


class FakeAddress:
    """Where that daemon is."""

    def __init__(self, served: bytes) -> None:
        self._client = FakeClient(served)

    def ask_or_read(self, ask: Callable[[SocketClient], T], _read: Callable[[Path], Awaitable[T]]) -> T:
        return ask(cast("SocketClient", self._client))


def address(served: bytes) -> DaemonAddress:
    return cast("DaemonAddress", FakeAddress(served))


def test_files_come_with_their_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "new" / "folder"
    download_job("7", to, address(CONTENT), as_json=True)
    assert {path.name: path.read_bytes() for path in to.iterdir()} == {
        "7_account.csv.gz": CONTENT,
        "manifest.json": b"{}",
    }
    assert json.loads(capsys.readouterr().out) == {"directory": str(to), "files": 1, "sizeBytes": len(CONTENT)}


def test_a_file_that_is_not_what_the_job_wrote_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="its SHA-256 differs") as refused:
        download_job("7", tmp_path, address(CONTENT + b"!"))
    assert refused.value.reason is Reason.SPOOL_DAMAGED
    assert not (tmp_path / "manifest.json").exists(), "the manifest says that the rest is there"


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PermanentError, match=r"Copying to .*file failed"):
        download_job("7", tmp_path / "file", address(CONTENT))
