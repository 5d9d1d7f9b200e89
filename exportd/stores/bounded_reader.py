"""Reads objects that others may have put there: never more of one than it may have."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from exportd.stores.layout import ObjectKey
from exportd.stores.store import Store


async def chunks_within(store: Store, key: ObjectKey, max_bytes: int) -> AsyncGenerator[bytes]:
    """The content of an object, in chunks, and no chunk after the first that goes beyond ``max_bytes``.

    So the caller sees that an object is too long, whatever its length. Raises as ``Store.read``.
    """
    read_bytes = 0
    async with aclosing(store.read(key)) as chunks:
        async for chunk in chunks:
            read_bytes += len(chunk)
            yield chunk
            if read_bytes > max_bytes:
                return


async def read_within(store: Store, key: ObjectKey, max_bytes: int) -> bytes:
    """The content of an object; of a longer one its beginning, which has ``max_bytes`` + 1 bytes."""
    content = bytearray()
    async with aclosing(chunks_within(store, key, max_bytes)) as chunks:
        async for chunk in chunks:
            content += chunk
    return bytes(content[: max_bytes + 1])
