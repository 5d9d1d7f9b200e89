"""Tries everything that exportd may need to do at a store, with small objects, and removes them again."""

import hashlib
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from uuid import uuid4

import anyio
import anyio.to_thread

from exportd.destinations.finding import NOT_TRIED, CheckResult, PermissionFinding, PermissionState
from exportd.destinations.permission import Permission
from exportd.model.clock import Clock
from exportd.model.errors import ExportdError, PermanentError, Reason, TransientError
from exportd.stores.layout import ObjectKey
from exportd.stores.retrying import RetryBudget
from exportd.stores.store import Piece, Store, Upload

_CONTENT = b"exportd was here\n"
_MAX_PIECES = 4
_MAX_MEASUREMENT_S = 5.0
_TIDYING_S = 60.0
_RETRY = RetryBudget(timeout_s=5.0)


class _OutOfReachError(Exception):
    """The store does not answer, so the probing ends. The finding has been recorded."""


class Prober:
    """Probes ``store`` once, below ``folder`` (empty, or with a slash at its end).

    ``replaces``: whether the right to write includes the right to overwrite. ``measures``: whether to send more pieces
    than necessary, for the rate.
    """

    def __init__(
        self,
        store: Store,
        folder: str,
        *,
        clock: Clock,
        replaces: bool = True,
        measures: bool = True,
        retry: RetryBudget = _RETRY,
    ) -> None:
        self._store = store
        self._clock = clock
        self._replaces = replaces
        self._max_pieces = _MAX_PIECES if measures else 1
        self._retry = retry
        self._folder = f"{folder}_probe/"
        self._key = ObjectKey(f"{self._folder}{uuid4()}")
        self._findings: dict[Permission, PermissionFinding] = {}
        self._bytes_per_s: float | None = None
        self._visible: bytes | None = None
        self._may_be_visible = False
        self._uploads: dict[str, Upload] = {}

    async def probe(self) -> CheckResult:
        """Try everything. An error of the store is a finding, and is not raised."""
        left_over: tuple[str, ...] = ()
        try:
            await self._probe()
        except _OutOfReachError:
            pass
        finally:
            with anyio.move_on_after(_TIDYING_S, shield=True):
                left_over = await self._tidy_up()
        findings = {
            permission: self._findings.get(permission, NOT_TRIED)
            for permission in Permission
            if permission is not Permission.LIST_UPLOADS or self._store.limits.lists_uploads
        }
        return CheckResult(findings, bytes_per_s=self._bytes_per_s, left_over=left_over)

    async def _probe(self) -> None:
        await self._write()
        piece = await anyio.to_thread.run_sync(secrets.token_bytes, self._store.limits.piece_bytes)
        await self._upload_and_give_up(piece)
        if self._replaces or self._visible is None or await self._delete():
            await self._upload(piece)
        if self._visible is not None:
            await self._may(Permission.LOOK, self._look)
            await self._may(Permission.READ, self._read_back)
            await self._may(Permission.LIST, self._find)
            await self._delete()

    async def _write(self) -> None:
        async def put() -> None:
            self._may_be_visible = True
            await self._store.put(self._key, _CONTENT)

        if await self._may(Permission.WRITE, put):
            self._visible = _CONTENT
        else:
            self._may_be_visible = False

    async def _upload_and_give_up(self, piece: bytes) -> None:
        upload = await self._start()
        if upload is None:
            return
        begun_at, number = self._clock.monotonic(), 0
        while number < self._max_pieces and self._clock.monotonic() - begun_at < _MAX_MEASUREMENT_S:
            number += 1
            if not await self._may(Permission.UPLOAD, partial(self._store.piece, upload, number, piece)):
                break
        else:
            self._bytes_per_s = number * len(piece) / max(self._clock.monotonic() - begun_at, 1e-6)
        await self._may(Permission.LOOK_AT_UPLOAD, lambda: self._store.pieces(upload))
        if self._store.limits.lists_uploads:
            await self._may(Permission.LIST_UPLOADS, lambda: self._find_upload(upload))
        if await self._may(Permission.ABORT, lambda: self._store.abort(upload)):
            del self._uploads[upload.id]

    async def _upload(self, piece: bytes) -> None:
        """Upload an object of two pieces, so that the store has to combine the checksums of the pieces."""
        if self._is_refused(Permission.UPLOAD):
            return
        upload = await self._start()
        if upload is None:
            return

        pieces: list[Piece] = []

        async def send() -> None:
            pieces.append(await self._store.piece(upload, 1, piece))

        async def complete() -> None:
            self._may_be_visible = True
            await self._store.complete(upload, pieces[:1], _CONTENT)

        if not await self._may(Permission.UPLOAD, send):
            return
        if await self._may(Permission.UPLOAD, complete):
            self._visible = piece + _CONTENT
            del self._uploads[upload.id]
        else:
            self._may_be_visible = self._visible is not None

    async def _start(self) -> Upload | None:
        async def start() -> None:
            upload = await self._store.start(self._key)
            self._uploads[upload.id] = upload

        before = set(self._uploads)
        await self._may(Permission.UPLOAD, start)
        return next((upload for name, upload in self._uploads.items() if name not in before), None)

    async def _look(self) -> None:
        if await self._store.head(self._key) is None:
            raise self._strange("it says that the object written just now is not there")

    async def _read_back(self) -> None:
        digest = hashlib.sha256()
        async for chunk in self._store.read(self._key):
            digest.update(chunk)
        if self._visible is None or digest.digest() != hashlib.sha256(self._visible).digest():
            raise self._strange("what is read back is not what was written")

    async def _find(self) -> None:
        if self._key not in [listed.key async for listed in self._store.list(self._folder)]:
            raise self._strange("it does not list the object written just now")
        if self._is_refused(Permission.LOOK):
            return
        # Clouds say that an object does not exist only to clients that may list; to others they answer that it is
        # forbidden.
        if await self._store.head(ObjectKey(f"{self._key}-never-written")) is not None:
            raise self._strange("it says that an object is there that was never written")

    async def _find_upload(self, upload: Upload) -> None:
        if upload.id not in [list_upload.id async for list_upload in self._store.list_uploads(self._folder)]:
            raise self._strange("it does not list an upload in progress")

    async def _delete(self) -> bool:
        if not await self._may(Permission.DELETE, lambda: self._store.delete(self._key)):
            return False
        self._visible, self._may_be_visible = None, False
        return True

    async def _may(self, permission: Permission, work: Callable[[], Awaitable[object]]) -> bool:
        """Whether the permission works. One that was refused is not tried again."""
        if self._is_refused(permission):
            return False
        try:
            await self._retry.call(work)
        except PermanentError as error:
            self._findings[permission] = PermissionFinding(PermissionState.MISSING, error.sentence)
            return False
        except TransientError as error:
            self._findings[permission] = PermissionFinding(PermissionState.OUT_OF_REACH, error.sentence)
            raise _OutOfReachError from error
        self._findings[permission] = PermissionFinding(PermissionState.THERE)
        return True

    def _is_refused(self, permission: Permission) -> bool:
        return self._findings.get(permission, NOT_TRIED).state is PermissionState.MISSING

    def _strange(self, what: str) -> PermanentError:
        return PermanentError(f"{self._store.name}: {what}.", reason=Reason.DESTINATION_REFUSED)

    async def _tidy_up(self) -> tuple[str, ...]:
        """Remove the objects. Returns the names of those that could not be removed."""
        left = [
            f"an unfinished upload of {open_upload.key} in {self._store.name}"
            for open_upload in await self._open_uploads()
            if not await self._is_done(partial(self._store.abort, open_upload))
        ]
        if self._may_be_visible and not await self._is_done(partial(self._store.delete, self._key)):
            perhaps = "" if self._visible is not None else "perhaps "
            left.append(f"{perhaps}the object {self._key} in {self._store.name}")
        return tuple(left)

    async def _open_uploads(self) -> list[Upload]:
        """The open uploads, including those whose answer was lost."""
        found = dict(self._uploads)
        with suppress(ExportdError):
            found |= {list_upload.id: list_upload async for list_upload in self._store.list_uploads(self._key)}
        return list(found.values())

    async def _is_done(self, work: Callable[[], Awaitable[object]]) -> bool:
        is_away = any(finding.state is PermissionState.OUT_OF_REACH for finding in self._findings.values())
        try:
            # After a whole retry budget without an answer, the store is asked only once more.
            await (work() if is_away else self._retry.call(work))
        except ExportdError:
            return False
        return True
