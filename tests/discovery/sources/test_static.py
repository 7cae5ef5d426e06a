"""The static source: all at first, then the differences."""

from conformance import check_source

from discovery.model import Service
from discovery.sources.static import StaticSource
from discovery.update import Remove, Reset, Upsert
from discovery.watch import Watchable

A, B, C = Service("a"), Service("b"), Service("c")


async def test_it_conforms():
    services = Watchable((A, B))

    async def change():
        services.set((Service("b", namespace="x"), C))

    found = await check_source(StaticSource("files", "east", services), change=change)
    assert found == {"b": Service("b", namespace="x"), "c": C}


async def test_differences_follow_the_reset(autojump_clock):
    services = Watchable((A, B))
    async with StaticSource("files", "east", services).watch() as updates:
        assert await updates.receive() == Reset((A, B))
        services.set((A, C))
        assert [await updates.receive() for _ in range(2)] == [Remove("b"), Upsert(C)]


async def test_of_one_name_twice_the_last_counts():
    source = StaticSource("files", "east", Watchable((A, Service("a", namespace="x"))))
    async with source.watch() as updates:
        assert await updates.receive() == Reset((Service("a", namespace="x"),))
    assert repr(source) == "<StaticSource east/files services=2>"
