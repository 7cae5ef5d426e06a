"""The shared store's protocol: what stands for it in tests keeps it."""

from __future__ import annotations

import pytest
from conformance_store import check_store
from memory_store import MemoryStore

from federation.store import StoreLost


async def test_the_store_in_memory_is_one():
    await check_store(MemoryStore())


async def test_it_can_be_lost_and_found():
    store = MemoryStore()
    assert await store.put_if("a", b"1", 0)
    store.lose()
    with pytest.raises(StoreLost):
        await store.get("a")
    store.find()
    assert (await store.get("a")).value == b"1"
