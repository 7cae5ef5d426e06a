"""Connections that are replaced: who is on which of them, and when they are closed."""

import httpx2
import pytest
import trio

from discovery.clients.connections import Connections


class Made:
    """Clients, in the order they were made."""

    def __init__(self):
        self.clients = []

    def __call__(self):
        self.clients.append(httpx2.AsyncClient(trust_env=False))
        return self.clients[-1]

    @property
    def closed(self):
        return [client.is_closed for client in self.clients]


async def test_one_serves_all_as_long_as_its_key_is_the_same():
    connections, made = Connections(), Made()
    async with connections.of("a", made) as one, connections.of("a", made) as two:
        assert one is two
        assert "requests=2" in repr(connections)
    async with connections.of("a", made) as three:
        assert three is one
    await connections.aclose()
    assert made.closed == [True]


async def test_what_is_under_way_ends_on_the_former_which_its_last_request_closes():
    connections, made = Connections(), Made()
    async with connections.of("a", made):
        async with connections.of("a", made), connections.of("b", made):
            pass
        assert made.closed == [False, False]
    assert made.closed == [True, False]
    await connections.aclose()
    assert made.closed == [True, True]


async def test_an_idle_one_is_closed_at_once_though_others_are_replaced_meanwhile():
    connections, made = Connections(), Made()

    async def use(key):
        async with connections.of(key, made) as client:
            assert not client.is_closed

    async with trio.open_nursery() as nursery:
        for key in "abcabc":
            nursery.start_soon(use, key)
    assert made.closed.count(False) == 1
    await connections.aclose()
    assert False not in made.closed


async def test_what_cannot_be_made_leaves_the_former():
    connections, made = Connections(), Made()

    def broken():
        raise ValueError("no certificate")

    async with connections.of("a", made) as first:
        pass
    with pytest.raises(ValueError, match="no certificate"):
        async with connections.of("b", broken):
            pass
    async with connections.of("a", made) as again:
        assert again is first
    await connections.aclose()
    async with connections.of("a", made) as anew:
        assert anew is not first
    await connections.aclose()


async def test_a_cancelled_request_leaves_nobody_counted():
    connections, made = Connections(), Made()
    with trio.move_on_after(0.01):
        async with connections.of("a", made):
            await trio.sleep_forever()
    assert "requests=0" in repr(connections)
    async with connections.of("b", made):
        assert made.closed == [True, False]
    await connections.aclose()


async def test_who_closes_them_under_a_request_is_told():
    connections, made = Connections(), Made()
    async with connections.of("a", made):
        with pytest.warns(ResourceWarning, match="1 requests are under way"):
            await connections.aclose()
    assert made.closed == [True]
