"""Each permission refused in turn gives exactly its finding, and nothing is left that can be removed."""

from collections.abc import AsyncGenerator

import anyio
import anyio.lowlevel
import pytest

from exportd.destinations.finding import CheckResult, CheckVerdict, PermissionState
from exportd.destinations.permission import Permission
from exportd.destinations.prober import Prober
from exportd.model.clock import SystemClock
from exportd.stores.layout import ObjectKey
from exportd.stores.retrying import RetryBudget
from exportd.stores.store import Store, StoreLimits
from tests.fixtures.store_doubles import Fault, FaultyStore, MemoryStore, Method, refused, unavailable

FOLDER = "m3/orgId=org-1/"
AT_ONCE = RetryBudget(timeout_s=1e-9, first_wait_s=1)
FOREVER = 1_000

PERMISSIONS: dict[Method, Permission] = {
    "put": Permission.WRITE,
    "start": Permission.UPLOAD,
    "piece": Permission.UPLOAD,
    "complete": Permission.UPLOAD,
    "abort": Permission.ABORT,
    "pieces": Permission.LOOK_AT_UPLOAD,
    "list_uploads": Permission.LIST_UPLOADS,
    "head": Permission.LOOK,
    "read": Permission.READ,
    "list": Permission.LIST,
    "delete": Permission.DELETE,
}


async def probed(store: Store, *, replaces: bool = True, retry: RetryBudget = AT_ONCE) -> CheckResult:
    return await Prober(store, FOLDER, clock=SystemClock(), replaces=replaces, retry=retry).probe()


async def uploads_in(store: Store) -> list[str]:
    return [list_upload.key async for list_upload in store.list_uploads("")]


async def test_a_good_store_has_everything_and_keeps_nothing(store: Store) -> None:
    result = await probed(store)
    assert {
        permission: finding
        for permission, finding in result.findings.items()
        if finding.state is not PermissionState.THERE
    } == {}
    assert set(Permission) - set(result.findings) <= {Permission.LIST_UPLOADS}
    assert (result.verdict, result.left_over) == (CheckVerdict.GOOD, ())
    assert result.bytes_per_s is not None
    assert result.bytes_per_s > 0
    assert [listed.key async for listed in store.list("")] == []
    assert await uploads_in(store) == []


@pytest.mark.parametrize("method", PERMISSIONS)
async def test_what_is_refused_is_found(method: Method) -> None:
    store = FaultyStore(MemoryStore(), [Fault(method, times=FOREVER, error=refused(f"no {method}."))])
    result = await probed(store)
    permission = PERMISSIONS[method]
    assert result.lacking == (permission,)
    assert result.findings[permission].sentence == f"no {method}."
    assert result.verdict is (CheckVerdict.LACKING if permission.is_required else CheckVerdict.GOOD)
    left = set(store.inner.objects) if isinstance(store.inner, MemoryStore) else set()
    if method == "delete":
        (key,) = left
        assert key.startswith(f"{FOLDER}_probe/")
        assert [key in left for left in result.left_over] == [True]
    elif method == "abort":
        assert not left
        assert all("unfinished upload" in left for left in result.left_over)
        assert len(result.left_over) == len(await uploads_in(store.inner)) > 0
    else:
        assert (left, result.left_over, await uploads_in(store.inner)) == (set(), (), [])


@pytest.mark.parametrize("method", PERMISSIONS)
async def test_what_is_refused_once_is_a_finding_and_leaves_nothing(method: Method) -> None:
    inner = MemoryStore()
    result = await probed(FaultyStore(inner, [Fault(method, error=refused())]))
    assert result.lacking == (PERMISSIONS[method],)
    assert (inner.objects, await uploads_in(inner), result.left_over) == ({}, [], ())


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("method", PERMISSIONS)
async def test_a_store_that_goes_away_is_out_of_reach_and_keeps_nothing(method: Method, after: bool) -> None:
    inner = MemoryStore()
    result = await probed(FaultyStore(inner, [Fault(method, error=unavailable(), after=after)]))
    assert result.verdict is CheckVerdict.OUT_OF_REACH
    assert result.findings[PERMISSIONS[method]].state is PermissionState.OUT_OF_REACH
    assert (inner.objects, await uploads_in(inner), result.left_over) == ({}, [], ())


async def test_a_moment_of_weakness_is_no_finding() -> None:
    faults = [Fault(method, error=unavailable()) for method in PERMISSIONS]
    quickly = RetryBudget(timeout_s=10, first_wait_s=0.001, max_wait_s=0.001, jitter_s=0.001)
    result = await probed(FaultyStore(MemoryStore(), faults), retry=quickly)
    assert (result.verdict, result.lacking) == (CheckVerdict.GOOD, ())


async def test_nothing_is_tried_at_a_store_that_refuses_everything() -> None:
    store = FaultyStore(
        MemoryStore(), [Fault(operation, times=FOREVER, error=refused()) for operation in ("put", "start")]
    )
    result = await probed(store)
    assert result.lacking == (Permission.WRITE, Permission.UPLOAD)
    others = [finding.state for permission, finding in result.findings.items() if not permission.is_required]
    assert set(others) == {PermissionState.NOT_TRIED}
    assert result.left_over == ()


async def test_where_nothing_can_be_replaced_without_deleting_the_probe_is_not_written_over() -> None:
    inner = MemoryStore(limits=StoreLimits(piece_bytes=100, pieces_in_order=True, lists_uploads=False))
    store = FaultyStore(inner, [Fault("delete", times=FOREVER, error=refused())])
    result = await probed(store, replaces=False)
    assert result.lacking == (Permission.DELETE,)
    assert Permission.LIST_UPLOADS not in result.findings
    assert store.count("complete") == 0
    assert list(inner.objects.values()) == [b"exportd was here\n"]


async def test_who_may_not_see_that_an_object_is_not_there_lacks_the_right_to_list() -> None:
    """As S3 and Google have it: 403 instead of 404 where listing is not granted, or only with a prefix."""
    result = await probed(FaultyStore(MemoryStore(), [Fault("head", call=2, error=refused())]))
    assert result.lacking == (Permission.LIST,)


@pytest.mark.parametrize("method", PERMISSIONS)
async def test_who_is_interrupted_leaves_nothing(method: Method) -> None:
    inner, never = MemoryStore(), anyio.Event()
    store = FaultyStore(inner, [Fault(method, hold=never)])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(probed, store)
        while not store.count(method):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert (inner.objects, await uploads_in(inner)) == ({}, [])


class _Forgetful(MemoryStore):
    """Shows other content than what was written, as a cache or a transforming proxy would."""

    async def read(self, key: ObjectKey) -> AsyncGenerator[bytes]:
        yield b"something else"


async def test_what_is_read_back_has_to_be_what_was_written() -> None:
    result = await probed(_Forgetful())
    assert result.lacking == (Permission.READ,)
    assert "what is read back is not what was written" in result.findings[Permission.READ].sentence
